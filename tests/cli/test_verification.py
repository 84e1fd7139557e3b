"""`dcpipe status --verify` and `dcpipe inspect`: damage is named, and what nothing vouches for is said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import releases

from dcpipe import store
from dcpipe.cli import commands as cli


def flip(path: Path) -> None:
    data = path.read_bytes()
    middle = len(data) // 2
    path.write_bytes(data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :])


def some_artifacts(workspace: Path) -> None:
    for place in ("teacher/a", "teacher/b", "study/selection"):
        scratch = workspace / "scratch-of" / place
        scratch.mkdir(parents=True)
        store.publish(
            scratch, workspace / "data" / place, "scores", store.save_scores(scratch, releases.parts().scores), {}
        )
    releases.build(workspace / "data/release", releases.parts())


def test_status_verify_names_every_damaged_artifact(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["status", "--verify"]) == 0
    assert capsys.readouterr().out == "There is no artifact below data/ yet.\n"
    some_artifacts(workspace)
    assert cli.main(["status", "--verify"]) == 0
    lines = capsys.readouterr().out.splitlines()
    digest = store.open_artifact(workspace / "data/teacher/a", "scores").digest[:12]
    assert lines[2] == f"data/teacher/a: verified, 1 file, digest {digest}" and lines[-1] == "4 artifacts are whole."
    flip(workspace / "data/teacher/b/scores.json")
    flip(workspace / "data/study/selection/artifact.json")
    (workspace / "data/release/images.parquet").unlink()
    assert cli.main(["status", "--verify"]) == 2
    captured = capsys.readouterr()
    assert captured.out == f"data/teacher/a: verified, 1 file, digest {digest}\n"
    told = captured.err.splitlines()
    assert len(told) == 3 and all(line.startswith(f"dcpipe: {workspace}/data/") for line in told)
    assert "data/release/images.parquet is missing; " in told[0]
    assert "data/study/selection/artifact.json is damaged" in told[1]
    assert "data/teacher/b/scores.json is corrupt: SHA-256 " in told[2]


def test_inspect_names_the_damaged_file_and_shows_nothing(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    some_artifacts(workspace)
    for what in ("data/release", "data/release/labels.safetensors", "data", "."):
        assert cli.main(["inspect", what]) == 0
        assert "verified, " in capsys.readouterr().out
    flip(workspace / "data/release/images.parquet")
    for what in ("data/release", "data/release/labels.safetensors", "data", "."):
        assert cli.main(["inspect", what]) == 2
        captured = capsys.readouterr()
        assert captured.out == "" and "data/release/images.parquet is corrupt: SHA-256 " in captured.err
        assert captured.err.count("\n") == 1


def test_what_belongs_to_no_artifact_is_not_verified(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store.save_scores(workspace, releases.parts().scores)
    assert cli.main(["inspect", "scores.json"]) == 0
    assert "not verified: there is no artifact.json that vouches for it" in capsys.readouterr().out
    for name in ("x.parquet", "x.safetensors"):
        (workspace / name).write_bytes(b"garbage")
        assert cli.main(["inspect", name]) == 2
        assert capsys.readouterr().err.startswith(f"dcpipe: {name} cannot be read as ")
    (workspace / "x.zarr").mkdir()
    (workspace / "x.zarr/zarr.json").write_text("[" * 100_000)
    assert cli.main(["inspect", "x.zarr"]) == 2
    assert capsys.readouterr().err.startswith("dcpipe: x.zarr cannot be read as a Zarr array (")


def test_a_history_that_no_digest_covers_is_said(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    releases.build(workspace / "data/release", releases.parts())
    path = workspace / "data/release/artifact.json"
    content = json.loads(path.read_bytes())
    del content["provenance"]
    path.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    for words in (["inspect", "data/release"], ["status", "--verify"]):
        assert cli.main(words) == 0
        assert "provenance not covered by a digest (made by an older version)" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["[]", "3", "null", '{"digest": []}', "[" * 100_000, "\xff", '{"schema": 1}'])
def test_status_of_a_manifest_that_is_none(text: str, workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (workspace / "data/images").mkdir(parents=True)
    (workspace / "data/images/artifact.json").write_text(text, encoding="latin-1")
    for words in (["status"], ["status", "--verify"], ["inspect", "data/images"]):
        assert cli.main(words) == 2
        told = capsys.readouterr().err
        assert "data/images/artifact.json is damaged (" in told and told.count("\n") == 1
