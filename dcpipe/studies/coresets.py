"""Coresets: the picks of selectors, with labels at one or more budgets, for the studies `selection`, `coefficients` and
`resilience`.

Each seed is used both for selection and for the student, so a standard deviation covers both. Every coreset is labelled
by the same teachers in the same views. Equal picks are labelled once and trained once per seed, even if they come from
different selectors. Each ipc is selected separately, because the smaller set of a selector is not always a prefix of
its larger one.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from dcpipe import selection, store
from dcpipe.config.blocks import Block
from dcpipe.config.options import check_options
from dcpipe.config.params import NOT_OF_STUDIES, CompressionBlock, Params
from dcpipe.evaluation.contenders import Contender, Labeller
from dcpipe.evaluation.students import protocol_of
from dcpipe.images import read_selection
from dcpipe.reports import pictures
from dcpipe.selection import Picks, Progress
from dcpipe.studies.base import CellResult, Study, StudyContext
from dcpipe.studies.summary import Row
from dcpipe.types import ImageTable, LabelShape, Selection, require

SHOWN = 10  # classes in a picture of picks, and images per class
HARD = "hard labels"


class SelectorEntry(Block):
    """A selector and its options, as in the block `selection` of params.yaml; `method` is by default the entry's name.

    Without `options`, the selector that params.yaml names gets the options given there, and any other selector gets its
    defaults. `change` is merged into these options; it cannot be given together with `options`.
    """

    method: str | None = None
    options: dict[str, Any] | None = None
    change: dict[str, Any] = Field(default_factory=dict)


@dataclass(frozen=True)
class Entry:
    """One selector with its options. `swept` is the coefficient that a sweep varies, or ""."""

    name: str
    method: str
    options: dict[str, Any]
    swept: str = ""


def entries_of(selectors: Mapping[str, SelectorEntry], params: Params) -> list[Entry]:
    """The selectors that a block names, in its order, with the options that they get."""
    entries = []
    for name, entry in selectors.items():
        method = entry.method or name
        options = default_options(method, params) if entry.options is None else entry.options
        entries.append(Entry(name, method, {**options, **entry.change}))
    return entries


def default_options(method: str, params: Params) -> dict[str, Any]:
    """The options of params.yaml if it selects by this method; otherwise none, so that the method's defaults apply."""
    return dict(params.selection.options) if params.selection.method == method else {}


def check_entries(selectors: Mapping[str, SelectorEntry], place: str) -> None:
    """Raises `DataError` for an entry that has both options and changes; `place` is the key of the selectors."""
    for name, entry in selectors.items():
        require(
            entry.options is None or not entry.change,
            f"{place}.{name} has both options and change; put all values into options, or remove options to change "
            "those of params.yaml",
        )


@dataclass(frozen=True)
class CoresetCell:
    """One coreset and its student of one seed."""

    entry: Entry
    ipc: int
    seed: int

    def __str__(self) -> str:
        return f"{self.entry.name}-ipc{self.ipc}-seed{self.seed}"


@dataclass(frozen=True, eq=False)
class Coreset:
    """The picks of a cell, and the seconds that selection took."""

    picks: Selection
    seconds: float

    @property
    def digest(self) -> str:
        """A digest that is equal for equal picks in equal order."""
        return store.digest_of(self.picks.ids.tolist())[:12]


