"""The commands: what they print, what they leave on disk, and that a mistake is one line and exit code 2."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
import releases

from dcpipe import store
from dcpipe.cli import commands as cli
from dcpipe.config import presets
from dcpipe.reports import columns, tables
from dcpipe.store.tensors import read_header
from dcpipe.studies import STUDIES
from dcpipe.types import Score

COMMANDS = ("init", "status", "inspect", "evaluate", "study", "publish", "pull", "export", "clean")


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DCPIPE_SCRATCH", raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path


def test_help_shows_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--help"], *([command, "--help"] for command in COMMANDS)):
        with pytest.raises(SystemExit) as caught:
            cli.main(arguments)
        assert caught.value.code == 0
    told = capsys.readouterr().out
    assert all(f"\n    {command} " in told for command in COMMANDS)
    assert "dvc repro                 run the stages that are stale" in told  # line breaks are kept


def test_a_mistake_is_one_line(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["init", "digit"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("dcpipe: unknown preset 'digit'; did you mean digits, digits-edc or digits-mdc? ")
    assert captured.err.count("\n") == 1


def test_init(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["init", "imagenette-ipc10"]) == 0
    assert (workspace / "params.yaml").read_text(encoding="utf-8") == presets.text("imagenette-ipc10")
    assert capsys.readouterr().out == "Wrote params.yaml from preset imagenette-ipc10. Next: dvc repro\n"
    assert cli.main(["init", "digits"]) == 2
    assert capsys.readouterr().err == "dcpipe: params.yaml exists; --force replaces it\n"
    assert cli.main(["init", "digits", "--force"]) == 0
    assert (workspace / "params.yaml").read_text(encoding="utf-8") == presets.text("digits")
    assert cli.main(["init"]) == 2
    assert capsys.readouterr().err == (
        "dcpipe: init needs the name of a preset; type `dcpipe init digits` for the smallest, `dcpipe init --list` to "
        "see all\n"
    )


@pytest.mark.parametrize("columns", ["40", "200"])
def test_init_list_has_a_line_for_each_preset(
    columns: str, workspace: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", columns)  # a narrow terminal cuts nothing off
    assert cli.main(["init", "--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:]] == [*presets.names()]
    assert any("1000 x 10" in line and "54.6 ± 0.2" in line and "2.3 h, GPU" in line for line in lines)
    assert cli.main(["init", "--list", "edc"]) == 0
    assert all("edc" in line for line in capsys.readouterr().out.splitlines()[1:])
    assert not (workspace / "params.yaml").exists()


def test_init_show_prints_the_file_and_writes_nothing(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["init", "--show", "cifar10-mdc-ipc10"]) == 0
    assert capsys.readouterr().out == presets.text("cifar10-mdc-ipc10")
    assert not (workspace / "params.yaml").exists()


def test_status_of_nothing(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["status"]) == 0
    told = capsys.readouterr().out
    assert all(stage in told for stage in tables.PLACES)
    assert "yes" not in told
    assert "No scores yet; `dvc repro` builds the stages that are missing" in told


def test_status_measures_what_is_made(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    some = releases.parts()
    assert some.pack is not None
    for key in ("first", "second"):
        bench = workspace / f"bench-{key}"
        bench.mkdir()
        store.publish(bench, workspace / "data/teacher" / key, "teacher", store.save_teacher(bench, some.teacher), {})
    bench = workspace / "bench-compression"
    bench.mkdir()
    store.save_pack(bench / "labels.safetensors", some.pack)
    store.publish(bench, workspace / "data/compression", "compression", {"hard": False}, {})
    scores = [*some.scores, Score("score, none", "score", "resnet18", 2, (50.0,), 1_234_567, 12)]
    bench = workspace / "bench-scores"
    bench.mkdir()
    store.publish(bench, workspace / "data/evaluation/scores", "scores", store.save_scores(bench, scores), {})
    assert cli.main(["status"]) == 0
    lines = capsys.readouterr().out.splitlines()
    [teacher] = [line for line in lines if "teacher/first" in line]
    size = columns.human(store.folder_bytes(workspace / "data/teacher/first"))
    assert size in teacher
    assert "yes" in teacher
    [row] = [line for line in lines if "score, none" in line and "convnet" in line]
    # 2 bytes x 12 images x 5 views x 3 classes; half of it for half the images
    for cell in ("61.0 ± 1.0", "4.3 kB", "999 B", "360 B"):
        assert cell in row, cell
    [row] = [line for line in lines if "resnet18" in line]
    for cell in ("50.0 ± 0.0", "1.2 MB", "12 B", "180 B"):
        assert cell in row, cell


def test_facts_that_all_rows_share_are_above_them() -> None:
    scores = [Score(name, "score", "resnet18", 10, (50.0, 52.0), 1, 2, epochs=300) for name in ("a", "b")]
    table = tables.score_table(scores, {"images": 20, "views": 5, "classes": 2})
    assert "protocol score, student resnet18, epochs 300, ipc 10\nseeds 2, labels in fp16 400 B" in str(table.title)
    assert [column.header for column in table.columns] == ["set", "accuracy", "images", "labels", "teacher", "total"]


def test_a_damaged_manifest_is_named(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (workspace / "data/images").mkdir(parents=True)
    (workspace / "data/images/artifact.json").write_text("{")
    assert cli.main(["status"]) == 2
    assert "data/images/artifact.json is damaged (Expecting property name" in capsys.readouterr().err


def test_inspect_accounts_for_every_byte(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    some = releases.parts()
    assert some.pack is not None
    releases.build(workspace / "fish", some)
    assert cli.main(["inspect", "fish"]) == 0
    told = capsys.readouterr().out
    total = sum(path.stat().st_size for path in (workspace / "fish").iterdir())
    assert f"{total:,}" in told
    header = read_header(workspace / "fish" / "labels.safetensors")
    inside = sum(entry.n_bytes for entry in header.arrays.values())
    assert header.n_bytes + inside == (workspace / "fish" / "labels.safetensors").stat().st_size
    assert f" {header.n_bytes:,}" in next(line for line in told.splitlines() if " header " in line)
    for name, array in some.pack.arrays.items():
        entry = header.arrays[name]
        assert (entry.dtype, entry.shape, entry.n_bytes) == ("F16", array.shape, 2 * 12 * 5 * 3)
        [line] = [line for line in told.splitlines() if f" {name} " in line]
        assert str(list(array.shape)) in line and " 360 " in line
    assert json.loads(header.metadata["dcpipe"])["codec"] == "none"
    assert '"codec":"none"' in told
    [rows_line] = [line for line in told.splitlines() if " rows " in line]
    assert "[12]" in rows_line


def test_inspect_of_a_zarr_array_counts_it_once(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import numpy as np
    import zarr

    zarr.save_array(workspace / "folder" / "vectors.zarr", np.ones((4, 2), dtype=np.float32))
    assert cli.main(["inspect", "folder"]) == 0
    told = capsys.readouterr().out
    assert "vectors.zarr" in told
    assert "zarr.json" not in told
    assert "[4, 2]" in told
    assert "float32" in told


def test_inspect_refuses_what_is_not_there_or_not_whole(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["inspect", "nothing"]) == 2
    assert (
        capsys.readouterr().err
        == "dcpipe: nothing is neither a folder, a file nor a tag NAME@vX.Y.Z; give one of them\n"
    )
    (workspace / "torn.safetensors").write_bytes(b"\xff" * 20)
    assert cli.main(["inspect", "torn.safetensors"]) == 2
    assert capsys.readouterr().err == (
        "dcpipe: torn.safetensors cannot be read as safetensors (its header is longer than the file); "
        "pull or rebuild it\n"
    )


RESILIENCE = """\
selector,ipc,ratio,accuracy,std,drop,drop_std,seeds,image_bytes,label_bytes,fp16_label_bytes,label_rate,note
score,10,,97.0,0.2,0.0,0.0,3,22500,200496,200000,12.345,
score,10,5.0,95.5,0.4,1.5,0.3,3,22500,39900,200000,12.345,
score,10,20.0,,,,,0,22500,0,200000,12.345,codec 'svd': its arrays take at least 22000 bytes
"""
VARIANTS = """\
variant,ipc,accuracy,std,gain,seeds,image_bytes,label_bytes,teacher_bytes,synthesis,labels,fp16_label_bytes,protocol,seconds
real,10,60.25,1.5,,3,22500,44500,0,none,packed,200000,edc/cifar10,0.1
edc-online,10,62.75,0.25,2.5,3,22500,0,1300000,edc,online,0,edc/cifar10,12.345
"""
SUMMARY = """\
selector,ipc,accuracy,std,seeds,image_bytes,label_bytes,fp16_label_bytes,seconds
random,1,60.25,1.5,3,4321,999,20000,0.004
score,10,97.0,0.25,3,22500,44500,200000,12.5
"""


def test_study_runs_its_stage_and_shows_what_came_out(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran: list[list[str]] = []

    def run(command: list[str], check: bool) -> subprocess.CompletedProcess[bytes]:
        ran.append(command[1:])
        folder = workspace / "data/study/selection"
        folder.mkdir(parents=True)
        (folder / "summary.csv").write_text(SUMMARY, encoding="utf-8")
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(subprocess, "run", run)
    (workspace / "studies").mkdir()
    (workspace / "studies/dvc.yaml").write_text("stages: {}", encoding="utf-8")
    assert cli.main(["study", "selection"]) == 0
    assert ran == [["-m", "dvc", "repro", "studies/dvc.yaml:selection"]]
    told = capsys.readouterr().out
    assert "top-1 in percent, mean ± std over 3 seeds" in told
    [row] = [line for line in told.splitlines() if "score" in line]
    for cell in ("10", "97.0 ± 0.2", "22.5 kB", "44.5 kB", "200.0 kB", "12.50"):
        assert cell in row, cell
    assert "Figure: data/study/selection/figure.png; pictures of the images: data/study/selection/picked" in told


def test_study_resilience_shows_drops(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(command: list[str], check: bool) -> subprocess.CompletedProcess[bytes]:
        assert command[-1] == "studies/dvc.yaml:resilience"
        folder = workspace / "data/study/resilience"
        folder.mkdir(parents=True)
        (folder / "summary.csv").write_text(RESILIENCE, encoding="utf-8")
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(subprocess, "run", run)
    (workspace / "studies").mkdir()
    (workspace / "studies/dvc.yaml").write_text("stages: {}", encoding="utf-8")
    assert cli.main(["study", "resilience"]) == 0
    told = capsys.readouterr().out
    assert "top-1 in percent, mean ± std over 3 seeds" in told
    rows = [" ".join(line.split()) for line in told.splitlines() if "score" in line]
    assert rows == [
        "score 10 12.35 uncompressed 200.5 kB 200.0 kB 97.0 ± 0.2",
        "score 10 12.35 5.0 39.9 kB 200.0 kB 95.5 ± 0.4 1.5 ± 0.3",
        "score 10 12.35 20.0 not reached 200.0 kB",
    ]
    assert "Figure: data/study/resilience/figure.png; pictures of the images: data/study/resilience/picked" in told


@pytest.mark.parametrize("name", ["syntheses", "ladder"])
def test_study_of_variants_shows_bytes_and_gains(
    name: str, workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(command: list[str], check: bool) -> subprocess.CompletedProcess[bytes]:
        assert command[-1] == f"studies/dvc.yaml:{name}"
        folder = workspace / "data/study" / name
        folder.mkdir(parents=True)
        lines = VARIANTS if name == "ladder" else VARIANTS.replace("gain,", "").replace(",2.5,", ",").replace(",,", ",")
        (folder / "summary.csv").write_text(lines, encoding="utf-8")
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(subprocess, "run", run)
    (workspace / "studies").mkdir()
    (workspace / "studies/dvc.yaml").write_text("stages: {}", encoding="utf-8")
    assert cli.main(["study", name]) == 0
    told = capsys.readouterr().out
    assert "top-1 in percent, last epoch, mean ± std over 3 seeds" in told and "edc/cifar10" in told
    rows = [" ".join(line.split()) for line in told.splitlines() if line.startswith((" real", " edc", "real", "edc"))]
    gain = " +2.5" if name == "ladder" else ""
    assert rows == [
        "real 10 60.2 ± 1.5 22.5 kB 44.5 kB 200.0 kB 0 B 0.1",
        f"edc-online 10 62.8 ± 0.2{gain} 22.5 kB 0 B 0 B 1.3 MB 12.3",
    ]
    assert ("gain" in told) == (name == "ladder")


SIZES = """\
entry,size,accuracy,std,seeds,image_bytes,label_bytes,protocol,seconds,degradation
mdc,1,50.25,1.5,3,450,0,score,12.3,2.5
mdc,10,66.7,0.5,3,4500,0,score,12.3,2.5
mdc,average,58.475,0.75,3,,,score,12.3,2.5
"""


def test_study_of_sizes_shows_a_column_a_size(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(command: list[str], check: bool) -> subprocess.CompletedProcess[bytes]:
        assert command[-1] == "studies/dvc.yaml:sizes"
        folder = workspace / "data/study/sizes"
        folder.mkdir(parents=True)
        (folder / "summary.csv").write_text(SIZES, encoding="utf-8")
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(subprocess, "run", run)
    (workspace / "studies").mkdir()
    (workspace / "studies/dvc.yaml").write_text("stages: {}", encoding="utf-8")
    assert cli.main(["study", "sizes"]) == 0
    told = capsys.readouterr().out
    [row] = [" ".join(line.split()) for line in told.splitlines() if line.startswith((" mdc", "mdc"))]
    assert row == "mdc 50.2 66.7 58.5 ± 0.8 2.5 12.3"
    assert "Figure: data/study/sizes/figure.png; pictures of the images: data/study/sizes/images" in told


def test_variants_under_several_protocols_send_the_reader_to_the_summary(tmp_path: Path) -> None:
    path = tmp_path / "summary.csv"
    path.write_text(VARIANTS.replace("edc/cifar10,0.1", "score,0.1"), encoding="utf-8")
    assert str(STUDIES["syntheses"].table(path).title).endswith("\nprotocols differ: see summary.csv")


def test_study_refuses_what_it_cannot_run(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for words, sentence in (
        (["study"], "dcpipe: name a study: selection, coefficients, labels, resilience, syntheses, ladder, sizes\n"),
        (
            ["study", "codecs"],
            "dcpipe: unknown study 'codecs'; choose one of selection, coefficients, labels, resilience, syntheses, "
            "ladder, sizes\n",
        ),
        (
            ["study", "selection"],
            f"dcpipe: {workspace} has no studies/dvc.yaml; change to the workspace's folder, or copy studies/ of "
            "dcpipe there\n",
        ),
    ):
        assert cli.main(words) == 2
        assert capsys.readouterr().err == sentence
    (workspace / "studies").mkdir()
    (workspace / "studies/dvc.yaml").write_text("stages: {}", encoding="utf-8")
    monkeypatch.setattr(subprocess, "run", lambda command, check: subprocess.CompletedProcess(command, 1))
    assert cli.main(["study", "selection"]) == 2
    told = capsys.readouterr().err
    assert told == "dcpipe: `dvc repro studies/dvc.yaml:selection` failed; its message is above\n"


def test_export(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    releases.build(workspace / "data/release", releases.parts())
    assert cli.main(["export", "out", "--ipc", "2", "--images-only"]) == 0
    assert capsys.readouterr().out == "Exported 6 images of 3 classes to out.\n"
    assert len(list((workspace / "out").glob("*/*.png"))) == 6
    assert not (workspace / "out/labels.safetensors").exists()


def test_publish_and_pull_reach_the_library(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["publish", "fish"]) == 2
    assert capsys.readouterr().err.startswith("dcpipe: 'fish' is not a release tag; write NAME@vX.Y.Z")
    assert cli.main(["pull", "fish@v1.0.0", "--repo", "nowhere"]) == 2
    assert capsys.readouterr().err.startswith("dcpipe: git ls-remote failed: ")


def test_clean_removes_only_abandoned_staging_folders(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    scratch = workspace / "scratch"
    monkeypatch.setenv("DCPIPE_SCRATCH", str(scratch))
    with pytest.raises(RuntimeError), store.staging_dir(Path("data/features"), {"seed": 0}) as bench:
        (bench.root / "shard").write_bytes(b"x" * 1500)
        (bench.notes / "note").write_bytes(b"x" * 100)
        raise RuntimeError("killed")
    foreign = scratch / "data-features-of-someone-else"
    foreign.mkdir()
    with store.staging_dir(Path("data/softlabels"), {"seed": 0}) as running:
        assert cli.main(["clean"]) == 0
        assert running.root.is_dir()
    assert not bench.root.exists()
    assert not bench.notes.exists()
    assert foreign.is_dir()
    told = capsys.readouterr().out
    assert told == "Skipped data-softlabels: a run is writing it.\nFreed 1.6 kB of unfinished work.\n"


def test_clean_of_nothing(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["clean"]) == 0
    assert capsys.readouterr().out == "Freed 0 B of unfinished work.\n"


# --- verification ---


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


def test_names_in_strangers_files_do_not_drive_the_terminal(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["inspect", "\x1b[2Jx"]) == 2
    assert capsys.readouterr().err.startswith("dcpipe: \\x1b[2Jx is neither a folder")


def test_options_of_codecs_are_plain_values(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for option in ("rank=!!python/object/apply:os.system [touch x]", "rank=[", "rank"):
        assert cli.main(["import-labels", "store", "images", "out", "--option", option]) == 2
        assert capsys.readouterr().err.startswith("dcpipe: --option takes NAME=VALUE")
    assert not (workspace / "x").exists()
