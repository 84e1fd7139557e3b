"""`pull` takes what `load` takes, except folders."""

from __future__ import annotations

from pathlib import Path

import pytest
from object_store import Bucket

from dcpipe import cli, release
from dcpipe.types import DataError


def test_a_url_is_pulled_without_git(
    bucket: Bucket, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    url = bucket.put_folder(made, "pulled/fish")
    assert cli.main(["pull", f"{url}/"]) == 0
    assert capsys.readouterr().out.startswith("Pulled s3://bucket/pulled/fish/ to fish: ")
    assert sorted(path.name for path in Path("fish").iterdir()) == sorted(path.name for path in made.iterdir())
    assert cli.main(["pull", url, "--out", "deep/other"]) == 0 and Path("deep/other/artifact.json").is_file()
    with pytest.raises(DataError, match="is a URL; leave the repository out, which is for tags"):
        release.pull(url, "somewhere", Path("third"))
    with pytest.raises(DataError, match=r"'nothing' is not a release tag|is not in a git repository"):
        release.pull("nothing", None, Path("third"))


def test_a_url_is_inspected_and_exported(
    bucket: Bucket, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DCPIPE_CACHE", str(tmp_path / "cache"))
    url = bucket.put_folder(made, "inspected/fish")
    assert cli.main(["inspect", url]) == 0
    assert "teacher.safetensors" in capsys.readouterr().out
    assert cli.main(["export", "out", "--release", url, "--images-only", "--ipc", "1"]) == 0
    assert len(list(Path("out").glob("*/*.png"))) == 3
