"""URLs are told from paths, and refused wherever a file or folder has to be on this machine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import releases
import torch
import yaml

import dcpipe
from dcpipe import cli, interop, networks, release, store
from dcpipe.compression.front import PackedLabels
from dcpipe.config import params, presets
from dcpipe.images.vision import torchvision
from dcpipe.release import publishing, tags
from dcpipe.types import DataError
from dcpipe.types.paths import is_url, local_path

URL = "s3://sesame@bucket/folder"
WITHOUT = "s3://bucket/folder"  # params.yaml is shown as it is


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("s3://bucket/key", True),
        ("S3://bucket", True),
        ("https://host/file", True),
        ("hf://datasets/user/name", True),
        ("ftp://host/file", True),
        ("file:///tmp/x", True),
        ("s3:bucket/key", True),
        (Path("s3://bucket/key"), True),
        ("gs:/bucket", True),
        ("abfs://container/x", True),
        ("data/images", False),
        ("/data/a:b", False),
        ("C:/data", False),
        (r"C:\data", False),
        ("name@v1.0.0", False),
        ("git@host:team/repository", False),
        ("a b://c", False),
        ("", False),
    ],
)
def test_a_url_is_told_from_a_path(where: str | Path, expected: bool) -> None:
    assert is_url(where) is expected
    if not expected:
        assert local_path(where, "it") == Path(where)


def packed() -> PackedLabels:
    return dcpipe.compress(np.zeros((2, 2, 3), dtype=np.float16), "none")


def with_weights(where: str) -> Any:
    content = yaml.safe_load(presets.text("digits"))
    next(iter(content["teacher"]["networks"].values()))["weights"] = where
    return params.parse(content)


def set_variable(variable: str, where: str, use: Callable[[], object]) -> object:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(variable, where)
        return use()


def loaded(folder: Path) -> release.Release:
    releases.build(folder / "fish", releases.parts())
    return dcpipe.load(folder / "fish")


LOCAL_ONLY: dict[str, Callable[[Path], object]] = {
    "a new array": lambda folder: store.create_blocks(Path(URL), (4, 2), "float32"),
    "a new array by text": lambda folder: store.create_blocks(URL, (4, 2), "float32"),  # type: ignore[arg-type]
    "a finished array": lambda folder: store.open_blocks(Path(URL)),
    "scratch": lambda folder: set_variable("DCPIPE_SCRATCH", URL, store.scratch_root),
    "the cache": lambda folder: set_variable("DCPIPE_CACHE", URL, tags.cache_root),
    "the default remote": lambda folder: set_variable(
        "DCPIPE_REMOTE", URL, lambda: publishing._remote_to_set(folder, None)
    ),
    "where a tag is pulled to": lambda folder: release.pull("fish@v1.0.0", folder, Path(URL)),
    "where a URL is pulled to": lambda folder: release.pull("s3://bucket/fish", None, Path(URL)),
    "an export": lambda folder: release.export(loaded(folder), Path(URL)),
    "labels to import": lambda folder: interop.import_labels(Path(URL), folder, folder / "out"),
    "images to import": lambda folder: interop.import_labels(folder, Path(URL), folder / "out"),
    "an import": lambda folder: interop.import_labels(folder, folder, Path(URL)),
    "a pack that is saved": lambda folder: packed().save(URL),
    "a pack that is read": lambda folder: dcpipe.load_labels(URL),
    "weights in params.yaml": lambda folder: with_weights(WITHOUT),
    "weights": lambda folder: networks.load_weights(torch.nn.Linear(1, 1), "any", f"{URL}.pth"),
    "torchvision's root": lambda folder: torchvision(name="CIFAR10", root=WITHOUT),
}


@pytest.mark.parametrize("use", LOCAL_ONLY.values(), ids=LOCAL_ONLY.keys())
def test_what_has_to_be_here_is_no_url(use: Callable[[Path], object], tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    tags.git("init", "--quiet", cwd=tmp_path)
    with pytest.raises(DataError) as caught:
        use(tmp_path)
    assert " is a URL (s3://…), but it has to be on this machine; " in str(caught.value)
    assert "sesame" not in str(caught.value) and not (tmp_path / "s3:").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["check", URL],
        ["plan", URL],
        ["pull", "fish@v1.0.0", "--out", URL],
        ["pull", "s3://bucket/fish", "--out", URL],
        ["export", URL],
        ["import-labels", URL, "images", "out"],
        ["import-labels", "labels", URL, "out"],
        ["import-labels", "labels", "images", URL],
    ],
)
def test_no_command_takes_a_url_for_a_path(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(arguments) == 2
    said = capsys.readouterr().err
    assert said.startswith("dcpipe: the argument ") and "is a URL (s3://…), but it has to be on this machine" in said
    assert "sesame" not in said and list(tmp_path.iterdir()) == []
