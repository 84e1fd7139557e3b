"""The parallel part of the stage `images`: reading, checking and writing one part of the table."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dcpipe import store
from dcpipe.images import PART_ROWS, SOURCES, PartReport, Source, inspect_part, split_minival
from dcpipe.images.index import placed
from dcpipe.shards import opened
from dcpipe.types import EncodedImage, IntArray

Part = tuple[str, int]  # a split, and the number of a part in it


@dataclass(frozen=True)
class Original:
    """Where images come from: the name and options (as JSON) of a source, a digest of the list of its files ("" if it
    has none), and how many of the train images become minival."""

    source: str
    options: str
    listing: str
    minival: float
    seed: int


@dataclass(frozen=True)
class Job:
    """What all parts have in common: where images come from, the side of decoded images in pixels, the folders of the
    parts and of the notes about them, and whether images are copied into the parts."""

    original: Original
    size: int
    folder: str
    notes: str
    copies: bool = True

    def path(self, part: Part) -> Path:
        """The file of a part."""
        return Path(self.folder) / part[0] / f"part-{part[1]:05d}.parquet"


@dataclass(frozen=True, eq=False)
class Splits:
    """An open source: its splits, and the rows i64 of each that train, minival and test take."""

    train: Source
    test: Source
    rows: dict[str, IntArray]

    def source(self, split: str) -> Source:
        """The split of the source that train, minival or test is a part of."""
        return self.test if split == "test" else self.train


def parts_of(rows: Mapping[str, IntArray]) -> list[Part]:
    """All parts of splits with these rows, in the order of the table."""
    return [(split, index) for split, kept in rows.items() for index in range(-(-len(kept) // PART_ROWS))]


def changed_parts(before: Mapping[str, IntArray], after: Mapping[str, IntArray]) -> list[tuple[Part, IntArray]]:
    """The parts whose rows change, with their rows, if those of the splits are now `after`."""
    spans = [(part, slice(part[1] * PART_ROWS, (part[1] + 1) * PART_ROWS)) for part in parts_of(after)]
    return [
        (part, after[part[0]][span])
        for part, span in spans
        if not np.array_equal(before[part[0]][span], after[part[0]][span])
    ]


@opened
def splits_of(original: Original) -> Splits:
    """Open a source. Raises what it raises for data that is missing or wrong."""
    splits = SOURCES[original.source](**json.loads(original.options))
    train, test = splits["train"], splits["test"]
    cut = split_minival(train.labels, original.minival, original.seed)
    rows = dict(zip(("train", "minival"), cut, strict=True))
    rows["test"] = np.arange(len(test.labels), dtype=np.int64)
    return Splits(train, test, rows)


def write_part(job: Job, part: Part) -> PartReport:
    """Decode and check the images of a part, write those that are intact, and report on all. A part that is there with
    its report is left as it is."""
    path, note = job.path(part), Path(job.notes) / f"{part[0]}-{part[1]:05d}.json"
    if path.exists() and note.exists():
        return PartReport.from_json(json.loads(note.read_text(encoding="utf-8")))
    splits, (split, index) = splits_of(job.original), part
    rows = splits.rows[split][index * PART_ROWS : (index + 1) * PART_ROWS]
    encoded, report = inspect_part(splits.source(split), rows, splits.train.classes, job.size, rows)
    with store.replacing(note) as partial:
        partial.write_text(json.dumps(report.to_json()), encoding="utf-8")
    _write(job, part, encoded)
    return report


def write_again(job: Job, given: tuple[Part, IntArray]) -> None:
    """Write a part that has these rows i64 [m], because corrupt images were left out here or in a part before."""
    part, rows = given
    splits = splits_of(job.original)
    source = splits.source(part[0])
    labels, encoded = source.labels[rows], source.read(rows)
    found = zip(rows.tolist(), encoded, labels.tolist(), strict=True)
    _write(job, part, [EncodedImage(row, data, path, label) for row, (data, path), label in found])


def _write(job: Job, part: Part, images: list[EncodedImage]) -> None:
    splits, path = splits_of(job.original), job.path(part)
    path.parent.mkdir(exist_ok=True)
    if job.copies:
        store.write_part(path, images, splits.train.classes)
    else:
        rows = np.array([image.id for image in images], dtype=np.int64)
        store.write_index(path, placed(splits.source(part[0]), rows, images, job.original.source))
