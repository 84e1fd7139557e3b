"""The interface of a study, and the context that it works in.

A study runs its cells one after another under one protocol, and makes tables and figures of the accuracies. Finished
work is saved as notes, so that an interrupted study continues after the last piece of work, and cells with equal
settings share it.
"""

from __future__ import annotations

import csv
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from rich.table import Table

from dcpipe import networks, selection, store
from dcpipe.config.blocks import Block
from dcpipe.config.check import whitening_of
from dcpipe.config.params import CompressionBlock, Params, SoftLabelsBlock
from dcpipe.config.values import AtLeastOne, Count, Distinct, Seeds
from dcpipe.evaluation import shards
from dcpipe.evaluation.contenders import Contender, Labeller
from dcpipe.evaluation.students import Protocol
from dcpipe.reports import figures
from dcpipe.reports.columns import Column, protocol_line, table_of, when_tested
from dcpipe.studies.summary import Row
from dcpipe.types import (
    DataError,
    Features,
    ImageSet,
    ImageTable,
    Map,
    NotApplicableError,
    SoftLabels,
    Teacher,
    require,
)

FILE = Path("studies/params.yaml")
BYTES = ("image_bytes", "label_bytes", "teacher_bytes")  # columns of what a student learnt from
EntryName = Annotated[str, Field(pattern=r"^[a-z0-9]+([_.-][a-z0-9]+)*$")]
Sizes = Annotated[list[Count], Field(min_length=1), Distinct]
Ratios = Annotated[list[AtLeastOne], Field(min_length=1), Distinct]
Split = Literal["test", "minival"]


class StudyBlock(Block):
    """The keys that every study has in studies/params.yaml: the seeds of its students (at least three, because every
    number is a mean) and the split that they are tested on."""

    seeds: Seeds
    split: Split = "test"

    def check(self, name: str) -> None:
        """Raises `DataError` for values that contradict each other; `name` is the name of the block in its file."""


@dataclass(frozen=True, eq=False)
class StudyContext:
    """The data that a study works with, and the callbacks that run tasks and report progress.

    Images are selected from `train`, and students are tested on `test`. `artifacts` are folders by kind. `teachers` and
    `teacher_bytes`, the bytes of their weights, are by key. `report` shows the progress of a piece of
    work: its title, the steps done and all steps. `live` reports the progress of a synthesis, for `synthesis.Progress`.
    """

    train: ImageTable
    test: ImageTable
    artifacts: Mapping[str, Path]
    teachers: Mapping[str, Teacher]
    teacher_bytes: Mapping[str, int]
    notes: store.Notes
    device: torch.device
    map_tasks: Map
    report: Callable[[str, int, int], None]
    live: Callable[[int, int, str, Callable[[], ImageSet]], None]

    @cached_property
    def features(self) -> Features:
        """The features of all train images."""
        return store.load_features(self.artifacts["features"])

    @cached_property
    def candidates(self) -> selection.Candidates:
        """All train images in the form that selectors take."""
        return selection.candidates_of(self.features, self.train.classes, self.notes.folder)

    @cached_property
    def condensed(self) -> ImageSet:
        """The workspace's condensed images."""
        return store.load_set(self.artifacts["synthesis"])

    @cached_property
    def soft_labels(self) -> SoftLabels:
        """The uncompressed labels of `condensed`."""
        return store.load_soft_labels(self.artifacts["softlabels"])

    def labeller(self, softlabels: SoftLabelsBlock, compression: CompressionBlock) -> Labeller:
        """A `Labeller` that makes contenders with the settings of these blocks."""
        return Labeller(softlabels, compression, self.device, self.map_tasks)

    def students(
        self, note: str, label: str, seeds: Sequence[int], protocol: Protocol, contender: Callable[[], Contender]
    ) -> list[Row]:
        """One row per seed: the accuracy of a student in percent, and the bytes of the data that it was trained on. If
        the protocol tests a learning curve, `curve` has its (epoch, accuracy) pairs.

        Each student is a task. It is trained once for all cells that give the same `note`, and the contender is made
        only if a student is missing. `label` is displayed.
        """
        notes = {seed: f"{note}-{seed}" for seed in seeds}
        missing = [seed for seed in seeds if self.notes.load_json(notes[seed]) is None]
        if missing:
            made = contender()
            self.notes.save_json(f"{note}-bytes", {key: getattr(made, key) for key in BYTES})
            job = shards.job_of(made, protocol, self.train, self.test, self.notes.folder, self.device)
            work = shards.Work(made, protocol, self.train, self.test, self.notes.folder, self.device)

            def train(seed: int) -> dict[str, Any]:
                """A student of a contender that is only in memory."""
                return shards.trained(notes[seed], self.notes.folder, lambda: work.score(seed))

            titles = {seed: f"{label}/seed {seed}" for seed in missing}
            if job is None:
                self.map_tasks(train, missing, titles.__getitem__, progress=f"students of {label}")
            else:
                shards.work_of.put(work, job)
                students = [shards.Student(job, seed, notes[seed]) for seed in missing]
                self.map_tasks(
                    shards.train, students, lambda student: titles[student.seed], progress=f"students of {label}"
                )
                shards.work_of.forget()
        sizes = self.notes.load_json(f"{note}-bytes")
        return [{"seed": seed, **sizes, **row_of(self.notes.load_json(notes[seed]), protocol)} for seed in seeds]


