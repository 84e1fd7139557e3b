"""What students are trained on: the condensed set, its labels in other forms, random images and all images.

The rows are those of the stage `evaluation`, made by the same code, so that a judgement of our own release has its
numbers to the digit. Added are `random_hard`: as many random images with hard labels, for the scores that compare
images without the help of their labels; `equal_bytes_soft`: random images with soft labels in the bytes of the set; and
`plain`: the set and random images without augmentation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dcpipe import store
from dcpipe.compression import packing
from dcpipe.config.params import Params
from dcpipe.config.protocols import PROTOCOLS
from dcpipe.evaluation.contenders import Contender, Labeller, hard_contender
from dcpipe.evaluation.lineup import Lineup, SoftLabelled, random_images, random_within
from dcpipe.judging.request import NOT_OF_STAGES, TEACHER, Row, uses_own_labels
from dcpipe.release import Release
from dcpipe.store.images import IMAGES
from dcpipe.store.labels import LABELS
from dcpipe.types import BudgetError, ImageTable, LabelShape, SoftLabels, Teacher, ViewPolicy

UNCOMPRESSED = "own"  # the notes that have the uncompressed labels of the set
PLAIN = ViewPolicy(scale_min=1.0, ratio_min=1.0, ratio_max=1.0, flip=0.0)  # the whole image


@dataclass(frozen=True, eq=False)
class Judged:
    """A release, and everything that its rows are made from. `teachers`: those that labelled it, by name, with their
    size in bytes; empty if they are not at hand."""

    release: Release
    params: Params
    rows: Sequence[Row]
    teachers: Mapping[str, Teacher]
    teacher_bytes: int
    train: ImageTable
    labeller: Labeller
    notes: store.Notes

    def contenders(self) -> list[Contender]:
        """The rows in the order of the table, without those of all images, which are no set."""
        chosen = [row for row in self.rows if row not in NOT_OF_STAGES]
        evaluation = self.params.evaluation.model_copy(update={"baselines": chosen})
        found = Lineup(
            params=self.params.model_copy(update={"evaluation": evaluation}),
            method=self.release.name,
            images=self.release.images,
            image_file=self.release.source.file(IMAGES),
            labels=self._labels(),
            train=self.train,
            labeller=self.labeller,
            notes=self.notes,
            whitening=self.release.transform_file,
        ).contenders()
        has_it = any(row.kind == "random" and row.has_hard_labels for row in found)
        if "random_hard" in self.rows and not has_it:
            found.insert(_after_random(found), self._random_hard())
        if not self._own_labels and "online" in self.rows and self.teachers:
            found = self._online(found)
        if "equal_bytes_soft" in self.rows and self.teachers and not found[0].has_hard_labels:
            found += self._equal_bytes_soft(found[0])
        return [*found, *self._plain()] if "plain" in self.rows else found

    @property
    def _own_labels(self) -> bool:
        return uses_own_labels(self.release, self.params.evaluation.protocol)

    def _online(self, found: Sequence[Contender]) -> list[Contender]:
        """The rows of a set without labels of its own, and the set and random images, each labelled online by the
        teachers, before the same images with hard labels. If the protocol gives hard labels to every set, they are left
        out."""
        if PROTOCOLS[self.params.evaluation.protocol].labels == "hard":
            return list(found)
        ensemble = self.params.softlabels.ensemble
        rows: list[Contender] = []
        for row in found:
            whole = row.part_of or row.kind
            if whole in ("hard", "random"):
                online = row.with_online_teachers(self.teachers, self.teacher_bytes, self.labeller.device, ensemble)
                kind = row.kind.replace("hard", "online")
                online = online.renamed(kind, row.name.replace("hard labels", "teacher online"))
                rows.append(replace(online, part_of=row.part_of.replace("hard", "online")))
            if whole == "random":
                part_of = row.part_of and "random_hard"
                row = replace(row, kind=row.kind.replace("random", "random_hard"), part_of=part_of)
            if whole != "random" or "random_hard" in self.rows:
                rows.append(row)
        return sorted(rows, key=lambda row: (row.part_of or row.kind) not in ("online", "hard"))

    def _labels(self) -> SoftLabelled | None:
        pack = self.release.pack
        if pack is None or not self._own_labels:
            return None
        file = str(self.release.source.file(LABELS))
        pack = replace(pack, file=file, n_bytes=Path(file).stat().st_size)
        return SoftLabelled(pack, self._uncompressed(), self.teachers, self.teacher_bytes)

    def _uncompressed(self) -> SoftLabels | None:
        """The labels of the teachers themselves, in the views of the pack; None if that row is not wanted, if there are
        no teachers, or if the views are stored ones or those of other parameters."""
        pack, policy = self.release.pack, self.params.softlabels.policy
        wanted = "uncompressed" in self.rows and self.teachers and pack is not None
        if not wanted or pack is None or not isinstance(pack.policy, ViewPolicy) or pack.policy != policy:
            return None
        views = replace(self.labeller, softlabels=self.params.softlabels.model_copy(update={"views": pack.shape.views}))
        return views.soft_labels(self.release.images, self.teachers, self.notes.within(UNCOMPRESSED))

    def _random_hard(self) -> Contender:
        """As many random real images as the set has, with hard labels."""
        block, notes = self.params.selection, self.notes.within("random-hard")
        images = random_images(self.train, block.ipc, block.seed, block.takes_all)
        made = self.labeller.hard("random_hard", images, notes).renamed("random_hard", "random, hard labels")
        return made.whitened(self.release.transform_file)

    def _equal_bytes_soft(self, own: Contender) -> list[Contender]:
        """As many random images, labelled and packed as those of the row `random` are, as take no more bytes than the
        set with its labels. Empty if that is the row `random` itself, or if not even one image per class fits."""
        budget, block, kind = own.image_bytes + own.label_bytes, self.params.selection, "equal_bytes_soft"
        for ipc, images in random_within(self.train, block, budget, self.notes, self._planned_bytes):
            notes = self.notes.within(f"{kind}-{ipc}")
            planned = self._planned_bytes(len(images))
            if planned is None or notes.image_file(images).stat().st_size + planned > budget:
                self.notes.remove(notes.folder.name)
                continue
            if ipc == block.ipc:
                return []
            made = self.labeller.contender(kind, images, self.teachers, notes)
            codec = made.name.removeprefix(f"{kind}, ")
            return [made.renamed(kind, f"random, {codec}, equal bytes")]
        return []

    def _planned_bytes(self, images: int) -> int | None:
        """The bytes of the file of the labels of so many images; None if the codec cannot reach the budget with so
        few."""
        softlabels = self.params.softlabels
        shape = LabelShape(images, softlabels.views, len(self.train.classes))
        try:
            codec = self.labeller.plan(shape)
        except BudgetError:
            return None
        return packing.file_bytes(self.params.compression.codec, codec, shape, softlabels.policy)

    def _plain(self) -> list[Contender]:
        """The set and as many random images, shown whole and without any augmentation: with hard labels, or labelled
        online by the teachers where the set has soft labels and they are at hand."""
        block, device = self.params.selection, self.labeller.device
        random = random_images(self.train, block.ipc, block.seed, block.takes_all)
        random_file = self.notes.within("plain").image_file(random)
        rows = []
        for kind, name, images, file in (
            ("plain", self.release.name, self.release.images, self.release.source.file(IMAGES)),
            ("random_plain", "random", random, random_file),
        ):
            row = hard_contender(kind, name, images, PLAIN, file.stat().st_size, device, file)
            if self.release.pack is not None and self.teachers:
                row = row.with_online_teachers(
                    self.teachers, self.teacher_bytes, device, self.params.softlabels.ensemble
                )
            labels = "hard labels" if row.has_hard_labels else "teacher online"
            row = row.whitened(self.release.transform_file)
            rows.append(row.renamed(kind, f"{name}, {labels}, no augmentation"))
        return rows


def _after_random(rows: Sequence[Contender]) -> int:
    """The place after the last row of random images, or the end."""
    places = [place for place, row in enumerate(rows) if "random" in (row.kind, row.part_of)]
    return 1 + places[-1] if places else len(rows)


def teachers_of(release: Release, given: Sequence[Teacher]) -> dict[str, Teacher]:
    """The teachers that labelled a release, by name: those given, or the one that it contains if there was only one."""
    if not given and release.teacher is not None and len(release.manifest["teachers"]) == 1:
        given = [release.teacher]
    return {f"{TEACHER}{number or ''}": teacher for number, teacher in enumerate(given)}