class CoresetStudy(Study):
    """Abstract base: every selector at every number of images per class with every seed."""

    pictures: ClassVar[str] = "picked"
    reads: ClassVar[tuple[str, ...] | None] = ("selection", "softlabels", "compression", "evaluation")

    @property
    @abstractmethod
    def entries(self) -> list[Entry]:
        """The selectors, in the order of the rows."""

    @property
    @abstractmethod
    def sizes(self) -> list[int]:
        """Images per class, ascending."""

    @property
    def budgets(self) -> Mapping[str, CompressionBlock | None]:
        """The budgets that the labels of every coreset are packed to, by name; None for hard labels. The first can
        always be reached."""
        return {self.params.compression.codec: self.params.compression} if self.teachers else {HARD: None}

    def place(self, budget: str) -> Row:
        """The columns that identify a budget in a row, beside those of its coreset."""
        return {}

    @property
    def teachers(self) -> list[str]:
        """The teachers that label; none if labels are hard."""
        block = self.params.softlabels
        return block.teachers if block.method == "stored" else []

    @property
    def settings(self) -> dict[str, Any]:
        return {
            "study": self.block_settings,
            "softlabels": self.params.softlabels.model_dump(mode="json"),
            "compression": self.params.compression.model_dump(mode="json"),
            "evaluation": self.params.evaluation.model_dump(mode="json", exclude=set(NOT_OF_STUDIES)),
        }

    @property
    def block_settings(self) -> dict[str, Any]:
        """The study's block with the options that its selectors get."""
        content: dict[str, Any] = self.block.model_dump(mode="json")
        named = self.block.selectors
        selectors = {e.name: {"method": named[e.name].method, "options": e.options} for e in self.entries}
        return {**content, "selectors": selectors}

    @cached_property
    def cells(self) -> list[CoresetCell]:
        return self.all_cells()

    def all_cells(self) -> list[CoresetCell]:
        """Every entry at every size with every seed. Raises `DataError` for an unknown selector or wrong options."""
        for entry in self.entries:
            with self.error_context(entry.name):
                check_options(selection.SELECTORS, entry.method, entry.options)
        return [
            CoresetCell(entry, ipc, seed) for entry in self.entries for ipc in self.sizes for seed in self.block.seeds
        ]

    def check(self, context: StudyContext) -> None:
        super().check(context)
        with self.error_context():
            logits = any(selection.uses_logits(entry.method) for entry in self.entries)
            context.candidates.check(max(self.sizes), logits=logits)

    def run(self, context: StudyContext, cell: CoresetCell) -> CellResult:
        """One row per budget; `label_rate` is the mean R_C of the picks in nats, as used in selection."""
        coreset, rows = self.coreset(context, cell), list[Row]()
        rate = float(context.features.label_rate[context.features.rows_of(coreset.picks.ids)].mean())
        shared = {"label_rate": round(rate, 3), "picks": coreset.digest, "seconds": coreset.seconds}
        for name, block in self.budgets.items():
            note = self.budget_error(context, cell.ipc, block)
            if note:
                row: Row = {"seed": cell.seed, "accuracy": "", "image_bytes": rows[0]["image_bytes"], "label_bytes": 0}
            else:
                row = self.student(context, cell, coreset, name)
            place = {"selector": cell.entry.name, "ipc": cell.ipc, **self.place(name)}
            rows.append({**place, **row, **shared, "note": note})
        shown = {f"{cell.entry.name}-ipc{cell.ipc}": picture_of(context.train, coreset.picks)}
        return CellResult(rows, shown if cell.seed == self.block.seeds[0] else {})

    def coreset(self, context: StudyContext, cell: CoresetCell) -> Coreset:
        """The picks of a cell. A selector that does not use the seed runs once for all seeds."""
        shared = cell if selection.uses_seed(cell.entry.method) else replace(cell, seed=self.block.seeds[0])
        note = f"picks-{shared}"
        if (saved := context.notes.load_arrays(note)) is None:

            def select(cell: CoresetCell) -> dict[str, np.ndarray[Any, Any]]:
                with self.error_context(cell.entry.name):
                    picks, seconds = timed_picks(context, cell)
                chosen = context.candidates.selection(picks, cell.entry.method)
                return {"ids": chosen.ids, "labels": chosen.labels, "gains": chosen.gains, "seconds": np.array(seconds)}

            [saved] = context.map_tasks(select, [shared], str, progress="select")
            context.notes.save_arrays(note, **saved)
        picks = Selection(saved["ids"], saved["labels"], saved["gains"], cell.entry.method)
        return Coreset(picks, float(saved["seconds"]))

    def student(self, context: StudyContext, cell: CoresetCell, coreset: Coreset, budget: str) -> Row:
        """The row of a student that is trained on the coreset with labels at a budget.

        The labels are packed to all budgets that can be reached at once. The labels of other coresets are removed from
        disk before that, because together they could fill it. Hard labels need neither teachers nor a pack.
        """
        label, wanted = f"{cell.entry.name} ipc {cell.ipc}, {budget}", self.budgets[budget]

        def contender() -> Contender:
            notes = context.notes.within("coresets").only(coreset.digest)
            images = read_selection(context.train, coreset.picks)
            if wanted is None:
                return self.labeller(context).hard(label, images, notes).renamed(label, label)
            reached = {n: b for n, b in self.budgets.items() if b and not self.budget_error(context, cell.ipc, b)}
            made = self.labeller(context).contender(label, images, context.teachers, notes, {budget: wanted} | reached)
            return made.renamed(label, label)

        protocol = protocol_of(self.params.evaluation)
        [row] = context.students(f"score-{coreset.digest}-{budget}", label, [cell.seed], protocol, contender)
        return row

    def labeller(self, context: StudyContext, budget: CompressionBlock | None = None) -> Labeller:
        """A labeller with the settings of params.yaml, or with another budget if one is given."""
        return context.labeller(self.params.softlabels, budget or self.params.compression)

    def label_shape(self, context: StudyContext, ipc: int) -> LabelShape:
        """The shape of the soft labels of one coreset."""
        return self.labeller(context).shape(ipc, len(context.train.classes))

    def budget_error(self, context: StudyContext, ipc: int, budget: CompressionBlock | None) -> str:
        """Why the labels of `ipc` images per class cannot be packed to a budget; "" if they can, or if they are
        hard."""
        return self.labeller(context, budget).budget_error(self.label_shape(context, ipc)) if budget else ""


def timed_picks(context: StudyContext, cell: CoresetCell) -> tuple[Picks, float]:
    """The picks of a cell, and the seconds that selection took."""
    total = cell.ipc * context.candidates.n_classes
    progress = partial(context.report, f"select {cell}")
    callbacks = Progress(None, lambda picks: progress(len(picks.rows), total), progress)
    started = time.perf_counter()
    selector = selection.SELECTORS[cell.entry.method]
    picks = selector(context.candidates, cell.ipc, cell.seed, callbacks, **cell.entry.options)
    return picks, time.perf_counter() - started


def picture_of(train: ImageTable, picks: Selection) -> bytes:
    """The first picks of the first classes, as PNG."""
    rounds = np.arange(len(picks)) // len(train.classes)
    shown = (rounds < SHOWN) & (picks.labels < SHOWN)
    some = Selection(picks.ids[shown], picks.labels[shown], picks.gains[shown], picks.method)
    return pictures.grid(read_selection(train, some), SHOWN, SHOWN)


def conditions(params: Params, packed: str) -> str:
    """The settings that all rows share, in one line; `packed` describes how labels are packed, "" if all are hard."""
    protocol, labels = f"{params.evaluation.student}, {params.evaluation.epochs} epochs", params.softlabels
    if labels.method != "stored" or not packed:
        return f"{protocol}, hard labels"
    return f"{protocol}; {labels.views} views per image, labelled by {', '.join(labels.teachers)}; {packed}"
