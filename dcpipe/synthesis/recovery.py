"""Recovery: images are optimised until observers respond to them as to real ones. The engine of SRe2L, CDA, G-VBSM,
EDC.

    X <- argmin  w_ce CE(f(X), y) + w L_match(f, X) + w_flat L_flat + w_dens L_dens

for each batch of images separately, with Adam on normalised pixels; the observers take turns, one per step. The methods
are choices of these parts (`Recovery`), and each of them is a small file. A killed run resumes in the middle of a
batch. All random numbers are functions of (seed, batch, step), so on a CPU it finishes with the same images, and
batches can be recovered in any order and in several processes (`batches.py`, `shards.py`). On a GPU
sums are added up in any order (`index_add`, the gradient of `grid_sample`), so images differ by rounding, as they do
between two uninterrupted runs; and by default the networks run in bfloat16 there, whereas the official code uses
float32 (`precision: float32`).

Memory: only the pixels of one batch, with their average and Adam's state, are on the device.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F

from dcpipe import networks, training
from dcpipe.precision import autocast
from dcpipe.synthesis import statistics
from dcpipe.synthesis.base import Progress, SynthesisContext, as_images
from dcpipe.synthesis.checkpoints import Images, RecoveryNotes, fingerprint
from dcpipe.synthesis.initial import Pixels, initial
from dcpipe.synthesis.matching import Matcher, Matching, check_running, needs_statistics
from dcpipe.synthesis.observers import Layers, Observer
from dcpipe.synthesis.regularisers import Direction, Flatness, class_groups, densification, flatness
from dcpipe.synthesis.statistics import Statistics, Variance
from dcpipe.synthesis.weak_augmentation import WeakAugmentation, uniforms
from dcpipe.types import ImageSet, IntArray, Precision, require

Terms = dict[str, torch.Tensor]
REPORT_SECONDS = 2.0


@dataclass(frozen=True)
class Recovery:
    """The choices that define a method.

    `observers`: names of teachers, None for all. `layers`: the layers whose inputs are measured; `patch`: side of a
    patch in pixels (None: 16 for images of at least 128 pixels, else 4). `weight`, `cross_entropy`, `density`: weights
    of the matching loss, the cross-entropy and the densification term. `flat`: weight of the flatness term, with
    `decay` (beta) of the running average of the images and `temperature`; `flatness` says which: `logits` (EDC, Eq. 7),
    `statistics` (Eq. 6), or `sam`, where the gradient is that at X + `flat` g / |g|, with g the gradient at X and its
    norm over all pixels of the batch (Foret et al., ICLR 2021). `variance`: of class statistics, see
    `statistics.collect`. `initial`: what recovery starts from; `factor` and `candidates` are RDED's. `order`: batches
    of whole classes (`classes`), or of one image of many classes (`rounds`, SRe2L). `precision`: of the observers'
    passes, see `dcpipe.precision`.
    """

    iterations: int
    lr: float
    batch_size: int = 100
    observers: list[str] | None = None
    layers: Layers = "bn+conv"
    patch: int | None = None
    weight: float = 0.01
    cross_entropy: float = 1.0
    density: float = 0.0
    flat: float = 0.0
    flatness: Flatness = "logits"
    decay: float = 0.99
    temperature: float = 4.0
    direction: Direction = "paper"
    variance: Variance = "total"
    initial: str = "real"
    factor: int = 1
    candidates: int = 300
    order: Literal["classes", "rounds"] = "classes"
    precision: Precision = "auto"
    matching: Matching = field(default_factory=Matching)
    augmentation: WeakAugmentation = field(default_factory=WeakAugmentation)


# The methods of recovery, and whether they measure the statistics of the real images first. The others match the
# running statistics of batch norms alone.
MEASURES = {"sre2l": False, "cda": False, "gvbsm": True, "edc": True, "edc-code": True}


def check(method: str, options: Mapping[str, Any], context: SynthesisContext) -> None:
    """Raises `DataError` if a method of `MEASURES` with these options could not observe its teachers: one is not there,
    or has no layer that the method matches. One pass of two images per teacher."""
    layers: Layers = "bn+conv" if MEASURES[method] else "bn"
    for name, teacher in context.choose(options.get("observers")).items():
        observer = Observer(name, teacher, torch.device("cpu"), layers=layers, patch=options.get("patch"))
        if not MEASURES[method]:
            check_running(observer)


@dataclass(eq=False)
class Batch:
    """Images that are being optimised: normalised pixels f32 [m, 3, s, s], their running average, the state of Adam,
    the `groups` of images that densification compares, and the `terms` of the loss, f32 [terms], of every step."""

    pixels: torch.Tensor
    average: torch.Tensor
    optimizer: torch.optim.Adam
    matchers: list[Matcher]
    groups: list[torch.Tensor]
    step: int = 0
    terms: list[torch.Tensor] = field(default_factory=list)

    def state(self) -> dict[str, Any]:
        """The contents of a checkpoint."""
        return {
            "pixels": self.pixels.detach(),
            "average": self.average,
            "optimizer": self.optimizer.state_dict(),
            "running": [matcher.running for matcher in self.matchers],
            "step": self.step,
            "terms": torch.stack(self.terms),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restore the state from a checkpoint."""
        with torch.no_grad():
            self.pixels.copy_(state["pixels"])
            self.average.copy_(state["average"])
        self.step, self.terms = state["step"], list(state["terms"].to(self.pixels.device))
        self.optimizer.load_state_dict(state["optimizer"])
        for matcher, running in zip(self.matchers, state["running"], strict=True):
            matcher.running = running if running is None else running.to(self.pixels.device)


