"""The report of the images: what to know of a source before hours are spent on it, measured as every image is decoded.

It is kept in the lineage of data/images, so that it changes no digest, and shown by the stage, `dcpipe status` and the
card of a release. Shares are of all images of all splits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from dcpipe.images.inspection import PartReport
from dcpipe.store.documents import Size, Strict, Text, checked, parse, read_bytes, shown
from dcpipe.store.manifest import MANIFEST, MAX_BYTES
from dcpipe.types import IntArray

_SHOWN = 5  # of the smallest classes

Share = Annotated[float, Field(ge=0, le=1)]
Sides = Annotated[list[Size], Field(min_length=2, max_length=2)]  # width and height


class ClassCount(Strict):
    """A class and its train images."""

    name: Text
    images: Size


class PerClass(Strict):
    """Train images of a class: the fewest, the median and the most, the classes that have the fewest, and the number of
    each in label order."""

    fewest: Size
    median: float = Field(ge=0)
    most: Size
    smallest: list[ClassCount]
    counts: list[Size]


class Report(Strict):
    """What the images of a source are like.

    `counts`: images of each split. `sides`: width and height of the smallest, the median and the largest image, by
    area, before they are resized to squares of `size`. `enlarged_2x` and `enlarged_4x`: the share whose shorter side is
    enlarged more than that. `cropped`: the share of which the central square is less than half. `repeated`: train
    images that equal an earlier one in every pixel, and `leaked`: test images that equal a train image. `skipped`:
    corrupt images that were left out.
    """

    counts: dict[Text, Size]
    classes: Size
    per_class: PerClass
    size: Size
    sides: dict[Text, Sides]
    enlarged_2x: Share
    enlarged_4x: Share
    cropped: Share
    grey: Share
    repeated: Size
    leaked: Size
    skipped: Size

    def lines(self) -> list[str]:
        """The report in sentences without a full stop."""
        train, per_class = self.counts["train"], self.per_class
        fewest = ", ".join(f"{shown(one.name)[1:-1]} ({one.images:,})" for one in per_class.smallest)
        smallest, median, largest = ("x".join(map(str, self.sides[key])) for key in ("smallest", "median", "largest"))
        uneven = per_class.fewest != per_class.most
        others = [f"{n:,} {split}" for split, n in self.counts.items() if split != "train"]
        return [
            f"{train:,} train, {' and '.join(others)} images of {self.classes:,} classes",
            f"{per_class.fewest:,} to {per_class.most:,} train images per class, median {per_class.median:,g}; "
            f"fewest: {fewest}"
            if uneven
            else f"{per_class.fewest:,} train images per class",
            f"sizes {smallest} to {largest}, median {median}, read at {self.size}x{self.size}",
            f"{_percent(self.enlarged_2x)} are enlarged more than 2x, {_percent(self.enlarged_4x)} more than 4x; "
            f"{_percent(self.cropped)} lose more than half of their area by the crop to a square",
            f"{_percent(self.grey)} are grey",
            f"{self.repeated:,} train images repeat another one, and {self.leaked:,} test images are also in train",
            *(
                [f"{self.skipped:,} corrupt image{'s were' if self.skipped > 1 else ' was'} left out"]
                if self.skipped
                else []
            ),
        ]


def report(
    reports: Mapping[str, Sequence[PartReport]],
    labels: IntArray,
    classes: Sequence[str],
    size: int,
    duplicates: Mapping[str, Any],
) -> Report:
    """The report from those of the parts of each split.

    Args:
        reports: by split, with at least one image in train.
        labels: of the train images that were kept, i64 [n].
        classes: their names.
        size: side in pixels to which images are decoded.
        duplicates: what `inspection.duplicates` returned.
    """
    parts = [part for split in reports.values() for part in split]
    sides = np.array([side for part in parts for side in part.sides], dtype=np.int64).reshape(-1, 2)
    short, n = sides.min(axis=1), len(sides)
    by_area = np.argsort(sides.prod(axis=1), kind="stable")
    counts = np.bincount(labels, minlength=len(classes))
    fewest = np.argsort(counts, kind="stable")[:_SHOWN]
    seen = [text for split in ("train", "minival") for part in reports.get(split, ()) for text in part.hashes]
    return Report(
        counts={split: sum(part.count for part in split_parts) for split, split_parts in reports.items()},
        classes=len(classes),
        per_class=PerClass(
            fewest=int(counts.min()),
            median=float(np.median(counts)),
            most=int(counts.max()),
            smallest=[ClassCount(name=classes[label], images=int(counts[label])) for label in fewest],
            counts=counts.tolist(),
        ),
        size=size,
        sides={
            name: sides[row].tolist()
            for name, row in (("smallest", by_area[0]), ("median", by_area[n // 2]), ("largest", by_area[-1]))
        },
        enlarged_2x=float((2 * short < size).mean()),
        enlarged_4x=float((4 * short < size).mean()),
        cropped=float((2 * short < sides.max(axis=1)).mean()),
        grey=sum(part.grey for part in parts) / n,
        repeated=len(seen) - len(set(seen)),
        leaked=duplicates["test_images"],
        skipped=sum(len(part.corrupt) for part in parts),
    )


def recorded(folder: Path) -> Report | None:
    """The report of a finished artifact of images; None where there is none, or where it is older than reports."""
    manifest, remedy = folder / MANIFEST, f"remove {folder} and run `dvc repro`"
    if not manifest.is_file():
        return None
    content = parse(read_bytes(manifest, MAX_BYTES, remedy), manifest, remedy)
    lineage = content.get("lineage") if isinstance(content, dict) else None
    found = lineage.get("report") if isinstance(lineage, dict) else None
    return None if found is None else checked(Report, found, manifest, remedy, "in lineage.report")


def _percent(share: float) -> str:
    """A share in percent, of which a little is not nothing."""
    return "under 0.1 %" if 0 < share < 0.001 else f"{100 * share:.1f} %"
