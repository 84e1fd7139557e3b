"""Awkward sets of one's own: `init --data` recognises each, and the stage `images` reads what it wrote, unedited."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import own_sets as sets
import pyarrow as pa
import pytest
import yaml

from dcpipe import store
from dcpipe.config import params
from dcpipe.images.shards import splits_of
from dcpipe.types import DataError
from dcpipe.workspace import own_images
from flows.images import images_stage
from flows.running.reporting import Plain
from flows.running.runtime import Host, Run

TWO = ("ant", "bee")
UMLAUTS = ("größe 2", "猫", "a b")
SHARE = {"test_share": 0.2}


def made(data: Path | str, workspace: Path, monkeypatch: pytest.MonkeyPatch, **options: Any) -> tuple[Any, str]:
    """The parsed parameters and the text that `init my-images` writes for a workspace, which is the current folder."""
    workspace.mkdir(exist_ok=True)
    monkeypatch.chdir(workspace)
    text = own_images.text(str(data), workspace, **options)
    return params.parse(yaml.safe_load(text)), " ".join(text.replace("\n    # ", " ").replace("\n  # ", " ").split())


def read(read_params: params.Params) -> store.Artifact:
    """Run the stage `images`."""
    splits_of.forget()
    images_stage(Run("images", read_params, Plain("images"), device=Host(), workers=None))  # type: ignore[arg-type]
    return store.open_artifact(Path("data/images"), "images")


CASES: dict[str, tuple[sets.Layout, str, dict[str, Any], tuple[str, ...]]] = {
    "class folders": (sets.folders(""), "imagefolder", {"train": ".", **SHARE}, TWO),
    "names of all scripts": (
        sets.folders("", classes=UMLAUTS),
        "imagefolder",
        {"train": ".", **SHARE},
        (*sorted(UMLAUTS),),
    ),
    "junk": (sets.both(sets.folders(""), sets.files(sets.JUNK)), "imagefolder", {"train": ".", **SHARE}, TWO),
    "an empty folder beside": (
        sets.both(sets.folders(""), sets.files({"notes/readme.txt": "x"})),
        "imagefolder",
        {"train": ".", **SHARE, "classes": [*TWO], "only_listed": True},
        TWO,
    ),
    "train and val": (sets.folders("train", "val"), "imagefolder", {}, TWO),
    "train and test": (sets.folders("train", "test"), "imagefolder", {"test": "test"}, TWO),
    "Training and Testing": (
        sets.folders("Training", "Testing"),
        "imagefolder",
        {"train": "Training", "test": "Testing"},
        TWO,
    ),
    "train, valid and test": (sets.folders("train", "valid", "test"), "imagefolder", {"test": "test"}, TWO),
    "train alone": (sets.folders("train"), "imagefolder", SHARE, TWO),
    "train, and a test without classes": (
        sets.both(sets.folders("train"), sets.files({"test/1.png": sets.picture(1)})),
        "imagefolder",
        SHARE,
        TWO,
    ),
    "a folder in a folder": (sets.folders("set/train", "set/val"), "imagefolder", {}, TWO),
    "numbers": (
        sets.folders("", classes=map(str, range(11))),
        "imagefolder",
        {"train": ".", **SHARE},
        (*map(str, range(11)),),
    ),
    "Tiny-ImageNet": (sets.tiny_imagenet, "imagefolder", {}, ("n01", "n02")),
    "all kinds of files": (sets.many_kinds, "imagefolder", {"train": ".", **SHARE}, TWO),
    "all shapes": (sets.both(sets.folders(""), sets.files(sets.SHAPES)), "imagefolder", {"train": ".", **SHARE}, TWO),
    "a list": (sets.listed(""), "csv", SHARE, TWO),
    "a list beside a folder": (sets.listed("pics"), "csv", SHARE, TWO),
    "a list of stems with splits": (
        sets.listed("pics", "id,breed,split", "", split=True),
        "csv",
        {},
        TWO,
    ),
    "as Kaggle has it": (
        sets.both(
            sets.listed("train", "id,label", "", name="train.csv"),
            sets.files({"test/0.png": sets.picture(77), "sample_submission.csv": "id,label\n0,ant\n"}),
        ),
        "csv",
        {"images": "train", **SHARE},
        TWO,
    ),
    "Parquet": (sets.parquet("train-00000-of-00001.parquet", "test-00000-of-00001.parquet"), "parquet", {}, TWO),
    "Parquet below data": (
        sets.parquet("data/train-0.parquet", "data/validation-0.parquet"),
        "parquet",
        {"test": "validation"},
        TWO,
    ),
    "train.parquet": (sets.parquet("train.parquet", "test.parquet"), "parquet", {}, TWO),
    "Parquet with train alone": (sets.parquet("train.parquet"), "parquet", SHARE, TWO),
    "one Parquet file": (sets.parquet("all.parquet"), "parquet", {"train": "all.parquet", **SHARE}, TWO),
    "several without splits": (
        sets.parquet("a.parquet", "b.parquet"),
        "parquet",
        {"train": "{a,b}.parquet", **SHARE},
        TWO,
    ),
    "a configuration": (sets.parquet("plain_text/train-0.parquet", "plain_text/test-0.parquet"), "parquet", {}, TWO),
    "img and fine_label": (
        sets.parquet("cifar100/train-0.parquet", "cifar100/test-0.parquet", image="img", label="fine_label", more=True),
        "parquet",
        {"label_column": "fine_label"},
        TWO,
    ),
    "labels that are texts": (sets.parquet("train.parquet", names_of=None, texts=True), "parquet", SHARE, TWO),
    "views of Arrow": (
        sets.parquet("train.parquet", names_of=None, texts=True, kind=pa.string_view()),
        "parquet",
        SHARE,
        TWO,
    ),
    "numbers without names": (
        sets.parquet("train.parquet", names_of=None, label="class"),
        "parquet",
        {"label_column": "class", "classes": ["0", "1"], **SHARE},
        ("0", "1"),
    ),
    "tar shards": (
        sets.tars("train-000.tar", "train-001.tar", "val-000.tar"),
        "webdataset",
        {"test": "val"},
        ("0", "1"),
    ),
    "tar shards with names": (
        sets.tars("shard-0.tar", texts=True),
        "webdataset",
        {"train": "shard-0.tar", **SHARE},
        TWO,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_it_is_recognised_and_read_without_an_edit(
    case: str, scratch: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout, source, options, classes = CASES[case]
    layout(tmp_path / "data")
    read_params, text = made(tmp_path / "data", tmp_path / "my set", monkeypatch, ipc=None)
    written = dict(read_params.images.options)
    inside = written.pop("path")
    if "images" in options:
        assert written.pop("images") == f"../data/{options['images']}"
    assert inside.startswith("../data") and read_params.images.source == source
    assert written == {key: value for key, value in options.items() if key != "images"}
    assert "images: Recognised: " in text and read_params.release.name.startswith("my-set")
    artifact = read(read_params)
    assert artifact.meta["classes"] == list(classes)
    tables = [store.table_of(artifact, split) for split in ("train", "minival", "test")]
    assert all(set(table.labels.tolist()) == set(range(len(classes))) for table in (tables[0], tables[2]))
    fewest = np.bincount(tables[0].labels).min()
    assert (read_params.selection.ipc > fewest) == read_params.selection.takes_all


def test_all_corrupt_images_are_told_and_a_choice_goes_on(
    scratch: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = {"ant/cut.png": sets.picture(1)[:50], "bee/page.jpg": b"<html>", "bee/empty.png": b""}
    sets.both(sets.folders("", n=20), sets.files(broken))(tmp_path / "data")
    read_params, _ = made(tmp_path / "data", tmp_path / "ws", monkeypatch)
    with pytest.raises(
        DataError, match=r"^3 of 43 images are corrupt: .*; replace or remove them, or set images\.on_corr"
    ):
        read(read_params)
    assert len(json.loads((scratch / "corrupt.json").read_text(encoding="utf-8"))) == 3
    skipping = read_params.model_copy(update={"images": read_params.images.model_copy(update={"on_corrupt": "skip"})})
    assert sum(read(skipping).meta["counts"].values()) == 40


def test_a_test_that_is_train_is_refused(scratch: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sets.both(sets.folders("train"), sets.folders("val"))(tmp_path / "data")
    read_params, _ = made(tmp_path / "data", tmp_path / "ws", monkeypatch)
    with pytest.raises(DataError, match=r"^16 of 16 test images \(100\.00 %\) are also train images"):
        read(read_params)


@pytest.mark.parametrize(
    ("side", "gpu", "size", "network"),
    [
        (8, False, 8, "convnet-d2-w64"),
        (28, False, 28, "convnet-d3-w64"),
        (32, False, 32, "convnet-d3-w64"),
        (50, False, 50, "resnet18-w32"),
        (70, False, 64, "resnet18-w32"),
        (100, False, 96, "resnet18-w32"),
        (300, False, 128, "resnet18-w32"),
        (300, True, 224, "resnet18-w32"),
    ],
)
def test_size_and_network_fit_the_images(
    side: int, gpu: bool, size: int, network: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in TWO:
        for i in range(12):
            sets.put(tmp_path / "data", f"{name}/{i}.png", sets.picture(i, (side, side)))
    monkeypatch.setattr(own_images, "_has_gpu", lambda: gpu)
    found, text = made(tmp_path / "data", tmp_path / "ws", monkeypatch)
    assert (found.images.size, found.evaluation.student) == (size, network)
    assert [one.network for one in found.teacher.networks.values()] == [network]
    assert f"GPU; there is none here, and {size} takes" in text or gpu or side != 300
    assert (found.softlabels.augmentation.flip, found.softlabels.mix) == (
        (0.0, "none") if side < 32 else (0.5, "cutmix_labels")
    )


def test_epochs_and_ipc_fit_the_number_of_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sets.both(sets.folders("", n=30), sets.folders("", classes=["rare"], n=5))(tmp_path / "data")
    found, text = made(tmp_path / "data", tmp_path / "ws", monkeypatch)
    assert found.teacher.training.epochs == 60 and "(train has 48)" in text
    assert found.selection.ipc == 10 and found.selection.takes_all
    assert "Images per class; the classes have 4 to 22 train images, and 1 of them, which have fewer, give all" in text
    assert found.compression.codec == "none" or found.compression.ratio is not None
    asked = made(tmp_path / "data", tmp_path / "ws", monkeypatch, ipc=3)[0].selection
    assert asked.ipc == 3 and not asked.takes_all
    for wrong in (0, 23):
        with pytest.raises(DataError, match=rf"^--ipc is {wrong}"):
            made(tmp_path / "data", tmp_path / "ws", monkeypatch, ipc=wrong)


def test_paths_are_relative_unless_nothing_is_shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sets.folders("", n=20)(tmp_path / "ws" / "inside")
    assert made("inside", tmp_path / "ws", monkeypatch)[0].images.options["path"] == "inside"
    with monkeypatch.context() as patch:
        patch.setattr(own_images.os.path, "commonpath", lambda paths: "/")
        found = made(tmp_path / "ws/inside", tmp_path / "ws", monkeypatch)[0].images.options["path"]
    assert found == str((tmp_path / "ws/inside").resolve())


def test_images_that_nobody_can_read_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sets.files({f"{name}/{i}.png": b"x" for name in TWO for i in range(9)})(tmp_path / "data")
    with pytest.raises(DataError, match=r"none of \d+ images that were looked at can be read; correct --data$"):
        made(tmp_path / "data", tmp_path / "ws", monkeypatch)
