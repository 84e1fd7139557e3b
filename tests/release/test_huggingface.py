"""Parquet for the Hub: number for number the release, in its conventions."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import datasets
import numpy as np
import pyarrow.parquet as pq
import pytest
import releases
import yaml
from PIL import Image
from releases import logits_of

import dcpipe
from dcpipe import release, views


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
            "croissant.json",
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
    assert features["logits"] == {"shape": [5, 3], "dtype": "float16", "_type": "Array2D"}


def test_pyarrow_alone_reads_lists_and_datasets_arrays(made: Path, tmp_path: Path) -> None:
    found = dcpipe.load(made)
    assert found.pack is not None
    release.export(found, tmp_path / "hub", form="parquet")
    code = (
        "import sys, pyarrow.parquet as pq; table = pq.read_table(sys.argv[1]); assert 'datasets' not in sys.modules; "
        "print(table.schema.field('logits').type, *map(len, (x := table['logits'].to_pylist(), x[0], x[0][0])))"
    )
    told = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "hub/data/train-00000-of-00001.parquet")],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert told == "list<element: list<element: halffloat>> 12 5 3\n"
    read = datasets.load_dataset(str(tmp_path / "hub"), split="train", cache_dir=str(tmp_path / "cache"))
    assert read.features["logits"] == datasets.Array2D((5, 3), "float16")
    assert read.features["box"] == datasets.Array2D((5, 4), "float32")
    assert read.features["label"].names == list(releases.CLASSES)
    logits = np.array(read.with_format("numpy")[:]["logits"])
    np.testing.assert_array_equal(logits, logits_of(found.pack).numpy())
    np.testing.assert_array_equal(np.asarray(read[3]["image"]), found.images.images[3])
