"""Folders of classes: other code numbers the classes as the release does, and sees their names."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import releases
from hypothesis import given
from hypothesis import strategies as st

import dcpipe
from dcpipe import release
from dcpipe.release.folders import class_folders


@pytest.mark.parametrize(
    ("classes", "folders"),
    [
        (("n01440764", "n01443537"), ["n01440764", "n01443537"]),
        (("0", "1", "2"), ["0", "1", "2"]),
        (("airplane", "automobile", "bird"), ["airplane", "automobile", "bird"]),
        (("tench", "goldfish", "white shark"), ["00000_tench", "00001_goldfish", "00002_white_shark"]),
        (("9", "10"), ["00000_9", "00001_10"]),
        (("a", "con"), ["00000_a", "00001_con"]),
        (("A", "a"), ["00000_A", "00001_a"]),
        (("..", "../../x", "/etc/passwd"), ["00000", "00001_x", "00002_etc_passwd"]),
        (("a\x1b[2J\n", "b\\c:d", ".hidden"), ["00000_a_2J", "00001_b_c_d", "00002_hidden"]),
        (("鲤鱼", "鲨鱼"), ["鲤鱼", "鲨鱼"]),
        (("x" * 300, "y"), ["00000_" + "x" * 60, "00001_y"]),
    ],
)
def test_names_of_folders(classes: tuple[str, ...], folders: list[str]) -> None:
    assert class_folders(classes) == folders


@given(st.lists(st.text(min_size=1), min_size=1, max_size=20, unique=True))
def test_any_names_give_folders_in_label_order(classes: list[str]) -> None:
    folders = class_folders(classes)
    assert folders == sorted(folders) and len({folder.casefold() for folder in folders}) == len(classes)
    for folder in folders:
        assert folder.isprintable() and folder not in (".", "..") and len(folder.encode()) <= 255
        assert not set(folder) & set('/\\:*?"<>| \n\t$`')


@pytest.mark.parametrize("classes", [releases.CLASSES, ("carp", "goldfish", "tench")])
def test_other_code_gives_the_same_labels(classes: tuple[str, ...], made: Path, tmp_path: Path) -> None:
    import datasets
    from torchvision.datasets import ImageFolder

    found = dcpipe.load(made)
    found = replace(found, images=replace(found.images, classes=classes))
    release.export(found, tmp_path / "out", labels=False)
    names = json.loads((tmp_path / "out/classes.json").read_text())
    assert list(names.values()) == list(classes)
    torch_set = ImageFolder(str(tmp_path / "out"))
    (tmp_path / "out/classes.json").unlink()  # `datasets` would take it for metadata of the images
    hf_set = datasets.load_dataset(
        "imagefolder", data_dir=str(tmp_path / "out"), split="train", cache_dir=str(tmp_path / "cache")
    )
    assert torch_set.classes == hf_set.features["label"].names == list(names)
    for label in range(3):
        wanted = {image.tobytes() for image in found.images.images[found.images.labels == label]}
        ours = {np.asarray(torch_set.loader(path)).tobytes() for path, y in torch_set.samples if y == label}
        theirs = {np.asarray(row["image"]).tobytes() for row in hf_set if row["label"] == label}
        assert ours == theirs == wanted
