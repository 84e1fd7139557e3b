"""The result of judging: one row per set and student, with everything that a claim needs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field, model_validator

from dcpipe.reports.tabular import write_csv
from dcpipe.store.artifact import SCHEMA
from dcpipe.store.documents import Size, Strict, Text, checked, parse, read_bytes
from dcpipe.store.files import replacing
from dcpipe.store.manifest import read_manifest
from dcpipe.types import DataError, require

JUDGEMENT, TABLE, METRICS = "judgement.json", "judgement.csv", "metrics.json"
MAX_BYTES = 64 * 2**20
Percent = Annotated[float, Field(ge=0, le=100)]
ENOUGH = 3  # seeds, from which a standard deviation is told


class Row(Strict):
    """A set and the students that were trained on it.

    `kind` says what the row is compared as (`own`, `hard`, `random`, ...), `name` names it. `accuracy` is top-1 on test
    in percent, one number per seed, after the last epoch unless `protocol` says otherwise. `images` are the training
    images of an epoch. Bytes are measured on disk; `fp16_label_bytes` is what the labels would take uncompressed.
    `curve` has the mean accuracy over seeds after some numbers of epochs, if more tests were asked for.
    """

    kind: Text
    name: Text
    student: Text
    protocol: Text
    ipc: Size
    images: Size
    epochs: Size
    seeds: list[int] = Field(min_length=1, max_length=10_000)
    accuracy: list[Percent] = Field(min_length=1, max_length=10_000)
    image_bytes: Size
    label_bytes: Size
    teacher_bytes: Size
    fp16_label_bytes: Size
    curve: list[Annotated[list[float], Field(min_length=2, max_length=2)]] = Field(default=[], max_length=100_000)

    @model_validator(mode="after")
    def _one_accuracy_per_seed(self) -> Row:
        if len(set(self.seeds)) != len(self.seeds) or len(self.accuracy) != len(self.seeds):
            raise ValueError("needs distinct seeds and one accuracy for each")
        return self

    @property
    def total_bytes(self) -> int:
        """All that has to be shipped to train such a student."""
        return self.image_bytes + self.label_bytes + self.teacher_bytes

    @property
    def images_seen(self) -> int:
        """Training images in all epochs together: the compute of a student."""
        return self.images * self.epochs

    @property
    def mean(self) -> float:
        return float(np.mean(self.accuracy))

    @property
    def std(self) -> float | None:
        """Sample standard deviation over seeds; None if there are too few to tell."""
        return float(np.std(self.accuracy, ddof=1)) if len(self.accuracy) >= ENOUGH else None

    def told(self) -> str:
        """The accuracy in words: mean and deviation, or the numbers themselves if there are fewer than three."""
        if self.std is not None:
            return f"{self.mean:.1f} ± {self.std:.1f}"
        return f"{', '.join(f'{value:.1f}' for value in self.accuracy)} (n = {len(self.accuracy)})"


class Data(Strict):
    """The images that students were tested on, and that random ones were taken from; `digest` is that of data/images,
    which has them as they were read, and `test_digest` that of the test images (see `tested.digest`). Judgements of
    earlier versions have none of the two."""

    source: Text
    size: Size
    classes: Size
    train: Size
    test: Size
    digest: Text = ""
    test_digest: Text = ""


class Judgement(Strict):
    """What was judged: `what` is how it was named, `name` and `digest` are the release's. `versions` are those of the
    packages that trained the students, `device` is where. `remarks` are sentences about this set and these images that
    a reader of the numbers has to know."""

    format: int = Field(default=1, ge=1, le=1)
    what: Text
    name: Text
    digest: Text
    data: Data
    versions: dict[Text, Text] = Field(max_length=100)
    device: Text
    remarks: list[Text] = Field(default=[], max_length=100)
    rows: list[Row] = Field(min_length=1, max_length=10_000)

    def students(self) -> list[str]:
        """The networks in the order in which they were trained."""
        return list(dict.fromkeys(row.student for row in self.rows))

    def of(self, student: str) -> list[Row]:
        """The rows of one network."""
        return [row for row in self.rows if row.student == student]

    def row(self, kind: str, student: str) -> Row | None:
        """One row; None if it was not run."""
        return next((row for row in self.of(student) if row.kind == kind), None)

    @property
    def own(self) -> str:
        """The kind of the row of the set as it is shipped."""
        return self.rows[0].kind

    def named(self, row: Row) -> str:
        """The name of a row, with its epochs where they are not those of the set's students."""
        other = row.epochs != self.of(row.student)[0].epochs
        return f"{row.name}, {row.epochs} epoch{'' if row.epochs == 1 else 's'}" if other else row.name


def save(folder: Path, judgement: Judgement) -> None:
    """Write the judgement as JSON and, one line per row, as CSV, and the numbers that DVC shows in columns."""
    for name, content in ((JUDGEMENT, judgement.model_dump()), (METRICS, metrics(judgement))):
        with replacing(folder / name) as partial:
            partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    write_csv(folder / TABLE, table(judgement))


def table(judgement: Judgement) -> list[dict[str, Any]]:
    """The rows as plain values, with what can be computed of them; `std` is empty where there are too few seeds. `set`
    tells all rows apart."""
    several = len(judgement.students()) > 1
    return [
        {
            "set": f"{judgement.named(row)}, {row.student}" if several else judgement.named(row),
            **row.model_dump(exclude={"seeds", "accuracy", "curve"}),
            "seeds": len(row.seeds),
            "accuracy": round(row.mean, 2),
            "std": "" if row.std is None else round(row.std, 2),
            "total_bytes": row.total_bytes,
            "images_seen": row.images_seen,
        }
        for row in judgement.rows
    ]


def metrics(judgement: Judgement) -> dict[str, Any]:
    """A small tree of numbers for each network, as `dvc metrics` and `dvc exp show` have of an evaluation
    (`tabular.metrics`): `set` is the set as it is shipped, the others are by kind. `std` is there for enough seeds."""
    found: dict[str, Any] = {}
    for student in judgement.students():
        own, *others = judgement.of(student)
        accuracy = {row.kind.replace(" ", "_"): round(row.mean, 2) for row in others}
        found[student] = {
            "accuracy": {"set": round(own.mean, 2), **accuracy},
            **({} if own.std is None else {"std": round(own.std, 2)}),
            "bytes": {"labels": own.label_bytes, "total": own.total_bytes},
        }
    return found


def load(path: Path) -> Judgement:
    """The judgement in a folder of `dcpipe judge`, or in a JSON file. Raises `DataError` for anything else."""
    places = [path, path / JUDGEMENT, path / "data" / "judgement" / JUDGEMENT]
    file = next((place for place in places if place.is_file()), None)
    require(
        file is not None,
        f"{path} has no {JUDGEMENT}; give the folder of a judgement, which `dcpipe judge TAG --out FOLDER` makes",
    )
    assert file is not None
    content = read_bytes(file, MAX_BYTES, "judge the set again")
    return checked(Judgement, parse(content, file, "judge the set again"), file, "judge the set again")


def is_current(folder: Path) -> bool:
    """Whether a folder of `dcpipe judge` has a judgement that can be read and is on the images that are there now. What
    else it depends on, `request.write` tells."""
    try:
        found, images = load(folder), read_manifest(folder / "data" / "images", SCHEMA)
    except DataError:
        return False
    return found.data.digest == images.digest
