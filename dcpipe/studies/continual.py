"""`continual`: class-incremental learning from a memory of few images (EDC, Fig. 4; the protocol of DM's code).

Idea. Classes arrive in tasks, and only a small memory of the earlier ones may be kept. As in GDumb (Prabhu et al., ECCV
2020) and DM (Zhao & Bilen, WACV 2023), the memory of each class is chosen when it arrives, and after every task a new
network is trained from scratch on the whole memory. So the memory alone decides what is still known. Which images
should it hold: the condensed ones, or random or herded real ones in as many bytes?

Formula. The class order of a seed s is NumPy's legacy `RandomState(s).permutation(classes)`, as in DM's code, cut into
`tasks` parts of nearly equal size. a(k, j) is the accuracy on the test images of task j after task k. Of a memory:

* accuracy after task k: on the test images of all classes seen so far. The network has an output for every class from
  the first task on, and those of classes not yet seen are not masked.
* average: the mean of these accuracies over all tasks
* forgetting: F = mean over j < K of max over k < K of a(k, j), minus a(K, j)

Memories. `condensed` with its soft labels, with hard ones, and `random` and `herding` real images with hard labels, as
many per class as take no more bytes than the condensed set with its labels (`equal: images` takes as many images
instead). Real images are those of the seed of params.yaml. Images with soft labels are labelled after every task by the
teachers of params.yaml, and each label is cut to the classes seen so far. The loss of the protocol then compares the
student's outputs of these classes, and that no other class is meant is a term without temperature (`losses.among`).

What this flatters. The teachers, the features of `herding` and, in general, the synthesis of the condensed set have
seen all classes, so soft labels and synthesised images are upper bounds of what could be made while classes arrive; DM
condenses each task alone. Selections of real images within a class and hard labels do not depend on other classes,
apart from the features.

Cost. One student per memory, task and seed, on all images of the classes seen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import fmean
from typing import Annotated, Any, ClassVar, Literal, get_args

import numpy as np
import torch
from pydantic import Field

from dcpipe import images as reading
from dcpipe import selection, store, training
from dcpipe.config.values import Distinct
from dcpipe.dataset.targets import Labels
from dcpipe.evaluation import contenders
from dcpipe.evaluation.contenders import Contender
from dcpipe.evaluation.lineup import random_images
from dcpipe.evaluation.students import Protocol, protocol_of
from dcpipe.evaluation.whole_images import whole_images
from dcpipe.reports import figures
from dcpipe.reports.columns import Column, decimals, mean_and_std, size, text
from dcpipe.studies import own_set
from dcpipe.studies.base import BYTES, CellResult, Report, StudyBlock, StudyContext
from dcpipe.studies.summary import Row, arranged, grouped, rounded, summarise
from dcpipe.training import losses
from dcpipe.types import ImageSet, IntArray, NotApplicableError, require
from dcpipe.views import Views

Memory = Literal["random", "herding", "condensed-hard", "condensed"]
PLACE = ("memory", "task", "classes")
SHARED = ("ipc", *BYTES, "student", "protocol")
RESULTS = (*PLACE, "seed", "accuracy", *SHARED)
SUMMARY = (*PLACE, "accuracy", "std", "average", "forgetting", "seeds", *SHARED)


class ContinualBlock(StudyBlock):
    """`tasks`: number of parts that the classes are cut into. `memories`: the rows. `equal`: whether random and herded
    memories have as many bytes as the condensed set with its labels, or as many images."""

    tasks: Annotated[int, Field(ge=2)]
    memories: Annotated[list[Memory], Field(min_length=1), Distinct] = Field(default=list(get_args(Memory)))
    equal: Literal["bytes", "images"] = "bytes"


@dataclass(frozen=True)
class ContinualCell:
    """One memory."""

    memory: Memory

    def __str__(self) -> str:
        return self.memory


class SeenLabels:
    """Distributions of other labels, cut to the classes seen so far and scaled to a sum of 1; nothing is left for
    other classes. It equals the softmax of the logits of these classes alone.

    A label that gives all these classes a probability of 0, as `topk` does if it keeps other classes only, tells them
    not apart, so it becomes uniform over them.
    """

    def __init__(self, whole: Labels, seen: IntArray, n_classes: int, device: torch.device) -> None:
        self.whole, self.n_images = whole, whole.n_images
        self.seen = torch.zeros(n_classes, device=device)
        self.seen[torch.from_numpy(seen).to(device)] = 1.0

    def plan(self, epoch: int) -> tuple[IntArray, IntArray]:
        """As the other labels."""
        return self.whole.plan(epoch)

    def locate(self, rows: IntArray, stored: IntArray, drawn: Views) -> Mapping[str, Any]:
        """As the other labels."""
        return self.whole.locate(rows, stored, drawn)

    def targets(
        self, located: Mapping[str, torch.Tensor], inputs: torch.Tensor, temperature: float | None
    ) -> torch.Tensor:
        """The cut targets f32 [m, c]."""
        assert temperature is not None
        cut = self.whole.targets(located, inputs, temperature) * self.seen
        mass = cut.sum(1, keepdim=True)
        cut = torch.where(mass > 0, cut, self.seen)
        return cut / cut.sum(1, keepdim=True)


class ContinualStudy(own_set.OwnSetStudy):
    """Every memory, task after task."""

    title: ClassVar[str] = "learn classes task by task from memories of equal bytes (EDC, Fig. 4)"
    block_type: ClassVar[type[StudyBlock]] = ContinualBlock
    needs: ClassVar[tuple[str, ...]] = ("images", "features", "synthesis", "compression")
    reads: ClassVar[tuple[str, ...] | None] = None
    shown: ClassVar[tuple[Column, ...]] = (
        text("memory"),
        text("classes"),
        mean_and_std("accuracy"),
        decimals("average", 1),
        decimals("forgetting", 1),
        text("ipc"),
        size("images", "image_bytes"),
        size("labels", "label_bytes"),
    )

    @property
    def teachers(self) -> list[str]:
        return list(self.params.softlabels.teachers) if self.params.softlabels.method == "stored" else []

    @cached_property
    def protocol(self) -> Protocol:
        """How the network of every task is trained: the protocol of the evaluation, tested after the last epoch."""
        return replace(protocol_of(self.params.evaluation, self.params.softlabels), best_of=1)

    @cached_property
    def cells(self) -> list[ContinualCell]:
        if "condensed" in self.block.memories:
            with self.error_context("memories"):
                if self.params.softlabels.method != "stored":
                    raise NotApplicableError(
                        f"softlabels.method is {self.params.softlabels.method}, so the memory condensed has no soft "
                        "labels; give memories: [random, herding, condensed-hard], or choose softlabels.method: stored"
                    )
                require(
                    losses.LOSSES[self.protocol.loss].space != "logits",
                    f"loss {self.protocol.loss!r} takes raw logits, which cannot be cut to the classes seen; take "
                    "another protocol, or remove the memory condensed",
                )
        return [ContinualCell(memory) for memory in self.block.memories]

    def check(self, context: StudyContext) -> None:
        """Also refuses more tasks than classes, and tasks that could not be tested."""
        super().check(context)
        n_classes = len(context.train.classes)
        with self.error_context("tasks"):
            require(
                self.block.tasks <= n_classes,
                f"{self.block.tasks} tasks cannot be made of {n_classes} classes; give at most {n_classes}",
            )
            tested = np.unique(context.test.labels)
            for seed in self.block.seeds:
                for number, classes in enumerate(task_classes(n_classes, self.block.tasks, seed), 1):
                    require(
                        bool(np.isin(classes, tested).any()),
                        f"no class of task {number} of seed {seed} has images in the split {self.block.split!r}; give "
                        "fewer tasks, or another split",
                    )

    def run(self, context: StudyContext, cell: ContinualCell) -> CellResult:
        whole, n_classes = self._memory(context, cell.memory), len(context.train.classes)
        rows: list[Row] = []
        for seed in self.block.seeds:
            tasks = task_classes(n_classes, self.block.tasks, seed)
            by_task: list[list[float]] = []
            for number in range(1, len(tasks) + 1):
                kept = self._after(context, cell.memory, whole, tasks[:number], seed, number)
                counts = np.array(kept["counts"])
                seen = np.concatenate(tasks[:number])
                by_task.append([_correct(counts, task) for task in tasks[:number]])
                place = {"memory": cell.memory, "task": number, "classes": len(seen), "seed": seed}
                known = {"accuracy": _correct(counts, seen), "ipc": whole.most_per_class, **kept["bytes"]}
                rows.append({**place, **known, "student": self.protocol.student, "protocol": self.protocol.name})
            rows[-1]["forgetting"] = forgetting(by_task)
        return CellResult(rows)

    def report(self, context: StudyContext, rows: list[Row]) -> Report:
        rows = rounded(rows)
        summary = arranged(summarise_tasks(rows), SUMMARY)
        shared = f"{rows[0]['student']}; {rows[0]['protocol']}"
        drawn = figures.against(
            summary, self.block.split, shared, x="classes", by="memory", title="Continual learning", axis="classes seen"
        )
        tables = {"results": arranged(rows, RESULTS), "summary": summary}
        return Report(tables, {"figure": figures.png(drawn)})

    def _memory(self, context: StudyContext, memory: Memory) -> ImageSet:
        """The images that a memory holds when all classes have arrived."""
        own, block = context.condensed, self.params.selection
        if memory in ("condensed", "condensed-hard"):
            return own
        most = int(np.bincount(context.train.labels).min())

        def real(ipc: int) -> ImageSet:
            if memory == "random":
                return random_images(context.train, ipc, block.seed)
            picks = selection.SELECTORS["herding"](context.candidates, ipc, block.seed, selection.Progress())
            return reading.read_selection(context.train, context.candidates.selection(picks, "herding"))

        ipc = min(own.most_per_class, most)
        if self.block.equal == "images":
            return real(ipc)
        budget = (context.artifacts["synthesis"] / "images.parquet").stat().st_size
        if self.params.softlabels.method == "stored":
            budget += store.load_pack(context.artifacts["compression"], own.decoded_ids).n_bytes
        notes = context.notes.within(f"size-{memory}")

        def taken(ipc: int) -> int:
            return notes.within(str(ipc)).image_bytes(real(ipc))

        fitting = max(1, min(most, int(budget / (taken(ipc) / ipc))))  # near, as files have headers
        while fitting < most and taken(fitting + 1) <= budget:
            fitting += 1
        while fitting > 1 and taken(fitting) > budget:
            fitting -= 1
        return real(fitting)

    def _after(
        self, context: StudyContext, memory: Memory, whole: ImageSet, tasks: Sequence[IntArray], seed: int, number: int
    ) -> dict[str, Any]:
        """What a network knows after some tasks: `counts`, its confusion matrix, and the `bytes` of the memory."""
        note = f"{memory}-{seed}-{number}"
        if (kept := context.notes.load_json(note)) is None:
            seen = np.concatenate(tasks)
            made = self._contender(context, memory, of_classes(whole, seen), note)

            def learn(seed: int) -> dict[str, Any]:
                counts = self._counts(context, made, seen, seed, note)
                return {"counts": counts.tolist(), "bytes": {key: getattr(made, key) for key in BYTES}}

            [kept] = context.map_tasks(learn, [seed], lambda seed: f"{memory}/seed {seed}/task {number}")
            context.notes.save_json(note, kept)
            context.notes.remove(f"memory-{note}")
        return dict(kept)

    def _contender(self, context: StudyContext, memory: Memory, images: ImageSet, note: str) -> Contender:
        labeller = context.labeller(self.params.softlabels, self.params.compression)
        notes = context.notes.within(f"memory-{note}")
        if memory != "condensed":
            return labeller.hard(memory, images, notes)
        teachers = {key: context.teachers[key] for key in self.params.softlabels.teachers}
        return labeller.contender(memory, images, teachers, notes)

    def _counts(self, context: StudyContext, made: Contender, seen: IntArray, seed: int, note: str) -> IntArray:
        """Train a network on a memory, and count its answers on the split of the study: i64 [c, c]."""
        n_classes, labels = len(context.train.classes), made.labels()
        if not made.has_hard_labels:
            labels = SeenLabels(labels, seen, n_classes, context.device)
        network, _ = contenders.trained(
            made,
            self.protocol,
            context.train,
            seed,
            device=context.device,
            checkpoint=context.notes.folder / f"{note}.pt",
            title=note,
            labels=labels,
            classes=None if len(seen) == n_classes else np.sort(seen),
        )
        mean, std = context.train.mean, context.train.std
        batches = whole_images(context.test, context.notes.folder, mean, std, context.device)
        return training.confusion(network, batches, n_classes, context.device)


def task_classes(n_classes: int, tasks: int, seed: int) -> list[IntArray]:
    """The classes of each task: NumPy's legacy permutation for a seed, as DM's code draws it, in nearly equal parts."""
    order = np.arange(n_classes)
    np.random.RandomState(seed).shuffle(order)  # what `permutation` does
    return [np.asarray(part) for part in np.array_split(order, tasks)]


def of_classes(whole: ImageSet, classes: IntArray) -> ImageSet:
    """The images of some classes; all classes keep their numbers."""
    among = np.isin(whole.labels, classes)
    return replace(whole, images=whole.images[among], labels=whole.labels[among], ids=whole.ids[among])


def _correct(counts: IntArray, classes: IntArray) -> float:
    """The accuracy in percent on the images of some classes, of all answers."""
    return 100.0 * float(counts[classes, classes].sum()) / float(counts[classes].sum())


def forgetting(by_task: Sequence[Sequence[float]]) -> float:
    """F in points: `by_task[k][j]` is the accuracy on task j after task k >= j."""
    last = len(by_task) - 1
    best = [max(by_task[k][j] for k in range(j, last)) for j in range(last)]
    return fmean(top - by_task[last][j] for j, top in enumerate(best))


def summarise_tasks(rows: Sequence[Row]) -> list[Row]:
    """One row per memory and task of `rows`, which have one per seed. The row of a memory's last task has the average
    over its tasks and its forgetting, as means over seeds; those before have ""."""
    same = ("ipc", "student", "protocol")
    summary = summarise(rows, PLACE, means=dict.fromkeys(BYTES), same=same)
    for group in grouped(summary, ("memory",)):
        for row in group:
            row |= {"average": "", "forgetting": ""}
        found = [row["forgetting"] for row in rows if row["memory"] == group[0]["memory"] and "forgetting" in row]
        group[-1] |= {
            "average": round(fmean(row["accuracy"] for row in group), 3),
            "forgetting": round(fmean(found), 3),
        }
    return summary
