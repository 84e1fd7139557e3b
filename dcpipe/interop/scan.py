"""Read all batches of a store once, and find the image and the view parameters of each label.

The k-th time an image appears, with epochs and batches in order, is its view k. Stores may be incomplete (LPLD keeps
only some batches), so images may appear a different number of times. K is the smallest number; labels beyond view K are
left over.

The scan keeps the parameters of the views in memory (46 bytes per view with CutMix, 17 without) and the place of each
label, but no logits.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dcpipe.interop.layouts import LAYOUTS, detect
from dcpipe.interop.records import Record, read_record
from dcpipe.store import Notes, StagingDir, digest_of
from dcpipe.types import VIEW_ARRAYS, IntArray, StoredViews, require

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Batches:
    """The files of a store in order of (epoch, batch), with their sizes."""

    store: Path
    files: tuple[Path, ...]
    numbers: tuple[tuple[int, int], ...]
    sizes: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.files)

    @property
    def digest(self) -> str:
        """The digest of names and sizes, which a resumed import compares."""
        names = [path.relative_to(self.store).as_posix() for path in self.files]
        return digest_of([names, self.sizes])


@dataclass(frozen=True, eq=False)
class Scan:
    """Label e, counted over all files, is view `number[e]` of image `image[e]`. The labels of file f start at
    `starts[f]`. `agreed` is the share of labels whose largest logit is the class of their image."""

    layout: str
    image: IntArray
    number: IntArray
    starts: IntArray
    classes: int
    agreed: float
    views: StoredViews

    @property
    def shape(self) -> tuple[int, int, int]:
        """(n, K, C)."""
        n, k = self.views.arrays["flip"].shape
        return n, k, self.classes

    @property
    def left_over(self) -> int:
        """The number of labels beyond view K of their image."""
        return int((self.number >= self.shape[1]).sum())


def find_batches(store: Path) -> Batches:
    """The files `epoch_E/batch_B.tar` of a store. Raises `DataError` if there are none."""
    require(store.is_dir(), f"label store {store} is not a folder; give the one that contains epoch_0, epoch_1, ...")
    found = []
    for folder in store.iterdir():
        epoch = re.fullmatch(r"epoch_(\d+)", folder.name)
        for path in folder.iterdir() if epoch and folder.is_dir() else ():
            batch = re.fullmatch(r"batch_(\d+)\.tar", path.name)
            if epoch and batch:
                found.append(((int(epoch[1]), int(batch[1])), path))
    require(bool(found), f"{store} has no epoch_*/batch_*.tar; give the folder that SRe2L's scripts call fkd_path")
    found.sort()
    files = tuple(path for _, path in found)
    return Batches(store, files, tuple(pair for pair, _ in found), tuple(path.stat().st_size for path in files))


def scan(
    batches: Batches,
    names: Sequence[str],
    labels: IntArray,
    n_classes: int,
    size: int,
    layout: str,
    seed: int,
    report: Callable[[], None],
) -> Scan:
    """Read every file; `report` is called after each one.

    `names` and `labels` i64 [n] are those of the images in the order of the dataset; `size` is the side of a view in
    pixels. Raises `DataError` for a file whose content does not fit the images, and for an image that never appears.
    """
    records: list[dict[str, Array]] = []
    counts, right = np.zeros(len(names), dtype=np.int64), 0
    first = read_record(batches.files[0])
    batch_size = len(first)
    if layout == "auto":
        layout = detect(batches.store, first)
    require(layout in LAYOUTS, f"unknown layout {layout!r}; choose one of auto, {', '.join(LAYOUTS)}")
    order = LAYOUTS[layout](batches.store, len(names), batch_size, seed)
    for path, (epoch, batch) in zip(batches.files, batches.numbers, strict=True):
        record = read_record(path)
        width = record.logits.shape[1]
        require(width == n_classes, f"{path} has logits of {width} classes, the images have {n_classes}")
        short = batch == len(names) // batch_size and len(record) == len(names) % batch_size
        require(
            len(record) == batch_size or short or layout == "edc",
            f"{path} has {len(record)} rows, others have {batch_size}; batches must be of one size",
        )
        image = order(epoch, batch, record)
        _check_images(path, image, len(names))
        right += int((record.logits.argmax(axis=1) == labels[image]).sum())
        records.append({"image": image, "number": counts[image], **_parameters(path, record, image, size)})
        counts[image] += 1
        report()
    missing = int(np.argmin(counts))
    require(
        counts[missing] > 0,
        f"image {names[missing]} (index {missing}) never appears in {batches.store}; remove it or label it",
    )
    image, number = (np.concatenate([record[key] for record in records]) for key in ("image", "number"))
    starts = np.concatenate([[0], np.cumsum([len(record["image"]) for record in records])])
    views = _views(records, image, number, (len(names), int(counts.min())), size)
    return Scan(layout, image, number, starts, n_classes, right / len(image), views)


def _check_images(path: Path, image: IntArray, n: int) -> None:
    inside = bool(((image >= 0) & (image < n)).all())
    require(inside, f"{path} has images {image.min()}..{image.max()}, expected 0..{n - 1}; give the labelled images")
    values, seen = np.unique(image, return_counts=True)
    require(bool((seen == 1).all()), f"{path} has image {values[seen.argmax()]} twice; a batch shows an image once")


def _parameters(path: Path, record: Record, image: IntArray, size: int) -> dict[str, Array]:
    """Kept views of the batch's rows, as `StoredViews` names them; those of the mix only where there is one."""
    cropped: dict[str, Array] = {"box": record.box, "flip": record.flip}
    if record.mixed is None or record.mix_box is None:
        return cropped
    last = max(record.mix_box)
    require(
        last <= size,
        f"{path} pastes up to pixel {last}, but views are assumed to have {size} pixels; give the right --size",
    )
    return {
        **cropped,
        "partner": image[record.mixed].astype(np.int32),
        "mix_box": np.tile(np.array(record.mix_box, dtype=np.uint16), (len(record), 1)),
        "partner_box": record.box[record.mixed],
        "partner_flip": record.flip[record.mixed],
    }