def row_of(outcome: Row, protocol: Protocol) -> Row:
    """The columns of the outcome of a student."""
    tested = [(row["epoch"], row["accuracy"]) for row in outcome["history"] if "accuracy" in row]
    return {"accuracy": outcome["accuracy"], **({"curve": tested} if protocol.curve else {})}


@dataclass(frozen=True)
class CellResult:
    """The rows of one cell, and pictures (PNG) by name."""

    rows: list[Row]
    pictures: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class Report:
    """What a study publishes: tables for NAME.csv, among them `results` and `summary`, and figures for NAME.png.

    Everything but the summary, which contains measured seconds, is the same in every run.
    """

    tables: Mapping[str, list[Row]]
    figures: Mapping[str, bytes]


class Study(ABC):
    """Abstract base of the studies in `STUDIES`: a study with its block and the parameters of the workspace.

    `params` are the parameters of the workspace and `content` is its params.yaml. Class attributes describe the stage:

    * `title`     what the study does
    * `needs`     the artifacts that it opens, in addition to teachers
    * `reads`     the blocks of params.yaml that it depends on (None: all)
    * `figures`   the names of its figures
    * `pictures`  the folder of its pictures
    * `shown`     the columns of its table in the terminal
    """

    title: ClassVar[str]
    block_type: ClassVar[type[StudyBlock]]
    needs: ClassVar[tuple[str, ...]] = ("images", "features")
    reads: ClassVar[tuple[str, ...] | None] = ("softlabels", "compression", "evaluation")
    figures: ClassVar[tuple[str, ...]] = ("figure",)
    pictures: ClassVar[str] = ""
    shown: ClassVar[tuple[Column, ...]] = ()

    def __init__(self, name: str, block: Any, params: Params, content: Mapping[str, Any]) -> None:
        self.name, self.block, self.params, self.content = name, block, params, content

    @property
    @abstractmethod
    def teachers(self) -> list[str]:
        """The keys of the teachers that the study needs."""

    @property
    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """Everything that the results depend on, apart from inputs and code, as JSON values."""

    @property
    @abstractmethod
    def cells(self) -> Sequence[Any]:
        """The cells of the study, in the order of their rows. Raises `DataError` for invalid parameters."""

    def check(self, context: StudyContext) -> None:
        """Raises `DataError`, before any work, for a cell that could not be finished; the message names the cell."""
        figures.need_matplotlib()
        if self.params.evaluation.learns_rate:
            raise NotApplicableError(
                "evaluation.lr is learned, which is known for the set of the workspace alone; set it to a number"
            )
        own = [self.params] if "synthesis" in self.needs else []
        others = [cell.params for cell in self.cells if isinstance(getattr(cell, "params", None), Params)]
        if any(whitening_of(params) is not None for params in [*own, *others]):
            raise NotApplicableError(
                "synthesis.options has whitening, and studies normalise by mean and deviation; leave whitening out"
            )
        if context.teachers:
            networks.check_teachers(dict(context.teachers), context.train.classes, context.train.size)

    @abstractmethod
    def run(self, context: StudyContext, cell: Any) -> CellResult:
        """Do the work of one cell, or the rest of it after an interruption."""

    @abstractmethod
    def report(self, context: StudyContext, rows: list[Row]) -> Report:
        """Make tables and figures of the rows of all cells."""

    @classmethod
    def table(cls, path: Path) -> Table:
        """A table for the terminal from a summary.csv."""
        with path.open(encoding="utf-8", newline="") as stream:
            rows: list[Row] = list(csv.DictReader(stream))
        return table_of(cls.heading(rows), cls.lines(rows), cls.columns(rows))

    @classmethod
    def heading(cls, rows: Sequence[Row]) -> str:
        """The title of the table in the terminal."""
        if "protocol" not in rows[0]:
            return f"top-1 in percent, mean ± std over {rows[0]['seeds']} seeds"
        when = when_tested(row["protocol"] for row in rows)
        return f"top-1 in percent, {when}, mean ± std over {rows[0]['seeds']} seeds\n{protocol_line(rows)}"

    @classmethod
    def columns(cls, rows: Sequence[Row]) -> Sequence[Column]:
        """The columns of `shown` that the rows have."""
        return [column for column in cls.shown if column.key in rows[0]]

    @classmethod
    def lines(cls, rows: Sequence[Row]) -> Sequence[Row]:
        """The lines of the table in the terminal: the rows, unless a study transposes them."""
        return rows

    @contextmanager
    def error_context(self, *where: str) -> Iterator[None]:
        """Adds the place in studies/params.yaml to the errors that are raised inside; they keep their kind."""
        try:
            yield
        except DataError as error:
            raise type(error)(f"{FILE}: {', '.join((self.name, *where))}: {error}") from error

    def needs_stored_labels(self) -> None:
        """Raises `NotApplicableError` where params.yaml makes no soft labels."""
        if self.params.softlabels.method != "stored":
            method = self.params.softlabels.method
            raise NotApplicableError(f"softlabels.method is {method}: there are no labels to compress; choose stored")

    def check_split(self, counts: Mapping[str, int]) -> None:
        """Raises `DataError` if the split that students are tested on is empty."""
        split = self.block.split
        require(
            counts[split] > 0,
            f"{FILE}: {self.name}.split is {split}, which is empty; raise images.minival, or use test",
        )
