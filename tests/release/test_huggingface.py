"""Parquet for the Hub: number for number the release, in its conventions."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
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