def _views(
    records: Sequence[dict[str, Array]], image: IntArray, number: IntArray, shape: tuple[int, int], size: int
) -> StoredViews:
    """The parameters of the views below K, image by image. In a store with mixes, a batch without a mix gets empty
    boxes, and each row is its own partner."""
    mixed = any("partner" in record for record in records)
    wanted = number < shape[1]
    arrays: dict[str, Array] = {}
    for name, (tail, dtype) in VIEW_ARRAYS.items() if mixed else list(VIEW_ARRAYS.items())[:2]:
        values = np.concatenate([record.get(name, _without_mix(record, name, tail)) for record in records])
        arrays[name] = np.zeros((*shape, *tail), dtype=dtype)
        arrays[name][image[wanted], number[wanted]] = values[wanted]
    return StoredViews("cutmix_images" if mixed else "none", size, arrays)


def _without_mix(record: dict[str, Array], name: str, tail: tuple[int, ...]) -> Array:
    if name == "mix_box":
        return np.zeros((len(record["image"]), *tail), dtype=np.uint16)
    return record[{"partner": "image", "partner_box": "box", "partner_flip": "flip"}.get(name, name)]


def save(staging: StagingDir, scanned: Scan) -> None:
    """Save a finished scan in the notes, from which a resumed import loads it."""
    facts = {"classes": scanned.classes, "agreed": scanned.agreed, "size": scanned.views.size}
    arrays = {"image": scanned.image, "number": scanned.number, "starts": scanned.starts}
    arrays |= {name: np.array(value) for name, value in (facts | {"layout": scanned.layout}).items()}
    Notes(staging.notes).save_arrays("scan", **arrays, **scanned.views.arrays)


def load(staging: StagingDir) -> Scan | None:
    """The scan that an earlier run saved, or None."""
    state = Notes(staging.notes).load_arrays("scan")
    if state is None:
        return None
    arrays = {name: state[name] for name in VIEW_ARRAYS if name in state}
    views = StoredViews("cutmix_images" if "partner" in arrays else "none", int(state["size"]), arrays)
    return Scan(
        str(state["layout"]),
        state["image"],
        state["number"],
        state["starts"],
        int(state["classes"]),
        float(state["agreed"]),
        views,
    )
