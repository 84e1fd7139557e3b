"""Exports: what other code reads from them is the release, number for number."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import releases
import torch
import yaml
from condensed import decoded_by_hand
from PIL import Image
from releases import logits_of
from safetensors.numpy import load_file

import dcpipe
from dcpipe import release, views
from dcpipe.cli import commands as cli
from dcpipe.compression import CODECS
from dcpipe.types import DataError


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exports") / "fish"
    releases.build(folder, releases.parts())
    return folder


@pytest.mark.parametrize("ipc", [None, 2])
def test_parquet_round_trip(made: Path, tmp_path: Path, ipc: int | None) -> None:
    found = dcpipe.load(made, ipc=ipc)
    assert found.pack is not None
    release.export(found, tmp_path / "hub", form="parquet")
    table = pq.read_table(tmp_path / "hub/data/train-00000-of-00001.parquet")
    k, c, n = releases.VIEWS, len(releases.CLASSES), len(found.images)
    assert table["id"].to_pylist() == found.images.ids.tolist()
    assert table["label"].to_pylist() == found.images.labels.tolist()
    for row, record in enumerate(table["image"].to_pylist()):
        path = tmp_path / record["path"]
        path.write_bytes(record["bytes"])
        np.testing.assert_array_equal(np.asarray(Image.open(path)), found.images.images[row])
    rows = [found.pack.ids.tolist().index(i) for i in found.images.ids]
    logits = np.array(table["logits"].to_pylist(), dtype=np.float16).reshape(n, k, c)
    np.testing.assert_array_equal(logits, logits_of(found.pack).numpy().astype(np.float16)[rows])
    box, flip = (np.array(table[name].to_pylist()).reshape(n, k, -1) for name in ("box", "flip"))
    for row, view in np.ndindex(n, k):
        drawn = views.draw(found.policy, found.images.ids[[row]], np.array([view]), 12)
        np.testing.assert_allclose(box[row, view], drawn.box[0], rtol=1e-6)
        assert flip[row, view] == drawn.flip


def test_parquet_follows_the_hubs_conventions(made: Path, tmp_path: Path) -> None:
    found = dcpipe.load(made)
    for labels in (False, True):
        folder = tmp_path / str(labels)
        release.export(found, folder, form="parquet", labels=labels)
        assert sorted(path.name for path in folder.rglob("*") if path.is_file()) == [
            "README.md",
            "train-00000-of-00001.parquet",
        ]
        schema = pq.read_schema(folder / "data/train-00000-of-00001.parquet")
        features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
        assert list(features) == schema.names
        assert features["label"] == {"names": list(releases.CLASSES), "_type": "ClassLabel"}
        assert ("logits" in features) == labels
        front = yaml.safe_load((folder / "README.md").read_text().split("---\n")[1])
        [config] = front["configs"]
        assert (folder / config["data_files"][0]["path"]).is_file() and front["license_name"] == "CC0-1.0"
    wanted = {"feature": {"dtype": "float16", "_type": "Value"}, "length": 15, "_type": "Sequence"}
    assert features["logits"] == wanted
    column = schema.field("logits").type
    assert column.list_size == 15 and column.value_type == pa.float16()


@pytest.mark.parametrize("ipc", [None, 3])
def test_ddranking_round_trip(made: Path, tmp_path: Path, ipc: int | None) -> None:
    found = dcpipe.load(made, ipc=ipc)
    assert found.pack is not None
    for labels in (True, False):
        folder = tmp_path / str(labels)
        release.export(found, folder, form="ddranking", labels=labels)
        images = torch.load(folder / "images.pt", weights_only=True)
        given = torch.load(folder / "labels.pt", weights_only=True)
        order = sorted(range(len(found.images)), key=lambda row: int(found.images.labels[row]))
        mean, std = (np.array(values) for values in found.normalisation)
        wanted = ((found.images.images[order] / 255.0 - mean) / std).transpose(0, 3, 1, 2)
        assert images.dtype == torch.float32 and images.is_contiguous()
        np.testing.assert_allclose(images, wanted, atol=1e-5)
        if labels:
            rows = [found.pack.ids.tolist().index(found.images.ids[row]) for row in order]
            assert given.dtype == torch.float32
            torch.testing.assert_close(given.double(), logits_of(found.pack)[rows].mean(dim=1), rtol=0, atol=1e-5)
        else:
            assert given.dtype == torch.int64
            assert given.tolist() == np.repeat([0, 1, 2], ipc or releases.IPC).tolist()


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
        file = tmp_path / "folder" / f"{labels['class'][row]:05d}" / f"{labels['rank'][row]:05d}.png"
        np.testing.assert_array_equal(np.asarray(Image.open(file)), whole.images[row])
        np.testing.assert_array_equal(labels["logits"][row], half[row])
    order = np.argsort(whole.labels, kind="stable")
    given = torch.load(tmp_path / "ddranking/labels.pt", weights_only=True)
    torch.testing.assert_close(given.double(), logits[order].mean(dim=1), rtol=0, atol=1e-5)
    assert torch.load(tmp_path / "ddranking/images.pt", weights_only=True).shape == (n, 3, 8, 8)


def test_ddranking_takes_the_labels_that_a_codec_kept(made: Path, tmp_path: Path) -> None:
    found = dcpipe.load(made)
    assert found.pack is not None
    shape, whole = found.pack.shape, logits_of(found.pack).float()
    codec = CODECS["prune"].plan(shape, shape.reference_bytes * 3 // 4)
    rows = np.arange(shape.images)
    drawn = views.draw(releases.POLICY, np.repeat(rows, shape.views), np.tile(np.arange(shape.views), len(rows)), 1)
    arrays = codec.encode(whole, rows, shape, drawn)
    pruned = replace(found, pack=replace(found.pack, codec="prune", settings=codec.settings, arrays=dict(arrays)))
    release.export(pruned, tmp_path / "out", form="ddranking")
    given = torch.load(tmp_path / "out/labels.pt", weights_only=True)
    order = np.argsort(found.images.labels, kind="stable")
    torch.testing.assert_close(given, whole[order, :3].mean(dim=1), rtol=0, atol=1e-5)  # 3 of 5 views fit
    with pytest.raises(DataError, match=r"^release fish has labels of some views only, which no dense array holds"):
        release.export(pruned, tmp_path / "hub", form="parquet")


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
        "release fish has 3 to 4 images a class, DD-Ranking wants as many of each; export --ipc 3"
    )
    assert not (tmp_path / "out").exists()
    mixed = releases.parts(policy=replace(releases.POLICY, mix="cutmix_images"))
    releases.build(tmp_path / "fish", mixed)
    for form in ("parquet", "ddranking"):
        with pytest.raises(DataError, match=r"^release fish labels mixed images, which single files cannot show"):
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
