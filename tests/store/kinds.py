"""One small artifact of every kind, published as its stage does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dcpipe import store
from dcpipe.store.image_index import read_index
from dcpipe.types import (
    Elsewhere,
    EncodedImage,
    ImageSet,
    ImageTable,
    LabelPack,
    LabelShape,
    PlacedImage,
    Score,
    Selection,
    Teacher,
    ViewPolicy,
)

CLASSES = ("cat", "dog")
IDS, LABELS = np.array([11, 5, 8, 2]), np.array([0, 1, 0, 1])
POLICY = ViewPolicy(scale_min=0.3, mix="cutmix_labels", seed=4)
LINEAGE = {"stage": "test", "inputs": {}, "code": "0" * 8}


def numbers(*shape: int, dtype: str = "float32") -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype(dtype)


def image_set() -> ImageSet:
    pixels = np.random.default_rng(1).integers(0, 256, (4, 3, 5, 3), dtype=np.uint8)
    return ImageSet(pixels, LABELS, IDS, CLASSES, grid=2)


def teacher() -> Teacher:
    weights = {"a.weight": torch.from_numpy(numbers(3, 4)), "a.steps": torch.tensor(7)}
    return Teacher("convnet-d1-w2", weights, CLASSES, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), 8, {"minival": 61.5})


def selection() -> Selection:
    return Selection(IDS, LABELS, np.array([0.5, 0.25, 1 / 3, -1.0]), "score")


def pack() -> LabelPack:
    arrays = {"u": numbers(4, 6, dtype="float16"), "codes": np.arange(7, dtype=np.uint8)}
    return LabelPack("svd", {"rank": 6}, arrays, LabelShape(4, 3, 2), POLICY, IDS)


def scores() -> list[Score]:
    return [
        Score("all", "score", "net", 2, (50.0, 51.5, 49.25), 100, 200, 300, epochs=9),
        Score("random", "score", "net", 2, (1 / 3,), 100, 200),
    ]


def write_set(folder: Path) -> dict[str, Any]:
    return store.save_set(folder, image_set())


def write_teacher(folder: Path) -> dict[str, Any]:
    return store.save_teacher(folder, teacher())


def write_selection(folder: Path) -> dict[str, Any]:
    return store.save_selection(folder, selection())


def write_pack(folder: Path) -> dict[str, Any]:
    return {"bytes": store.save_pack(folder / "labels.safetensors", pack())}


def write_scores(folder: Path) -> dict[str, Any]:
    return store.save_scores(folder, scores())


def fill(path: Path, values: np.ndarray) -> None:
    blocks = store.create_blocks(path, values.shape, values.dtype.name, rows=2)
    for block in blocks.missing():
        blocks.write(block, values[blocks.span(block)])


def write_features(folder: Path) -> dict[str, Any]:
    fill(folder / "vectors.zarr", numbers(4, 5))
    fill(folder / "logits.zarr", numbers(4, 2))
    fill(folder / "label_rate.zarr", numbers(4, dtype="float64"))
    store.write_columns(folder / "keys.parquet", {"id": IDS, "label": LABELS})
    return {"teacher": "main"}


def write_labels(folder: Path) -> dict[str, Any]:
    fill(folder / "labels.zarr", numbers(4, 3, 2, dtype="float16"))
    return store.save_label_keys(folder, IDS, POLICY, CLASSES, ["main"])


def write_labels_as_before(folder: Path) -> dict[str, Any]:
    """With the ids in the manifest, as older versions wrote them."""
    fill(folder / "labels.zarr", numbers(4, 3, 2, dtype="float16"))
    return {"policy": asdict(POLICY), "ids": IDS.tolist(), "classes": list(CLASSES), "teachers": ["main"]}


def write_images(folder: Path) -> dict[str, Any]:
    rows = [EncodedImage(int(i), b"bytes %d" % i, f"{i}.png", int(k)) for i, k in zip(IDS, LABELS, strict=True)]
    store.write_part(folder / "part-0.parquet", rows[:3], CLASSES)
    store.write_part(folder / "part-1.parquet", rows[3:], CLASSES)
    return {
        "classes": list(CLASSES),
        "size": 8,
        "part_rows": 3,
        "mean": [0.1, 0.2, 0.3],
        "std": [0.4, 0.5, 0.6],
        "splits": {"train": ["part-0.parquet", "part-1.parquet"], "minival": []},
    }


def write_index(folder: Path) -> dict[str, Any]:
    """Images that were not copied: a file, a row of a table, and a part of an archive."""
    meta = write_images(folder)
    places = [("a/é.png", None, None), ("a.parquet", 3, None), ("a.tar", None, 512)]
    rows = [
        PlacedImage(int(i), int(k), *places[row % 3], 9, bytes([row] * 32))
        for row, (i, k) in enumerate(zip(IDS, LABELS, strict=True))
    ]
    for part, some in (("part-0.parquet", rows[:3]), ("part-1.parquet", rows[3:])):
        store.write_index(folder / part, some)
    parts = [folder / "part-0.parquet", folder / "part-1.parquet"]
    return meta | {"source": store.source_meta(Elsewhere("../set", "image"), parts)}


def load_index(path: Path) -> ImageTable:
    """The table, after all of its places were read."""
    table = load_train(path)
    for part, start in enumerate(range(0, len(table), table.part_rows)):
        read_index(table.parts[part], np.arange(len(table.ids[start : start + table.part_rows])))
    return table


def load_train(path: Path) -> ImageTable:
    return store.table_of(store.open_artifact(path, "images"), "train")


@dataclass(frozen=True)
class Kind:
    """A kind of artifact: its name on disk, its writer and its reader."""

    kind: str
    write: Callable[[Path], dict[str, Any]]
    load: Callable[[Path], Any]

    def publish(self, root: Path, name: str = "out") -> store.Artifact:
        folder = root / f"{name}-bench"
        folder.mkdir(parents=True)
        return store.publish(folder, root / name, self.kind, self.write(folder), LINEAGE)


KINDS = {
    "image set": Kind("synthesis", write_set, store.load_set),
    "teacher": Kind("teacher", write_teacher, store.load_teacher),
    "selection": Kind("selection", write_selection, store.load_selection),
    "soft labels": Kind("softlabels", write_labels, store.load_soft_labels),
    "former soft labels": Kind("softlabels", write_labels_as_before, store.load_soft_labels),
    "pack": Kind("compression", write_pack, lambda path: store.load_pack(path, IDS)),
    "scores": Kind("scores", write_scores, store.load_scores),
    "features": Kind("features", write_features, store.load_features),
    "images": Kind("images", write_images, load_train),
    "image index": Kind("images", write_index, load_index),
}


def assert_same(first: Any, second: Any) -> None:
    """Equality of values; arrays are compared by content and dtype."""
    if hasattr(first, "__dataclass_fields__"):
        assert type(first) is type(second)
        for field in fields(first):
            assert_same(getattr(first, field.name), getattr(second, field.name))
    elif isinstance(first, dict):
        assert first.keys() == second.keys()
        for key in first:
            assert_same(first[key], second[key])
    elif isinstance(first, torch.Tensor):
        assert first.dtype == second.dtype and torch.equal(first, second)
    elif isinstance(first, np.ndarray):
        assert first.dtype == second.dtype
        np.testing.assert_array_equal(first, second)
    else:
        assert first == second
