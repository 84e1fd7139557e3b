"""Exports: what other code reads from them is the release, number for number."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import releases
import torch
from condensed import decoded_by_hand
from PIL import Image
from releases import logits_of
from safetensors.numpy import load_file

import dcpipe
from dcpipe import release, views
from dcpipe.cli import commands as cli
from dcpipe.compression import CODECS
from dcpipe.types import DataError

FOLDERS = ["00000_tench", "00001_goldfish", "00002_white_shark"]


@pytest.mark.parametrize("ipc", [None, 2])
def test_grids_are_exported_decoded(tmp_path: Path, ipc: int | None) -> None:
    some = releases.parts(grid=2)
    releases.build(tmp_path / "fish", some)
    found = dcpipe.load(tmp_path / "fish", ipc=ipc)
    assert found.pack is not None and some.pack is not None
    whole = decoded_by_hand(found.images)
    n = 12 * (ipc or releases.IPC)
    rows = [some.pack.ids.tolist().index(i) for i in whole.ids]
    logits = logits_of(some.pack)[rows]
    for form in ("folder", "parquet", "ddranking"):
        release.export(found, tmp_path / form, form=form)
    table = pq.read_table(tmp_path / "parquet/data/train-00000-of-00001.parquet")
    assert table["id"].to_pylist() == whole.ids.tolist() and table["label"].to_pylist() == whole.labels.tolist()
    half = np.array(table["logits"].to_pylist(), dtype=np.float16).reshape(n, 5, 3)
    np.testing.assert_array_equal(half, logits.numpy().astype(np.float16))
    for row, record in enumerate(table["image"].to_pylist()):
        (tmp_path / record["path"]).write_bytes(record["bytes"])
        np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / record["path"])), whole.images[row])
    assert "whose images are grids of 2 x 2: 4 rows here are one stored image" in (
        tmp_path / "parquet/README.md"
    ).read_text(encoding="utf-8")
    labels = load_file(tmp_path / "folder/labels.safetensors")
    for row in range(n):
        file = tmp_path / "folder" / FOLDERS[labels["class"][row]] / f"{labels['rank'][row]:05d}.png"
        np.testing.assert_array_equal(np.asarray(Image.open(file)), whole.images[row])
        np.testing.assert_array_equal(labels["logits"][row], half[row])
    order = np.argsort(whole.labels, kind="stable")
    given = torch.load(tmp_path / "ddranking/labels.pt", weights_only=True)
    torch.testing.assert_close(given.double(), logits[order].mean(dim=1), rtol=0, atol=1e-5)
    assert torch.load(tmp_path / "ddranking/images.pt", weights_only=True).shape == (n, 3, 8, 8)


def test_exports_that_cannot_be(made: Path, tmp_path: Path) -> None:
    found = dcpipe.load(made)
    with pytest.raises(DataError) as error:
        release.export(found, tmp_path / "out", form="csv")
    assert str(error.value) == "unknown export format 'csv'; choose one of folder, parquet, ddranking"
    kept = np.arange(1, 12)
    images = found.images
    uneven = replace(images, images=images.images[kept], labels=images.labels[kept], ids=images.ids[kept])
    with pytest.raises(DataError) as error:
        release.export(replace(found, images=uneven), tmp_path / "out", form="ddranking")
    assert str(error.value) == (
        "release fish has 3 to 4 images per class, but DD-Ranking needs the same number in each; export --ipc 3"
    )
    assert not (tmp_path / "out").exists()
    mixed = releases.parts(policy=replace(releases.POLICY, mix="cutmix_images"))
    releases.build(tmp_path / "fish", mixed)
    for form in ("parquet", "ddranking"):
        with pytest.raises(DataError, match=r"^release fish has labels of mixed images, which have no single file"):
            release.export(dcpipe.load(tmp_path / "fish"), tmp_path / form, form=form)


def test_the_command_writes_each_form(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def run(*options: str) -> int:
        return cli.main(["export", str(tmp_path / "-".join(options)), "--release", str(made), *options])

    assert run("--format", "parquet") == run("--format", "parquet", "--logits") == run("--format", "ddranking") == 0
    assert capsys.readouterr().out.count("Exported 12 images of 3 classes to ") == 3
    columns = [
        pq.read_schema(tmp_path / name / "data/train-00000-of-00001.parquet").names
        for name in ("--format-parquet", "--format-parquet---logits")
    ]
    assert columns == [["id", "image", "label"], ["id", "image", "label", "logits", "box", "flip"]]
    assert run("--format", "ddranking", "--images-only") == 0
    assert torch.load(tmp_path / "--format-ddranking---images-only/labels.pt", weights_only=True).dtype == torch.int64


def test_folders_are_an_image_folder_of_torchvisions(made: Path, tmp_path: Path) -> None:
    from torchvision.datasets import ImageFolder

    found = dcpipe.load(made, ipc=2)
    release.export(found, tmp_path / "out")
    folder = ImageFolder(str(tmp_path / "out"))
    names = json.loads((tmp_path / "out" / "classes.json").read_text())
    assert [names[key] for key in folder.classes] == list(releases.CLASSES)
    labels = load_file(tmp_path / "out" / "labels.safetensors")
    assert found.pack is not None
    wanted = logits_of(found.pack)
    for row in range(6):
        file = tmp_path / "out" / FOLDERS[labels["class"][row]] / f"{labels['rank'][row]:05d}.png"
        np.testing.assert_array_equal(np.asarray(Image.open(file)), found.images.images[row])
        np.testing.assert_array_equal(labels["logits"][row], wanted[row].numpy().astype(np.float16))
        for view in range(5):
            drawn = views.draw(found.policy, found.images.ids[[row]], np.array([view]), 12)
            np.testing.assert_allclose(labels["box"][row, view], drawn.box[0], rtol=1e-6)
            assert labels["flip"][row, view] == drawn.flip[0]
    with pytest.raises(DataError, match=r"out exists; give a folder that does not$"):
        release.export(found, tmp_path / "out")


def test_export_refuses_labels_that_are_not_of_single_files(tmp_path: Path) -> None:
    some = releases.parts(policy=replace(releases.POLICY, mix="cutmix_images"))
    releases.build(tmp_path / "fish", some)
    found = dcpipe.load(tmp_path / "fish")
    with pytest.raises(DataError, match=r"^release fish has labels of mixed images, which have no single file"):
        release.export(found, tmp_path / "out")
    assert some.pack is not None
    shape = some.pack.shape
    codec = CODECS["prune"].plan(shape, shape.reference_bytes // 2)
    rows = np.arange(shape.images)
    drawn = views.draw(releases.POLICY, np.repeat(rows, shape.views), np.tile(np.arange(shape.views), len(rows)), 1)
    arrays = codec.encode(torch.zeros(shape.images, shape.views, shape.classes), rows, shape, drawn)
    half = replace(some.pack, codec="prune", settings=codec.settings, arrays=dict(arrays), policy=releases.POLICY)
    pruned = releases.with_pack(found, half)
    with pytest.raises(
        DataError, match=r"^release fish has labels of some views only, which do not fill a dense array"
    ):
        release.export(pruned, tmp_path / "out")
    release.export(found, tmp_path / "out", labels=False)
    assert not (tmp_path / "out" / "labels.safetensors").exists()


def test_a_link_to_nothing_is_in_the_way(made: Path, tmp_path: Path) -> None:
    (tmp_path / "out").symlink_to(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"out exists; give a folder that does not$"):
        release.export(dcpipe.load(made), tmp_path / "out")
