"""A release for code that knows neither Parquet nor dcpipe: PNG files by class, and all soft labels decoded."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dcpipe import views
from dcpipe.compression import CODECS, rebuild
from dcpipe.release.reading import Release
from dcpipe.store.nouns import encode_png
from dcpipe.store.tensors import write
from dcpipe.types import ImageSet, LabelPack, Sliceable, require


def export(release: Release, folder: Path, *, labels: bool = True) -> None:
    """Write a release into the new folder `folder`.

    * `00000/00000.png`: class by index, image by rank, so that folder and file names sort as classes and picks do and
      the first k files of each class are the smaller set
    * `classes.json`: folder -> class name, as the most reported bug is a class order assumed
    * `labels.safetensors`, unless labels are hard or `labels` is false: `logits` fp16 [n, K, c]; `class` and `rank`
      i64 [n] name the file of each row; `box` f32 [n, K, 4] (left, top, width, height as fractions) and `flip`
      u8 [n, K] are the views. Its header holds the view policy.

    Raises `DataError` when the folder exists, images were mixed before labelling (a mixed view has no single file), or
    the codec dropped views.
    """
    require(not folder.exists(), f"{folder} exists; give a folder that does not")
    pack = release.pack if labels else None
    require(
        pack is None or pack.policy.mix != "cutmix_images",
        f"release {release.name} labels mixed images, which single files cannot show; export the images only",
    )
    require(
        pack is None or _holds_all(pack),
        f"release {release.name} has labels of some views only, which no dense array holds; export the images only",
    )
    folder.mkdir(parents=True)
    images = release.images
    rank = _ranks(images)
    for label in range(len(images.classes)):
        (folder / f"{label:05d}").mkdir()
    for image, label, place in zip(images.images, images.labels, rank, strict=True):
        (folder / f"{label:05d}" / f"{place:05d}.png").write_bytes(encode_png(image))
    names = {f"{label:05d}": name for label, name in enumerate(images.classes)}
    (folder / "classes.json").write_text(json.dumps(names, indent=1) + "\n", encoding="utf-8")
    if pack is not None:
        _write_labels(folder / "labels.safetensors", images, pack, rank)


def _holds_all(pack: LabelPack) -> bool:
    """Whether every view of every image can be decoded."""
    n, k = pack.shape.images, pack.shape.views
    rows, stored = np.repeat(np.arange(n), k), np.tile(np.arange(k), n)
    return bool(rebuild(pack, CODECS).holds(rows, stored, pack.shape).all())


def _ranks(images: ImageSet) -> Sequence[int]:
    """Place of each row among its class's rows."""
    seen = np.zeros(len(images.classes), dtype=np.int64)
    ranks = []
    for label in images.labels:
        ranks.append(int(seen[label]))
        seen[label] += 1
    return ranks


def _write_labels(path: Path, images: ImageSet, pack: LabelPack, rank: Sequence[int]) -> None:
    rows = np.flatnonzero(np.isin(pack.ids, images.ids))
    policy = pack.policy.labelling
    numbers = np.arange(pack.shape.views, dtype=np.int64)
    drawn = views.draw(policy, np.repeat(images.ids, len(numbers)), np.tile(numbers, len(rows)), len(rows))
    arrays: dict[str, Sliceable] = {
        "logits": Decoded(pack, rows),
        "box": drawn.box.reshape(len(rows), -1, 4).astype(np.float32),
        "flip": drawn.flip.reshape(len(rows), -1).astype(np.uint8),
        "class": images.labels,
        "rank": np.asarray(rank, dtype=np.int64),
    }
    write(path, arrays, {"views": json.dumps(asdict(policy), sort_keys=True)})


class Decoded:
    """A pack's logits fp16 [n, K, c], decoded when a slice of images is asked for: a whole set may exceed memory."""

    dtype = np.dtype(np.float16)

    def __init__(self, pack: LabelPack, rows: np.ndarray[Any, np.dtype[np.int64]]) -> None:
        self.pack = pack
        self.rows = rows
        self.codec = rebuild(pack, CODECS)
        self.arrays = {name: torch.from_numpy(np.ascontiguousarray(array[:])) for name, array in pack.arrays.items()}

    @property
    def shape(self) -> tuple[int, ...]:
        return len(self.rows), self.pack.shape.views, self.pack.shape.classes

    def __getitem__(self, index: slice) -> np.ndarray[Any, Any]:
        chosen = self.rows[index]
        k = self.pack.shape.views
        rows, stored = np.repeat(chosen, k), np.tile(np.arange(k, dtype=np.int64), len(chosen))
        drawn = views.draw(self.pack.policy.labelling, self.pack.ids[rows], stored, len(self.pack.ids))
        logits = self.codec.decode(self.arrays, rows, stored, self.pack.shape, drawn)
        return logits.reshape(len(chosen), k, -1).to(torch.float16).numpy()
