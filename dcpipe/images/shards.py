"""The parallel part of the stage `images`: reading, checking and writing one part of the table."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dcpipe import store
from dcpipe.images import PART_ROWS, SOURCES, PartReport, Source, inspect_part, split_minival
from dcpipe.images.index import placed
from dcpipe.shards import opened
from dcpipe.types import IntArray

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

    def parts(self) -> list[Part]:
        """All parts, in the order of the table."""
        return [(split, index) for split, rows in self.rows.items() for index in range(-(-len(rows) // PART_ROWS))]


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
    """Decode and check the images of a part, write it, and report on it. A part that is there with its report is left
    as it is."""
    path, note = job.path(part), Path(job.notes) / f"{part[0]}-{part[1]:05d}.json"
    if path.exists() and note.exists():
        return PartReport.from_json(json.loads(note.read_text(encoding="utf-8")))
    splits, (split, index) = splits_of(job.original), part
    rows = splits.rows[split][index * PART_ROWS : (index + 1) * PART_ROWS]
    source, classes = splits.test if split == "test" else splits.train, splits.train.classes
    encoded, report = inspect_part(source, rows, classes, job.size, rows)
    with store.replacing(note) as partial:
        partial.write_text(json.dumps(report.to_json()), encoding="utf-8")
    path.parent.mkdir(exist_ok=True)
    if job.copies:
        store.write_part(path, encoded, classes)
    else:
        store.write_index(path, placed(source, rows, encoded, job.original.source))
    return report