# Called with a batch, its number and the terms of its loss.
Report = Callable[[Batch, int, str], None]


class Engine:
    """Observers with their targets, which recover one batch of images at a time: `rows` i64 [m] of each batch.

    `run`: the fingerprint of the run, if it is known; it takes reading all images and weights. Raises `DataError` for
    choices that do not fit the images or the observers.
    """

    def __init__(
        self,
        start: ImageSet,
        context: SynthesisContext,
        seed: int,
        progress: Progress,
        choices: Recovery,
        run: str = "",
    ) -> None:
        self.start, self.context, self.seed, self.progress, self.choices = start, context, seed, progress, choices
        chosen = context.choose(choices.observers)
        networks.check_teachers(chosen, start.classes, start.images.shape[1])
        self.observers = {
            name: Observer(name, teacher, context.device, layers=choices.layers, patch=choices.patch)
            for name, teacher in chosen.items()
        }
        first = next(iter(chosen.values()))
        self.colours = first.mean, first.std
        self.mean, self.std = (torch.tensor(c, device=context.device).view(1, 3, 1, 1) for c in self.colours)
        self.low, self.high = (0 - self.mean) / self.std, (1 - self.mean) / self.std
        self.labels = torch.from_numpy(start.labels).to(context.device)
        self.statistics = self._statistics()
        self.chosen, self.rows = chosen, batches_of(start, choices)
        settings = (replace(choices, observers=list(chosen)), seed)
        run = run or fingerprint(settings, start, context.labels, list(chosen.values()))
        self.notes = RecoveryNotes(progress.notes, run)

    def recover(self, number: int, report: Report = lambda batch, number, note: None) -> Images:
        """The images u8 [m, s, s, 3] of a batch, which are read if they are finished. Otherwise the batch goes on from
        its checkpoint, if there is one, and what it gives is saved.

        Raises `DataError` if pixels are no longer finite.
        """
        if (finished := self.notes.finished(number)) is not None:
            return finished
        batch, pause = self._open(self.rows[number], self.notes.load(number)), training.checkpoint_pause()
        saved = reported = time.monotonic()
        watch = self.progress.watch or unwatched
        watch(self, batch, number)
        for terms in self._steps(batch, number, self.rows[number]):
            watch(self, batch, number)
            if time.monotonic() - reported > REPORT_SECONDS:  # seldom, because this reads numbers from the device
                values = (f"{name} {float(value.detach()):.3f}" for name, value in terms.items())
                report(batch, number, ", ".join(values))
                reported = time.monotonic()
            if time.monotonic() - saved > pause:
                self.notes.save(number, batch.state())
                saved = time.monotonic()
        require(
            bool(batch.pixels.isfinite().all()),
            f"synthesis: pixels of batch {number} became NaN or infinite; lower lr ({self.choices.lr})",
        )
        images = self.rounded(batch.pixels)
        self.notes.finish(number, images, torch.stack(batch.terms))
        return images

    @cached_property
    def pixels(self) -> Pixels:
        """What recovery starts from."""
        choices, (mean, std) = self.choices, self.colours
        search: dict[str, Any] = {name: getattr(choices, name) for name in ("observers", "factor", "candidates")}
        return initial(
            choices.initial,
            self.start,
            self.context,
            self.seed,
            self.progress,
            mean=mean,
            std=std,
            **search,
            once=self.notes.once,
        )

    def _statistics(self) -> Mapping[str, Statistics | None]:
        """Statistics of the real images, loaded from the shared folder if another run has saved them there."""
        choices, total = self.choices, len(self.context.labels)
        if not needs_statistics(choices.matching, choices.layers):
            return dict.fromkeys(self.observers)
        settings = f"{choices.layers}-{choices.patch or 'auto'}-{choices.variance}"
        paths = {name: self.progress.shared / f"{name}-{settings}.safetensors" for name in self.observers}
        missing = {name: self.observers[name] for name, path in paths.items() if not path.exists()}
        if missing:
            made = statistics.collect(
                missing,
                self.context.real,
                len(self.start.classes),
                variance=choices.variance,
                report=lambda done: self.progress.report(done, total, "statistics of real images", lambda: self.start),
            )
            for name, collected in made.items():
                statistics.save(paths[name], {name: collected})
        return {name: statistics.load(path, self.context.device)[name] for name, path in paths.items()}

    def _open(self, rows: IntArray, state: Mapping[str, Any] | None) -> Batch:
        """A batch at its first step, or at the step of its checkpoint."""
        picked = self._on_device(rows)
        own = self.pixels(rows).requires_grad_(True)
        optimizer = torch.optim.Adam([own], lr=self.choices.lr, betas=(0.5, 0.9), eps=1e-8)
        matchers = [
            Matcher(observer, self.statistics[name], self.labels[picked], self.choices.matching)
            for name, observer in self.observers.items()
        ]
        groups = class_groups(self.labels[picked]) if self.choices.density else []
        batch = Batch(own, own.detach().clone(), optimizer, matchers, groups)
        if state is not None:
            batch.restore(state)
        return batch

    def _steps(self, batch: Batch, number: int, rows: IntArray) -> Iterator[Terms]:
        """The remaining steps of a batch; yields the terms of each loss."""
        choices, labels = self.choices, self.labels[self._on_device(rows)]
        observers = list(self.observers.values())
        while batch.step < choices.iterations:
            turn = self.turn(number, batch.step)
            for group in batch.optimizer.param_groups:
                group["lr"] = choices.lr * (1 + math.cos(math.pi * batch.step / choices.iterations)) / 2
            batch.optimizer.zero_grad(set_to_none=True)
            terms = self._gradient(batch, number, observers[turn], batch.matchers[turn], labels)
            batch.terms.append(torch.stack(list(terms.values())).detach())
            batch.optimizer.step()
            with torch.no_grad():
                torch.maximum(torch.minimum(batch.pixels, self.high), self.low, out=batch.pixels)
                batch.average.lerp_(batch.pixels, 1 - choices.decay)
            batch.step += 1
            yield terms

    @property
    def term_names(self) -> list[str]:
        """The names of the terms of the loss, in their order."""
        choices = self.choices
        weights = {
            "match": 1.0,
            "cross-entropy": choices.cross_entropy,
            "flatness": choices.flat if choices.flatness != "sam" else 0.0,
            "density": choices.density,
        }
        return [name for name, weight in weights.items() if weight]

    def turn(self, number: int, step: int) -> int:
        """Which observer measures in a step of a batch."""
        return (number * self.choices.iterations + step) % len(self.observers)

    def _gradient(self, batch: Batch, number: int, observer: Observer, matcher: Matcher, labels: torch.Tensor) -> Terms:
        """Give the pixels the gradient of one step, and return the terms of its loss."""
        if not (self.choices.flat and self.choices.flatness == "sam"):
            terms = self.terms(batch, number, observer, matcher, labels)
            _total(terms).backward()  # type: ignore[no-untyped-call]
            return terms
        own, running = batch.pixels.detach().clone(), matcher.running
        there = self.terms(batch, number, observer, matcher, labels)
        [ascent] = torch.autograd.grad(_total(there), batch.pixels)
        matcher.running = running  # the two passes are one turn of the observer
        with torch.no_grad():
            batch.pixels.add_(ascent * (self.choices.flat / ascent.norm().clamp_min(1e-12)))
        terms = self.terms(batch, number, observer, matcher, labels)
        _total(terms).backward()  # type: ignore[no-untyped-call]
        with torch.no_grad():
            batch.pixels.copy_(own)
        return terms

    def terms(self, batch: Batch, number: int, observer: Observer, matcher: Matcher, labels: torch.Tensor) -> Terms:
        """The weighted terms of one step's loss, by name."""
        choices, step = self.choices, batch.step

        def augmented(images: torch.Tensor) -> torch.Tensor:
            seen = choices.augmentation.apply(images, self.seed, number, step, choices.iterations)
            return seen * self.std + self.mean

        half = autocast(choices.precision, self.context.device)
        with half:
            logits, means, variances = observer.measure(augmented(batch.pixels))
        drawn = (
            uniforms(self.seed, number, step, len(matcher.layer)).to(labels.device) if matcher.settings.drop else None
        )
        terms = {"match": choices.weight * matcher.loss(means, variances, drawn)}
        if choices.cross_entropy:
            terms["cross-entropy"] = choices.cross_entropy * F.cross_entropy(logits, labels)
        if choices.flat and choices.flatness == "logits":
            with torch.no_grad(), half:  # as above, or the logits of equal images would differ
                then = observer.logits(augmented(batch.average))
            terms["flatness"] = choices.flat * flatness(logits, then, choices.temperature, choices.direction)
        if choices.flat and choices.flatness == "statistics":
            with torch.no_grad(), half:
                _, *earlier = observer.measure(augmented(batch.average))
            terms["flatness"] = choices.flat * matcher.distance(means, variances, *earlier)
        if choices.density:
            terms["density"] = choices.density * densification(batch.pixels, batch.groups)
        return terms

    def rounded(self, pixels: torch.Tensor) -> Images:
        """Images u8 [m, s, s, 3] of normalised pixels, rounded (the official code truncates)."""
        return as_images(pixels.detach() * self.std + self.mean)

    def _on_device(self, rows: IntArray) -> torch.Tensor:
        return torch.from_numpy(rows).to(self.context.device)


def unwatched(engine: Engine, batch: Batch, number: int) -> None:
    """In place of `Progress.watch`."""


def _total(terms: Terms) -> torch.Tensor:
    """The loss of which these are the terms."""
    return torch.stack(list(terms.values())).sum()


def batches_of(start: ImageSet, choices: Recovery) -> list[IntArray]:
    """The rows of each batch of images that are matched together; every row occurs once."""
    if choices.order == "classes":
        order = np.argsort(start.labels, kind="stable")
        return [order[first : first + choices.batch_size] for first in range(0, len(order), choices.batch_size)]
    ranks = start.ranks
    rounds = [np.flatnonzero(ranks == one) for one in range(int(ranks.max()) + 1)]
    step = choices.batch_size
    return [rows[first : first + step] for rows in rounds for first in range(0, len(rows), step)]
