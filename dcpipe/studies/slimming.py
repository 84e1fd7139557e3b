"""`slimming`: data-free network slimming with the condensed set (EDC, Fig. 4; Liu et al., ICCV 2017).

Idea. A trained network is to become smaller where its training images are no longer at hand. Channels with small
batch-norm scales are removed (`dcpipe.networks.slimming`), and what this breaks is repaired by training on the
condensed set. How much does the set repair, and would random images have done?

Formula. The channels of a teacher of params.yaml are removed by the global threshold at each ratio. The smaller network
goes on from the weights that are left, by the protocol of params.yaml with `rate` of its learning rate, on each of:
the condensed set with its soft labels or with hard ones, and as many random images with both. Two rows train nothing:
the network as it was cut, and the one whose batch-norm statistics are measured again on the condensed images, which
often repairs most. With `sparsity` s, the network is first trained with s times the sum of |gamma| added to the loss,
which is Network Slimming's penalty; the paper adds it while the network is trained on real images. Each row does so on
the images and labels that it is then repaired with, so that random images never start from what the condensed set
taught; the two rows that train nothing do so on the condensed set. The column `start` says which, and channels are
chosen anew for each.

EDC gives no numbers, ratios or recipe for its figure, and its code has no slimming: ratios and recipe are ours.
Parameters and MACs are those of the network without the channels. Seeds are of the order of batches; the two rows that
train nothing are the same for all.

Cost. One student of few images per row, ratio and seed, and with `sparsity` one more per row that trains.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import nn

from dcpipe import networks, teacher, training
from dcpipe.config.values import Distinct
from dcpipe.evaluation import contenders
from dcpipe.evaluation.contenders import Contender
from dcpipe.evaluation.students import Protocol, protocol_of
from dcpipe.evaluation.whole_images import whole_images
from dcpipe.networks import slimming
from dcpipe.reports import figures
from dcpipe.reports.columns import Column, mean_and_std, size, text
from dcpipe.studies import own_set
from dcpipe.studies.base import BYTES, CellResult, Report, StudyBlock, StudyContext
from dcpipe.studies.summary import Row, arranged, rounded, summarise
from dcpipe.types import NotApplicableError, require
from dcpipe.views import multiformation

CUT, MEASURED = "none", "statistics"  # rows without training
NETWORK = ("channels", "parameters", "macs")
RESULTS = ("trained_on", "start", "ratio", "seed", "accuracy", *NETWORK, *BYTES, "network", "protocol")
SUMMARY = ("trained_on", "start", "ratio", "accuracy", "std", "seeds", *NETWORK, *BYTES, "network", "protocol")
Share = Annotated[float, Field(ge=0, lt=1)]


class SlimmingBlock(StudyBlock):
    """`teacher`: key of the network in `teacher.networks`, by default the first with batch norms. `ratios`: shares of
    the channels that go. `rate`: share of the protocol's learning rate. `sparsity`: weight of the penalty, 0 for
    none."""

    teacher: str | None = None
    ratios: Annotated[list[Share], Field(min_length=1), Distinct]
    rate: Annotated[float, Field(gt=0, le=1)] = 0.1
    sparsity: Annotated[float, Field(ge=0)] = 0.0


@dataclass(frozen=True)
class SlimmingCell:
    """One ratio, and what the smaller network is trained on."""

    trained_on: str
    ratio: float

    def __str__(self) -> str:
        return f"{self.trained_on}, ratio {self.ratio}"


class SlimmingStudy(own_set.OwnSetStudy):
    """Every ratio with every row."""

    title: ClassVar[str] = "slim a teacher and repair it with the condensed set (EDC, Fig. 4)"
    block_type: ClassVar[type[StudyBlock]] = SlimmingBlock
    needs: ClassVar[tuple[str, ...]] = ("images", "synthesis", "compression")
    reads: ClassVar[tuple[str, ...] | None] = None
    shown: ClassVar[tuple[Column, ...]] = (
        text("ratio"),
        text("trained_on"),
        text("start"),
        mean_and_std("accuracy"),
        text("channels"),
        text("parameters"),
        text("macs"),
        size("images", "image_bytes"),
        size("labels", "label_bytes"),
    )

    @property
    def key(self) -> str:
        """The key of the network that is slimmed. Raises `DataError` if there is none such, and `NotApplicableError` if
        no teacher has batch norms."""
        named, known = self.block.teacher, self.params.teacher.networks
        if named is not None:
            with self.error_context("teacher"):
                require(named in known, f"{named!r} is no key of teacher.networks; choose one of {', '.join(known)}")
            return str(named)
        for key, block in known.items():
            try:
                with torch.device("meta"):
                    slimming.groups_of(networks.build(block.network, 2, block.input_size or self.params.images.size))
            except NotApplicableError:
                continue
            return key
        raise NotApplicableError(
            "no teacher has batch norms whose channels can be removed; add one to teacher.networks, such as "
            "resnet: {network: resnet10-w16}"
        )

    @property
    def teachers(self) -> list[str]:
        labelling = self.params.softlabels.teachers if self.params.softlabels.method == "stored" else []
        return list(dict.fromkeys([self.key, *labelling]))

    @cached_property
    def protocol(self) -> Protocol:
        """How the smaller networks are trained on: the protocol of the evaluation with a lower rate."""
        found = protocol_of(self.params.evaluation, self.params.softlabels)
        rate = self.block.rate * found.recipe.lr
        return replace(
            found,
            student=self.params.teacher.networks[self.key].network,
            recipe=replace(found.recipe, lr=rate),
            name=f"{found.name}; from pruned weights, lr {rate:g}",
            best_of=1,
        )

    @cached_property
    def cells(self) -> list[SlimmingCell]:
        _ = self.key
        rows = [CUT, MEASURED, *own_set.names(self.params)]
        return [SlimmingCell(row, ratio) for ratio in sorted(self.block.ratios) for row in rows]

    def check(self, context: StudyContext) -> None:
        """Also refuses a network that cannot be slimmed."""
        super().check(context)
        with self.error_context(self.key):
            slimming.groups_of(self._teacher(context))

    def run(self, context: StudyContext, cell: SlimmingCell) -> CellResult:
        whole = self._sparse(context, cell)
        groups = slimming.groups_of(whole)
        masks = slimming.masks_of(whole, groups, cell.ratio)
        smaller = slimming.pruned(whole, groups, masks)
        side = context.teachers[self.key].network_size
        counted = slimming.size_of(smaller, side)
        place = {
            "trained_on": cell.trained_on,
            "ratio": cell.ratio,
            "network": self.protocol.student,
            "protocol": self.protocol.name,
            "channels": sum(int(mask.sum()) for mask in masks.values()),
            "parameters": counted.parameters,
            "macs": counted.macs,
        }
        if self.block.sparsity:
            place["start"] = f"sparse on {self._sparse_on(cell)}"
        seeds = list(self.block.seeds)
        if cell.trained_on in (CUT, MEASURED):
            if cell.trained_on == MEASURED:
                slimming.recalibrate(smaller, self._inputs(context))
            accuracy = self._accuracy(context, smaller)
            sizes = dict.fromkeys(BYTES, 0)
            if cell.trained_on == MEASURED:
                sizes["image_bytes"] = (context.artifacts["synthesis"] / "images.parquet").stat().st_size
            return CellResult([{**place, **sizes, "seed": seed, "accuracy": accuracy} for seed in seeds])
        made = own_set.contender(cell.trained_on, self.params, context)
        sizes = {key: getattr(made, key) for key in BYTES}

        def repair(seed: int) -> float:
            note = f"{cell}-{seed}".replace(" ", "").replace(",", "-")
            if (kept := context.notes.load_json(note)) is None:
                network = self._trained(context, smaller, made, seed, note)
                kept = {"accuracy": self._accuracy(context, network)}
                context.notes.save_json(note, kept)
            return float(kept["accuracy"])

        found = context.map_tasks(repair, seeds, lambda seed: f"{cell}/seed {seed}", progress=f"repairs of {cell}")
        return CellResult(
            [
                {**place, **sizes, "seed": seed, "accuracy": accuracy}
                for seed, accuracy in zip(seeds, found, strict=True)
            ]
        )

    def report(self, context: StudyContext, rows: list[Row]) -> Report:
        rows = rounded(rows)
        same = (*NETWORK, *BYTES, "network", "protocol", *(("start",) if self.block.sparsity else ()))
        summary = arranged(summarise(rows, ("trained_on", "ratio"), same=same), SUMMARY)
        shared = f"{rows[0]['network']}; {rows[0]['protocol']}"
        drawn = figures.against(
            summary, self.block.split, shared, x="ratio", by="trained_on", title="Slimming", axis="share of channels"
        )
        return Report({"results": arranged(rows, RESULTS), "summary": summary}, {"figure": figures.png(drawn)})

    def _teacher(self, context: StudyContext) -> nn.Module:
        network = networks.from_teacher(context.teachers[self.key], torch.device("cpu"))
        return network.requires_grad_(True)

    def _sparse_on(self, cell: SlimmingCell) -> str:
        """The set that the teacher is trained on with the penalty: the row's own, or the condensed one."""
        return own_set.names(self.params)[0] if cell.trained_on in (CUT, MEASURED) else cell.trained_on

    def _sparse(self, context: StudyContext, cell: SlimmingCell) -> nn.Module:
        """The teacher, after training with the penalty if there is one; once for all ratios and rows of a set."""
        network = self._teacher(context)
        if not self.block.sparsity:
            return network
        note = f"sparse-{self._sparse_on(cell)}".replace(" ", "").replace(",", "-")
        if (kept := context.notes.load_arrays(note)) is None:
            made = own_set.contender(self._sparse_on(cell), self.params, context)
            extra = partial(weighted, groups=slimming.groups_of(network), weight=self.block.sparsity)
            trained = self._trained(context, network, made, 0, f"{note}-training", extra).cpu()
            kept = {key: value.numpy() for key, value in trained.state_dict().items()}
            context.notes.save_arrays(note, **kept)
        network.load_state_dict({key: torch.from_numpy(value) for key, value in kept.items()})
        return network

    def _trained(
        self,
        context: StudyContext,
        network: nn.Module,
        made: Contender,
        seed: int,
        note: str,
        extra: Callable[[nn.Module], torch.Tensor] | None = None,
    ) -> nn.Module:
        """A network that goes on from these weights; a killed run continues from its checkpoint."""
        whose = context.teachers[self.key]
        trained, _ = contenders.trained(
            made,
            self.protocol,
            context.train,
            seed,
            device=context.device,
            checkpoint=context.notes.folder / f"{note}.pt",
            title=note,
            colours=(whose.mean, whose.std),
            start=network,
            extra=extra,
        )
        return trained

    def _inputs(self, context: StudyContext) -> Iterator[torch.Tensor]:
        """The condensed images as they are, normalised."""
        decoded, whose = multiformation.decoded(context.condensed), context.teachers[self.key]
        parts = iter([(decoded.images, decoded.labels)])
        for inputs, _ in teacher.plain_batches(parts, whose.mean, whose.std, 512, torch.device("cpu")):
            yield inputs

    def _accuracy(self, context: StudyContext, network: nn.Module) -> float:
        whose = context.teachers[self.key]
        batches = whole_images(context.test, context.notes.folder, whose.mean, whose.std, context.device)
        return training.accuracy(network.to(context.device), batches, context.device)


def weighted(network: nn.Module, groups: list[slimming.Group], weight: float) -> torch.Tensor:
    """The penalty of Network Slimming, times its weight."""
    return weight * slimming.penalty(network, groups)
