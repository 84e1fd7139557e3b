"""`landscape`: how flat the losses are, of students and of synthesis, and how alike gradients are (EDC, Fig. 2).

The paper draws three things and defines none of them, gives no constants, and its code has none of the three. What is
measured here:

* **Sharpness of students by zeta** (Fig. 2b). Students are trained on the condensed set by the protocol of params.yaml
  with each of `zetas`, which stretches the schedule, or as it is without any. Of the loss that they were trained with,
  over the whole set in the views of epoch 0 and with batch norms in evaluation mode: the loss at the weights, the
  highest loss found at a distance of `radius` by one step of SAM and by `ascents` steps, the largest eigenvalue of the
  Hessian after `products` products with it, and the loss along `directions` random directions with the norms of the
  filters, at `points` places from -1 to 1 (`dcpipe.training.curvature`). A lower learning rate at the end (small zeta)
  also ends at a lower loss, so compare what the loss gains, not the loss.
* **Hessian of synthesis** (Fig. 2c, top). Each of `recoveries`, variants of params.yaml with a method that matches
  statistics, is run, and every `every` steps the Frobenius norm of the Hessian with respect to the images of its first
  batch is estimated by `probes` vectors of random signs (`dcpipe.synthesis.hessian`). Its seeds are those of synthesis.
* **Gradients of batches** (Fig. 2c, bottom). The cosine of the gradient of random batches with that of the whole set,
  for all real images, the condensed ones, and as many random ones (`dcpipe.evaluation.batch_gradients`), in a new
  student and in one that was trained on the condensed set for half of the epochs. Labels are hard.

Cost. A student per zeta and seed, with about 4 (`products` + `ascents`) + `directions` x `points` passes over the set;
a synthesis per recovery and seed, with 4 `probes` passes per observer at each measurement; `draws` batches of each
size, and one pass over the real images, per network and seed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from statistics import fmean
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import nn

from dcpipe import networks, selection, synthesis, training
from dcpipe.config.options import Options
from dcpipe.config.values import Count, Distinct, Positive
from dcpipe.evaluation import contenders
from dcpipe.evaluation.batch_gradients import Gradients, Labelled
from dcpipe.evaluation.students import Protocol, protocol_of, training_losses
from dcpipe.evaluation.whole_images import whole_images
from dcpipe.reports import figures
from dcpipe.reports.columns import Column, decimals, mean_and_std, text
from dcpipe.studies import own_set
from dcpipe.studies.base import CellResult, EntryName, Report, StudyBlock, StudyContext
from dcpipe.studies.summary import Row, arranged, grouped, rounded, summarise
from dcpipe.studies.variant_cells import VariantCell, synthesis_context, synthesised
from dcpipe.studies.variants import Variant, settings
from dcpipe.synthesis import hessian, recovery
from dcpipe.synthesis.recovery import Batch, Engine
from dcpipe.training import curvature
from dcpipe.types import NotApplicableError, require

SCHEDULES = ("smoothing", "linear", "ssrs")  # which zeta stretches
SHARP = ("loss", "sam", "ascent", "eigenvalue")
SHARED = ("student", "protocol")
NEW, HALF = "new", "half trained"


class LandscapeBlock(StudyBlock):
    """See the docstring of the module. `zetas`, `recoveries` and `batches` may be empty, and then this part is left
    out, or, of `zetas`, the students are those of params.yaml."""

    zetas: Annotated[list[Positive], Distinct] = Field(default=[])
    radius: Positive = 0.05
    ascents: Count = 5
    products: Count = 20
    directions: Count = 2
    points: Annotated[int, Field(ge=3, le=1001)] = 11
    recoveries: dict[EntryName, Variant] = Field(default={})
    every: Count = 15
    probes: Count = 8
    batches: Annotated[list[Count], Distinct] = Field(default=[25, 50, 100, 200])
    draws: Count = 20

    @property
    def lengths(self) -> list[float]:
        """The places along a direction."""
        return [float(place) for place in np.linspace(-1, 1, self.points)]


@dataclass(frozen=True)
class Students:
    """The students of one zeta; None for that of params.yaml."""

    zeta: float | None
    protocol: Protocol

    def __str__(self) -> str:
        return "students" if self.zeta is None else f"zeta {self.zeta}"


@dataclass(frozen=True)
class Recoveries:
    """A recovery, with its first seed."""

    cell: VariantCell

    def __str__(self) -> str:
        return self.cell.name


@dataclass(frozen=True)
class Batches:
    """Gradients in one network."""

    network: str

    def __str__(self) -> str:
        return f"gradients, {self.network}"


Cell = Students | Recoveries | Batches


class LandscapeStudy(own_set.OwnSetStudy):
    """Students, recoveries and gradients, each with tables of its own."""

    title: ClassVar[str] = "sharpness of students, Hessian of synthesis, gradients of batches (EDC, Fig. 2)"
    block_type: ClassVar[type[StudyBlock]] = LandscapeBlock
    needs: ClassVar[tuple[str, ...]] = ("images", "features", "synthesis", "compression")
    reads: ClassVar[tuple[str, ...] | None] = None
    shown: ClassVar[tuple[Column, ...]] = (
        text("zeta"),
        mean_and_std("accuracy"),
        *(decimals(key, 4) for key in SHARP[:-1]),
        decimals("eigenvalue", 2),
    )

    @property
    def teachers(self) -> list[str]:
        """All teachers, because any of them may observe or label."""
        return list(self.params.teacher.networks)

    @cached_property
    def cells(self) -> list[Cell]:
        return [*self._students(), *self._recoveries(), *self._batches()]

    def _students(self) -> Iterator[Students]:
        if not self.block.zetas:
            yield Students(None, self._protocol({}))
        for zeta in self.block.zetas:
            with self.error_context("zetas"):
                protocol = self._protocol({"zeta": zeta})
                if protocol.recipe.schedule not in SCHEDULES:
                    raise NotApplicableError(
                        f"schedule {protocol.recipe.schedule!r} has no zeta; give no zetas, or choose one of "
                        f"{', '.join(SCHEDULES)}"
                    )
            yield Students(zeta, protocol)

    def _protocol(self, changes: dict[str, Any]) -> Protocol:
        """The protocol of params.yaml with changes, tested after the last epoch."""
        params, _ = settings([Variant(evaluation=changes)], self.params.selection.ipc, self.content)
        return replace(protocol_of(params.evaluation, params.softlabels), best_of=1)

    def _recoveries(self) -> Iterator[Recoveries]:
        ipc = self.params.selection.ipc
        for name, variant in self.block.recoveries.items():
            with self.error_context("recoveries", name):
                cell = VariantCell(name, ipc, *settings([variant], ipc, self.content))
                method = cell.params.synthesis.method
                require(
                    method in recovery.MEASURES,
                    f"synthesis.method is {method!r}, which matches no statistics; choose one of "
                    f"{', '.join(recovery.MEASURES)}",
                )
            yield Recoveries(cell)

    def _batches(self) -> Iterator[Batches]:
        if self.block.batches:
            yield from (Batches(NEW), Batches(HALF))

    def check(self, context: StudyContext) -> None:
        """Also refuses a recovery that its selector or its observers do not allow, before students are trained."""
        super().check(context)
        for cell in self.cells:
            if isinstance(cell, Recoveries):
                choice, own = cell.cell.params.selection, cell.cell.params.synthesis
                with self.error_context("recoveries", str(cell)):
                    context.candidates.check(choice.ipc, logits=selection.uses_logits(choice.method))
                    recovery.check(own.method, own.options, synthesis_context(context))

    def run(self, context: StudyContext, cell: Cell) -> CellResult:
        one: Callable[[int], Any]
        if isinstance(cell, Students):
            one = partial(self._sharpness, context, cell)
        elif isinstance(cell, Recoveries):
            one = partial(self._hessian, context, cell)
        else:
            one = partial(self._cosines, context, cell)
        found = context.map_tasks(one, list(self.block.seeds), lambda seed: f"{cell}/seed {seed}", progress=str(cell))
        return CellResult([row for rows in found for row in rows])

    def _sharpness(self, context: StudyContext, cell: Students, seed: int) -> list[Row]:
        """The rows of a student: one of the measures, and one for every place along the directions."""
        note, block = _note(cell, seed), self.block
        if (kept := context.notes.load_json(note)) is None:
            student, accuracy = self._trained(context, cell.protocol, seed, note)
            made = own_set.contender(own_set.names(self.params)[0], self.params, context)
            dataset = contenders.dataset_of(made, cell.protocol, context.train, context.device)
            colours = {"mean": context.train.mean, "std": context.train.std}
            student.eval().requires_grad_(True)
            surface = curvature.Surface(
                list(student.parameters()), lambda: training_losses(student, dataset, cell.protocol, **colours)
            )
            generator = torch.Generator().manual_seed(seed)
            losses = curvature.highest_within(surface, block.radius, block.ascents)
            kept = {
                "accuracy": accuracy,
                "loss": losses[0],
                "sam": losses[1],
                "ascent": max(losses[1:]),
                "eigenvalue": curvature.largest_eigenvalue(surface, block.products, generator),
                "lines": [
                    curvature.along(surface, curvature.filter_normalised(surface.point, generator), block.lengths)
                    for _ in range(block.directions)
                ],
            }
            context.notes.save_json(note, kept)
        lines = kept.pop("lines")
        place = {"zeta": "" if cell.zeta is None else cell.zeta, "seed": seed}
        shared = {"student": cell.protocol.student, "protocol": cell.protocol.name}
        return [
            {"of": "students", **place, **kept, **shared},
            *(
                {"of": "lines", **place, "direction": number, "place": length, "loss": loss}
                for number, line in enumerate(lines, 1)
                for length, loss in zip(block.lengths, line, strict=True)
            ),
        ]

    def _hessian(self, context: StudyContext, cell: Recoveries, seed: int) -> list[Row]:
        """The rows of a recovery: the norm by step and observer."""
        block, notes = self.block, context.notes.within(_note(cell, seed))
        own = cell.cell.params.synthesis
        iterations = Options.of(synthesis.METHODS[own.method]).resolve(own.options, own.method)["iterations"]
        steps = [step for step in range(iterations + 1) if step % block.every == 0 or step == iterations]

        def watch(engine: Engine, batch: Batch, number: int) -> None:
            if number == 0 and batch.step in steps and notes.load_json(f"step-{batch.step}") is None:
                notes.save_json(f"step-{batch.step}", hessian.norms(engine, batch, number, block.probes, seed))

        if (rows := notes.load_json("rows")) is None:
            seeded = own.model_copy(update={"seed": own.seed + seed})
            changed = replace(cell.cell, params=cell.cell.params.model_copy(update={"synthesis": seeded}))
            with self.error_context("recoveries", str(cell)):
                synthesised(context, changed, notes.within("recovery"), watch=watch)
            rows = [
                {"step": step, "observer": observer, "norm": norm}
                for step in steps
                for observer, norm in notes.load_json(f"step-{step}").items()
            ]
            notes.save_json("rows", rows)
            notes.remove("recovery")
        return [{"of": "hessian", "recovery": str(cell), "seed": seed, **row} for row in rows]

    def _cosines(self, context: StudyContext, cell: Batches, seed: int) -> list[Row]:
        """The rows of a network: the mean cosine by images and size of batches."""
        note, params = _note(cell, seed), self.params
        if (kept := context.notes.load_json(note)) is None:
            train, protocol = context.train, self._protocol({})
            if cell.network == HALF:
                recipe = replace(protocol.recipe, epochs=-(-protocol.recipe.epochs // 2))
                network, _ = self._trained(context, replace(protocol, recipe=recipe), seed, note)
            else:
                torch.manual_seed(seed)
                network = networks.build(protocol.student, len(train.classes), train.size)
            gradients = Gradients(network.requires_grad_(True), train.mean, train.std, context.device)
            random = own_set.random_of(params, context)
            sets = {"real": Labelled.of_table(train), "condensed": Labelled.of_set(context.condensed)}
            kept = {
                name: {
                    "images": len(among),
                    "cosines": gradients.cosines(among, self.block.batches, self.block.draws, seed),
                }
                for name, among in {**sets, "random": Labelled.of_set(random)}.items()
            }
            context.notes.save_json(note, kept)
        return [
            {"of": "gradients", "network": cell.network, "set": name, "images": found["images"], "seed": seed}
            | {"batch": int(size), "cosine": value}
            for name, found in kept.items()
            for size, value in found["cosines"].items()
        ]

    def _trained(self, context: StudyContext, protocol: Protocol, seed: int, note: str) -> tuple[nn.Module, float]:
        """A student of the condensed set with its labels, and its accuracy."""
        made = own_set.contender(own_set.names(self.params)[0], self.params, context)
        checkpoint = context.notes.folder / f"{note}.pt"
        student, _ = contenders.trained(
            made, protocol, context.train, seed, device=context.device, checkpoint=checkpoint, title=note
        )
        train, folder = context.train, context.notes.folder
        batches = whole_images(context.test, folder, train.mean, train.std, context.device)
        return student, training.accuracy(student, batches, context.device)

    def report(self, context: StudyContext, rows: list[Row]) -> Report:
        of = {key: [row for row in rows if row["of"] == key] for key in ("students", "lines", "hessian", "gradients")}
        students = rounded(of["students"])
        lines = averaged(of["lines"], ("zeta", "place"), "loss")
        steps = averaged(averaged_observers(of["hessian"]), ("recovery", "step"), "norm")
        cosines = averaged(of["gradients"], ("network", "set", "images", "batch"), "cosine")
        summary = summarise(students, ("zeta",), means=dict.fromkeys(SHARP, 6), same=SHARED)
        shared = f"{students[0]['student']}; {self._protocol({}).name}"
        drawn = figures.landscape(summary, lines, steps, cosines, shared)
        tables = {
            "results": arranged(students, ("zeta", "seed", "accuracy", *SHARP, *SHARED)),
            "summary": arranged(summary, ("zeta", "accuracy", "std", *SHARP, "seeds", *SHARED)),
            "lines": lines,
            "hessian": steps,
            "gradients": cosines,
        }
        return Report({key: table for key, table in tables.items() if table}, {"figure": figures.png(drawn)})


def _note(cell: Cell, seed: int) -> str:
    return f"{cell}-{seed}".replace(" ", "-").replace(",", "")


def averaged_observers(rows: Sequence[Row]) -> list[Row]:
    """One row per recovery, step and seed, with the mean norm over observers."""
    return [
        {**group[0], "norm": fmean(row["norm"] for row in group)}
        for group in grouped(rows, ("recovery", "step", "seed"))
    ]


def averaged(rows: Sequence[Row], by: Sequence[str], value: str) -> list[Row]:
    """One row per group that agrees in the columns `by`: mean and deviation of a value over seeds (and directions),
    with six decimals."""
    found = []
    for group in grouped(rows, by):
        values = np.array([row[value] for row in group], dtype=np.float64)
        std = float(values.std(ddof=1)) if len(values) > 1 else 0.0
        place = {key: group[0][key] for key in by}
        found.append(
            {
                **place,
                value: round(float(values.mean()), 6),
                "std": round(std, 6),
                "seeds": len({row["seed"] for row in group}),
            }
        )
    return found
