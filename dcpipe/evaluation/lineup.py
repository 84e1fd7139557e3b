"""The contenders of the evaluation stage: the condensed set, and the baselines that `evaluation.baselines` names.

* the set with its packed labels
* `uncompressed`: the same labels in fp16
* `online`: the teachers label every batch
* `hard`: one-hot labels of the images' classes
* `random`: equally many random real images, labelled and packed in the same way

The smaller sizes that `evaluation.sizes` lists are added for the set and for random images.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from dcpipe import selection, store
from dcpipe.config.params import EvaluationBlock, Params
from dcpipe.evaluation.contenders import Contender, Labeller, hard_contender, smaller, uncompressed_bytes
from dcpipe.evaluation.students import Protocol
from dcpipe.images import read_selection
from dcpipe.selection.random import random
from dcpipe.types import ImageSet, ImageTable, LabelPack, Score, SoftLabels, Teacher

Outcome = Mapping[str, Any]  # what `contenders.score` returns


@dataclass(frozen=True, eq=False)
class SoftLabelled:
    """Soft labels of the condensed set, packed and uncompressed, and the teachers that gave them with their size in
    bytes."""

    pack: LabelPack
    uncompressed: SoftLabels
    teachers: Mapping[str, Teacher]
    teacher_bytes: int


@dataclass(frozen=True, eq=False)
class Lineup:
    """Makes the contenders; the condensed set comes first.

    `image_file`: the file of `images`. `labels`: None if students learn from hard labels.
    """

    params: Params
    images: ImageSet
    image_file: Path
    labels: SoftLabelled | None
    train: ImageTable
    labeller: Labeller
    notes: store.Notes

    @property
    def method(self) -> str:
        """The method that made the images: the synthesis method, or the selector if there is no synthesis."""
        method = self.params.synthesis.method
        return self.params.selection.method if method == "none" else method

    def contenders(self) -> list[Contender]:
        """All of them, in the order of the table."""
        name, device, baselines = self.method, self.labeller.device, self.params.evaluation.baselines
        policy = self.params.softlabels.policy
        n_bytes = self.image_file.stat().st_size
        hard = hard_contender("hard", f"{name}, hard labels", self.images, policy, n_bytes, device, self.image_file)
        if self.labels is None:
            return [*self._at_sizes(hard), *self._random({})]
        labels = self.labels
        rows = self._at_sizes(hard.renamed("own", f"{name}, {labels.pack.codec}").with_pack(labels.pack, device))
        if "uncompressed" in baselines:
            whole, named = labels.uncompressed, hard.renamed("uncompressed", f"{name}, uncompressed")
            rows.append(named.with_stored_labels(whole.logits, uncompressed_bytes(whole)))
        if "online" in baselines:
            online = hard.renamed("online", f"{name}, teacher online")
            rows.append(online.with_online_teachers(labels.teachers, labels.teacher_bytes, device))
        if "hard" in baselines:
            rows.append(hard)
        return [*rows, *self._random(labels.teachers)]

    def _random(self, teachers: Mapping[str, Teacher]) -> list[Contender]:
        """Random real images at every size; empty if they are not among the baselines."""
        if "random" not in self.params.evaluation.baselines:
            return []
        block = self.params.selection
        candidates = replace(selection.candidates_without_features(self.train), take_all=block.takes_all)
        picks = random(candidates, block.ipc, block.seed, selection.Progress())
        images = read_selection(self.train, candidates.selection(picks, "random"))
        return self._at_sizes(self.labeller.contender("random", images, teachers, self.notes.within("random")))

    def _at_sizes(self, whole: Contender) -> list[Contender]:
        """The contender, and the smaller sizes of it that `evaluation.sizes` lists."""
        below = [size for size in sorted(self.params.evaluation.sizes) if size < self.params.selection.ipc]
        return [
            whole,
            *(smaller(whole, size, self.notes.within(f"{whole.kind}-{size}")) for size in below),
        ]


def score_of(contender: Contender, outcomes: Sequence[Outcome], protocol: Protocol, block: EvaluationBlock) -> Score:
    """The table row of a contender, from the results of its students, one per seed."""
    return Score(
        name=contender.name,
        protocol=protocol.name,
        student=block.student,
        ipc=contender.ipc,
        accuracy=tuple(outcome["accuracy"] for outcome in outcomes),
        image_bytes=contender.image_bytes,
        label_bytes=contender.label_bytes,
        teacher_bytes=contender.teacher_bytes,
        epochs=block.epochs,
    )


def learning_curves(outcomes: Mapping[str, Sequence[Outcome]]) -> list[dict[str, float]]:
    """One row per epoch: the training loss of each contender, by its kind, as the mean over its students."""
    histories = {kind: [outcome["history"] for outcome in students] for kind, students in outcomes.items()}
    epochs = len(next(iter(histories.values()))[0])
    return [
        {"epoch": epoch}
        | {
            kind: float(np.mean([history[epoch]["loss"] for history in students]))
            for kind, students in histories.items()
        }
        for epoch in range(epochs)
    ]


def at_each_size(
    contenders: Sequence[Contender], scores: Sequence[Score], params: Params
) -> Iterator[tuple[str, list[Score]]]:
    """Name and scores of the condensed set, and of random images, at the sizes that `evaluation.sizes` lists, or at
    full size if it lists none."""
    sizes = params.evaluation.sizes or [params.selection.ipc]
    for whole in contenders:
        if whole is contenders[0] or whole.kind == "random":
            of_whole = [
                score
                for contender, score in zip(contenders, scores, strict=True)
                if whole.kind in (contender.kind, contender.part_of)
            ]
            yield whole.name, [score for score in of_whole if score.ipc in sizes]
