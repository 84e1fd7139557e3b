"""The loop of trajectory matching: images and a step size with which students reach the weights of experts.

An iteration draws an expert and a start epoch s, uniformly and with replacement, lets a student with the weights of
epoch s take `steps` steps on condensed images, each under new augmentation, and compares it with the expert `span`
epochs later (`unrolling.py`). Images are in normalised space, or in whitened space (`whitened.py`), and move by SGD
with momentum.

The step size a stays above 0, which the official code does not ensure: log a is what SGD moves, at rate
`lr_rate` / a_0^2, so that its first step changes a by as much as a step of `lr_rate` on a itself.

With `lr_labels`, labels are the softmax of logits that are learned too, by SGD with momentum 0.9 (`labels.py` has their
start).

Start epochs are below a bound which grows from `grow_from` to `start_below` during the first `grow_for` iterations, as
in DATM (Guo et al., ICLR 2024): bound = grow_from + floor((start_below - grow_from) t / grow_for).

All random numbers are functions of (seed, iteration), so a killed run that resumes makes the same images.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dcpipe import training
from dcpipe.random import Draw, Stream, permutation, philox, uniform
from dcpipe.synthesis.base import Progress, SynthesisContext, as_images
from dcpipe.synthesis.gradients.choices import Nested, check_alone
from dcpipe.synthesis.gradients.real import RealImages
from dcpipe.synthesis.gradients.subsets import Subsets
from dcpipe.synthesis.gradients.teaching import Teaching, uniform_draws
from dcpipe.synthesis.initial import noise
from dcpipe.synthesis.trajectories import buffers, collection, experts, labels, unrolling, whitened
from dcpipe.synthesis.trajectories.gsam import Gsam
from dcpipe.synthesis.trajectories.nested import Nest
from dcpipe.types import ImageSet, IntArray, require
from dcpipe.views import siamese

CHECKPOINT = "trajectories.pt"
REPORT_SECONDS = 2.0
ROWS = 100  # of the record
LABELS_MOMENTUM = 0.9  # of learned labels, in DATM's code


@dataclass(frozen=True)
class Choices:
    """The choices of a run; `dcpipe.synthesis.mtt` describes them."""

    network: str
    iterations: int
    steps: int
    span: int
    start_from: int
    start_below: int
    grow_from: int | None
    grow_for: int
    lr: float
    momentum: float
    rate: float
    lr_rate: float
    batch: int | None
    strategy: str
    initial: str
    through: unrolling.Through
    skip_above: float | None
    experts: int
    expert_epochs: int
    expert_lr: float
    expert_batch: int
    gsam: Gsam | None
    trajectories: str | None
    lr_labels: float | None
    subsets: Nested | None
    whitening: float | None

    def bound(self, iteration: int) -> int:
        """Start epochs of an iteration are below it."""
        if self.grow_from is None:
            return self.start_below
        grown = self.grow_from + (self.start_below - self.grow_from) * iteration // self.grow_for
        return min(self.start_below, grown)

    def segment(self, seed: int, iteration: int) -> tuple[int, int, int]:
        """Expert, start epoch and the seed of all other random numbers of an iteration."""
        words = philox(seed, iteration, Draw.SEGMENT, 0)
        first, second = uniform(words)[:2]
        expert, span = int(first * self.experts), self.bound(iteration) - self.start_from
        return expert, self.start_from + int(second * span), int(words[2])


class Engine:
    """The images f32 [n, 3, s, s] in normalised or whitened space, in the order of the start, and the log of the step
    size."""

    def __init__(
        self, start: ImageSet, context: SynthesisContext, seed: int, progress: Progress, choices: Choices
    ) -> None:
        self.start, self.progress, self.choices, self.seed = start, progress, choices, seed
        self.device = context.device
        teaching = Teaching(choices.expert_lr, 0.0, 0.0, choices.expert_batch, choices.strategy)
        size = start.images.shape[1]
        self.recipe = experts.Recipe(
            choices.network,
            len(start.classes),
            size,
            choices.expert_epochs,
            teaching,
            seed,
            choices.whitening,
            choices.gsam,
        )
        network = self.recipe.untrained(0)
        check_alone(network, choices.network)
        self.student = unrolling.Student(network.to(self.device))
        if choices.whitening is not None:
            whitened.check(size, progress)
        self.real = RealImages(context, len(start.classes), seed, 1)
        if choices.whitening is not None:
            whitened.whiten(self.real, choices.whitening, progress)
        self.labels = torch.from_numpy(start.labels).to(self.device)
        self.soft: torch.Tensor | None = None  # logits f32 [n, c] of learned labels
        self.soft_velocity: torch.Tensor | None = None
        if choices.initial == "noise":
            drawn = noise(start, context, seed, progress, mean=(0, 0, 0), std=(1, 1, 1))(np.arange(len(start)))
            self.pixels = drawn.to(self.device)
        else:
            plain = torch.from_numpy(start.images).to(self.device).permute(0, 3, 1, 2).float() / 255
            self.pixels = self.real.to_inputs(plain)
        self.velocity = torch.zeros_like(self.pixels)
        self.nest = None if choices.subsets is None else Nest(choices.subsets, start)
        self.log_rate, self.rate_velocity, self.iteration = math.log(choices.rate), 0.0, 0
        self.rows: list[list[float]] = []

    def run(self) -> ImageSet:
        """Experts, then all iterations, from the checkpoint if there is one."""
        choices, path = self.choices, self.progress.notes / CHECKPOINT
        self.experts = self._experts()
        self.progress.record("experts", self.experts.table())
        state = torch.load(path, map_location="cpu", weights_only=True) if path.exists() else None
        if state is not None and state["experts"] == self.experts.digest:
            self._restore(state)
        else:  # also if the folder of the user has other experts now, to which the iterations so far do not belong
            self._begin()
        pause, every = training.checkpoint_pause(), max(1, choices.iterations // ROWS)
        saved = reported = time.monotonic()
        self._tell_snapshot()
        while self.iteration < choices.iterations:
            loss = self._iterate()
            if self.iteration % every == 0 or self.iteration + 1 == choices.iterations:
                self.rows.append([self.iteration, loss, self.rate])
            if time.monotonic() - reported > REPORT_SECONDS:
                note = f"loss {loss:.4g}, step size {self.rate:.4g}"
                self.progress.report(self.iteration, choices.iterations, note, self._image_set)
                reported = time.monotonic()
            self.iteration += 1
            self._tell_snapshot()
            if time.monotonic() - saved > pause:
                training.save_checkpoint(path, self._state())
                saved = time.monotonic()
        if self.nest is not None:
            self.nest.record(self.progress, choices.iterations - 1)
        names = ("iteration", "loss", "step size")
        self.progress.record(
            "trajectories", [{names[0]: int(t), names[1]: loss, names[2]: rate} for t, loss, rate in self.rows]
        )
        learned = {"rate": np.array(self.rate, dtype=np.float32)}
        if self.soft is not None:
            learned["logits"] = self.soft.cpu().numpy()
        self.progress.keep(learned)
        result = self._image_set()
        if self.real.whitening is not None:
            self.progress.record("whitening", [whitened.losses(self.real.whitening, self.pixels, result)])
        return result

    def _begin(self) -> None:
        """Images and labels that experts choose."""
        choices = self.choices

        def last() -> Iterator[torch.Tensor]:
            for number in range(choices.experts):
                yield self.experts.read(number, choices.expert_epochs)[0].to(self.device)

        if choices.initial == "predicted":
            self.pixels = self.real.take(labels.predicted(self.student, last(), self.real, self.start.labels))
        if choices.lr_labels is not None:
            self.soft = labels.mean_logits(self.student, last(), self.pixels, self.labels)
            self.soft_velocity = torch.zeros_like(self.soft)

    @property
    def rate(self) -> float:
        """The step size."""
        return math.exp(self.log_rate)

    def _experts(self) -> collection.Experts:
        """The experts of this run: in the user's folder, made of buffers there, or in the scratch space."""
        choices, shared = self.choices, self.progress.shared
        total = choices.experts * choices.expert_epochs

        def report(number: int, epoch: int) -> None:
            note = f"expert {number + 1} of {choices.experts}"
            self.progress.report(number * choices.expert_epochs + epoch, total, note, lambda: self.start)

        if choices.trajectories is None:
            return collection.collected(self.recipe, self.real, self.recipe.folder(shared), choices.experts, report)
        folder = Path(choices.trajectories)
        if buffers.found(folder):
            return buffers.imported(self.recipe, self.real, folder, shared, choices.experts, report)
        return collection.collected(self.recipe, self.real, folder, choices.experts, report)

    def _iterate(self) -> float:
        """One update of images and step size; returns the loss."""
        choices = self.choices
        expert, begin, own = choices.segment(self.seed, self.iteration)
        first, last = (row.to(self.device) for row in self.experts.read(expert, begin, begin + choices.span))
        pixels, rate, nest = self.pixels.detach().requires_grad_(True), self.rate, self.nest
        soft = None if self.soft is None else self.soft.detach().requires_grad_(True)

        def batches(among: IntArray, step: int) -> tuple[torch.Tensor, torch.Tensor]:
            rows = self._batch(own, step, among)
            some = torch.from_numpy(rows).to(self.device)
            images = pixels[some]
            if choices.strategy:
                images = siamese.apply(images, siamese.draw(choices.strategy, uniform_draws(own, step, rows)))
            return images, self.labels[some] if soft is None else soft[some].softmax(1)

        leaves = [pixels] if soft is None else [pixels, soft]

        def of(among: IntArray) -> unrolling.Gradients:
            part, steps, through = partial(batches, among), choices.steps, choices.through
            return unrolling.gradients(self.student, first, last, part, steps, rate, leaves, through)

        found, moving = of(np.arange(len(self.start))), None
        loss = float(found.loss)  # of the whole set, also where a subset's is added
        if nest is not None:
            nest.enter(self.iteration)
            moving = nest.moving(self.iteration).to(self.device)
            if (less := nest.rows(self.iteration)) is not None:
                found = found.plus(of(less), nest.weight)
            nest.measure(self.iteration, self.student, first, pixels.detach(), self.real)
        if choices.skip_above is not None and loss > choices.skip_above:
            return loss
        self.velocity.mul_(choices.momentum).add_(found.leaves[0])
        self.pixels = _moved(pixels, choices.lr * self.velocity, moving)
        if soft is not None and self.soft_velocity is not None and choices.lr_labels is not None:
            self.soft_velocity.mul_(LABELS_MOMENTUM).add_(found.leaves[1])
            self.soft = _moved(soft, choices.lr_labels * self.soft_velocity, moving)
        self.rate_velocity = choices.momentum * self.rate_velocity + rate * float(found.rate)
        self.log_rate -= choices.lr_rate / choices.rate**2 * self.rate_velocity
        sound = math.isfinite(loss) and abs(self.log_rate) < 50 and bool(self.pixels.isfinite().all())
        sound = sound and (self.soft is None or bool(self.soft.isfinite().all()))
        labelling = "" if choices.lr_labels is None else f", lr_labels ({choices.lr_labels})"
        require(
            sound,
            f"synthesis: images, labels or step size diverged in iteration {self.iteration} (loss {loss:.4g}, step "
            f"size {rate:.4g}); lower lr ({choices.lr}){labelling} or lr_rate ({choices.lr_rate})",
        )
        return loss

    def _batch(self, own: int, step: int, among: IntArray) -> IntArray:
        """Rows of the condensed images of a step, of those in `among`: each once, in random order, before any comes
        again."""
        n = len(among)
        size = min(self.choices.batch or n, n)
        turn, place = divmod(step, -(-n // size))
        return among[permutation(own, Stream.MATCHER_EPOCH + turn, n)[place * size : (place + 1) * size]]

    def _image_set(self) -> ImageSet:
        return replace(self.start, images=as_images(self.real.to_pixels(self.pixels)))

    def _tell_snapshot(self) -> None:
        if self.progress.snapshot is not None:
            self.progress.snapshot(self.iteration, self._image_set)

    def _state(self) -> dict[str, Any]:
        """The contents of a checkpoint."""
        numbers = {"log_rate": self.log_rate, "rate_velocity": self.rate_velocity, "iteration": self.iteration}
        kept = {"pixels": self.pixels, "velocity": self.velocity, "rows": self.rows, **numbers}
        kept["subsets"] = None if self.nest is None else self.nest.subsets.state()
        return {**kept, "experts": self.experts.digest, "soft": self.soft, "soft_velocity": self.soft_velocity}

    def _restore(self, state: Mapping[str, Any]) -> None:
        self.pixels, self.velocity = state["pixels"].to(self.device), state["velocity"].to(self.device)
        self.log_rate, self.rate_velocity = state["log_rate"], state["rate_velocity"]
        self.iteration, self.rows = state["iteration"], state["rows"]
        if self.nest is not None:
            self.nest.subsets = Subsets.resume(self.nest.subsets.rules, state["subsets"])
        if state["soft"] is not None:
            self.soft, self.soft_velocity = state["soft"].to(self.device), state["soft_velocity"].to(self.device)


def _moved(values: torch.Tensor, by: torch.Tensor, moving: torch.Tensor | None) -> torch.Tensor:
    """Values [n, ...] less `by`, but for the rows that do not move."""
    if moving is not None:
        by = by * moving.view(-1, *(1 for _ in by.shape[1:]))
    return (values - by).detach()
