"""The matching engine: images whose gradients, or features, match those of real ones. For DC, DSA, DM, IDC, DREAM, MDC.

Every outer loop starts with a new random network. In each inner step, for all classes at once,

    L_c = D(g(real_c), g(X_c)) [+ D(g(real_c), g(S_c[n*]))],   X <- X - lr dL/dX,

where g is the gradient of the mean cross-entropy w.r.t. the weights of the network (or, for DM, the mean feature) for
images with the same augmentation, X_c are the training images that the stored images of a class decode to, and S_c[n*]
is MDC's subset (`loss.py`). Then the network is trained for some steps (`teaching.py`). The methods are choices of
these parts (`choices.py`).

IDC takes one step per class, and its single optimiser moves the images of all classes in each of them by the remaining
momentum. `sweeps` does the same in one step for all classes: a class gets one gradient per sweep of C steps, so
momentum m becomes m^C, and lr becomes lr (1 - m^C) / (1 - m).

All classes are one piece of work, never groups of classes on several workers. With DC and DSA the network learns from
the images of all classes after every step, and MDC chooses one subset for all of them. With DM, IDC and DREAM a class
does not see the images of the others, but every group would need the same networks, which IDC and DREAM train on real
images of all classes, and DM's are cheap.

A killed run resumes in the middle of an outer loop; all random numbers are functions of (seed, loop, step). MDC's
choices, frozen images and distances are passed to `progress.record` after each decision and at the end.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from dcpipe import networks, training
from dcpipe.random import STEPS, torch_seed
from dcpipe.synthesis.base import Progress, SynthesisContext, as_images
from dcpipe.synthesis.gradients.accuracies import SubsetEvaluation, accuracies, teach_epoch
from dcpipe.synthesis.gradients.choices import Choices, check_alone
from dcpipe.synthesis.gradients.class_gradients import ClassGradients
from dcpipe.synthesis.gradients.forms import Pixels
from dcpipe.synthesis.gradients.loss import Losses
from dcpipe.synthesis.gradients.real import RealImages
from dcpipe.synthesis.gradients.representatives import representatives
from dcpipe.synthesis.gradients.subsets import METRICS, Measurements, Subsets
from dcpipe.synthesis.initial import noise
from dcpipe.types import By, ImageSet, IntArray, require
from dcpipe.views import multiformation

CHECKPOINT = "matching.pt"
REPORT_SECONDS = 2.0
_EMBED_BATCH = 512


class Engine:
    """The images of all classes during optimisation, f32 [c, n, 3, s, s] in [0, 1], with everything a checkpoint
    contains.

    Raises `DataError` for classes with different numbers of images, and for choices that do not fit the images.
    """

    def __init__(
        self, start: ImageSet, context: SynthesisContext, seed: int, progress: Progress, choices: Choices
    ) -> None:
        self.start, self.context, self.progress, self.choices, self.seed = start, context, progress, choices, seed
        self.c, self.device = len(start.classes), context.device
        counts = np.bincount(start.labels, minlength=self.c)
        require(
            bool((counts == counts[0]).all()),
            f"synthesis: classes have {counts.min()} to {counts.max()} images; all classes are matched together, so "
            "select as many of each",
        )
        self.n = int(counts[0])
        self.rows = np.argsort(start.labels, kind="stable").reshape(self.c, self.n)  # rows of `start`, by class
        self.real = RealImages(context, self.c, seed, choices.real_batch)
        self.losses = Losses(choices, self.c, self.n, (self.real.mean, self.real.std), seed, self.device)
        rules = None if choices.subsets is None else choices.subsets.rules(self.n, self.c)
        self.subsets = None if rules is None else Subsets.begin(rules)
        self.loop = self.step = 0
        self._seed_with(seed if context.start_seed is None else context.start_seed)
        self.form = context.form or Pixels(self._initial_pixels(), choices.bounds)
        if self.seed != seed:
            self._seed_with(seed)
        require(
            context.form is None or self.subsets is None,
            "synthesis: images that are made of components have no pixels to freeze; leave subsets out",
        )

    @property
    def pixels(self) -> torch.Tensor:
        """The images f32 [c, n, 3, s, s]."""
        return self.form.pixels

    def run(self) -> ImageSet:
        """All loops, starting from the checkpoint if there is one."""
        path, choices = self.progress.notes / CHECKPOINT, self.choices
        if path.exists():
            self._restore(torch.load(path, map_location="cpu", weights_only=True))
        self._tell_snapshot()
        pause = training.checkpoint_pause()
        saved = reported = time.monotonic()
        while self.loop < choices.outer:
            if self.step == 0:
                self._begin_loop()
            if self.step < choices.inner:  # otherwise it was killed while accuracies were measured
                loss = self._inner_step()
                if time.monotonic() - reported > REPORT_SECONDS:  # seldom, because this reads the loss from the device
                    self._report(f"loss {float(loss):.4g}{self._subset_note()}")
                    reported = time.monotonic()
                self.step += 1
            if self.step == choices.inner:
                self._end_loop()
                self._tell_snapshot()
            if time.monotonic() - saved > pause:
                training.save_checkpoint(path, self._state())
                saved = time.monotonic()
        self._record(choices.outer - 1)
        return self._image_set()

    @property
    def count(self) -> int:
        """Inner steps made so far."""
        return self.loop * self.choices.inner + self.step

    def _seed_with(self, seed: int) -> None:
        """Draw everything by this seed from now on: the order of real images, and the network."""
        self.seed = self.real.seed = seed
        self._new_network()

    def _new_network(self) -> None:
        """A new network for this outer loop, and everything that depends on it."""
        torch.manual_seed(torch_seed(self.seed, self.loop))
        network = networks.build(self.choices.network, self.c, self.start.images.shape[1])
        check_alone(network, self.choices.network)
        self.network = network.to(self.device).train()
        self.optimizer = self.choices.teaching.optimizer(self.network)
        self.gradients: ClassGradients | None = None
        if self.choices.match == "gradients":
            self.gradients = ClassGradients(self.network, parameters=self.choices.parameters)
        self.distances = torch.zeros(self.c, self.n, dtype=torch.float64, device=self.device)
        self.picked: torch.Tensor | None = None

    def _begin_loop(self) -> None:
        """A new network, trained for `early` epochs; pixels are clipped to their range."""
        self._new_network()
        self.form.clip()
        if self.subsets is not None:
            known = len(self.subsets.history)
            self.subsets = self.subsets.entered(self.loop)
            if len(self.subsets.history) > known or self.subsets.rules.measures(self.loop - 1):
                self._record(self.loop)
        batch = self.choices.teaching.batch
        steps = self.choices.early * max(1, len(self.real.labels) // batch)
        for step in range(steps):  # with negative numbers, because inner steps use the others
            self._train_on_real(-1 - self.loop * steps - step)

    def _end_loop(self) -> None:
        """Make MDC's choice, if this loop measures."""
        require(
            bool(self.pixels.isfinite().all()),
            f"synthesis: pixels became NaN or infinite in outer loop {self.loop}; lower lr ({self.choices.lr})",
        )
        if self.subsets is not None and self.subsets.rules.measures(self.loop):
            found = self._errors() if self.losses.metric == "accuracy" else self.distances / self.choices.inner
            self.subsets = self.subsets.after(self.loop, found)
        self.loop, self.step = self.loop + 1, 0

    def _inner_step(self) -> torch.Tensor:
        """Match all classes, update the images and train the network; returns the loss."""
        nothing = np.zeros(self.c, dtype=np.int64)
        sizes, frozen, measure = nothing, nothing, False
        if self.subsets is not None:
            sizes, frozen = self.subsets.sizes(self.loop), self.subsets.frozen(self.loop)
            measure = self.losses.metric != "accuracy" and self.subsets.rules.measures(self.loop)
        real = self.real.take(self._real_rows().reshape(-1))
        found = self.losses.compute(self.pixels, real, self.network, self.gradients, self.count, sizes, frozen, measure)
        if found.distances is not None:
            self.distances += found.distances
        lr, momentum = self._rates()
        # One unit of normalised pixels is std of plain ones, and a gradient w.r.t. normalised pixels is std times as
        # large.
        scale = self.real.std.square() if self.choices.space == "normalised" else 1.0
        self.form.step(found.grad, scale, found.moving, lr, momentum)
        if self.step + 1 < self.choices.inner:  # otherwise a new network follows
            self._train_network()
        return found.loss

    def _rates(self) -> tuple[float, float]:
        """Learning rate and momentum of a step for all classes at once; see the docstring of the module."""
        lr, momentum = self.choices.lr, self.choices.momentum
        if not self.choices.sweeps:
            return lr, momentum
        kept = momentum**self.c
        return lr * (1 - kept) / (1 - momentum), kept

    def _real_rows(self) -> IntArray:
        """Rows i64 [c, batch] of this step's real images."""
        if not self.choices.cluster:
            return self.real.class_batches(self.count)
        if self.picked is None or self.step % self.choices.cluster == 0:
            self.picked = self._representatives(self.choices.real_batch, self.count)
        return self.picked.numpy()

    def _representatives(self, n: int, step: int) -> torch.Tensor:
        """DREAM's choice: rows i64 [c, n] of the real images nearest to the centroids of the features of each class."""
        most = max(len(rows) for rows in self.real.classes)
        ids = np.full((self.c, most), -1, dtype=np.int64)
        for label, rows in enumerate(self.real.classes):
            ids[label, : len(rows)] = rows
        flat = np.maximum(ids.reshape(-1), 0)
        parts = [
            networks.forward(self.network, self.real.take(flat[first : first + _EMBED_BATCH], normalised=False))[0]
            for first in range(0, len(flat), _EMBED_BATCH)
        ]
        embeddings = torch.cat(parts).reshape(self.c, most, -1)
        columns = representatives(embeddings, ids, n, self.seed, step)
        return torch.from_numpy(ids).gather(1, columns.cpu())

    def _train_network(self) -> None:
        """Train the network after an inner step."""
        choices = self.choices
        if choices.learn == "real":
            steps = -(-choices.learn_images // choices.teaching.batch)
            for step in range(steps):
                self._train_on_real(self.count * steps + step)
        elif choices.learn == "condensed":
            made, epochs = self._training_images(), choices.learn_epochs
            labels = torch.arange(self.c, device=self.device).repeat_interleave(made.shape[1])
            taught = self.network, self.optimizer, made.flatten(0, 1), labels
            for epoch in range(self.count * epochs, (self.count + 1) * epochs):
                teach_epoch(choices.teaching, *taught, self.seed, epoch)

    def _train_on_real(self, step: int) -> None:
        teaching = self.choices.teaching
        rows = self.real.mixed_batch(step % STEPS, teaching.batch)
        labels = self.real.labels[torch.from_numpy(rows).to(self.device)]
        teaching.step(self.network, self.optimizer, self.real.take(rows), labels, self.seed, step)

    def _training_images(self) -> torch.Tensor:
        """Normalised training images f32 [c, d, 3, s, s] that the condensed ones decode to."""
        made = multiformation.decode(self.pixels, self.choices.factor, self.choices.kind, self.choices.bound)
        return (made - self.real.mean) / self.real.std

    def _errors(self) -> torch.Tensor:
        """Errors of networks that are trained on each subset of the current images: f64 [c, N]. The checkpoint is
        written first, so that a killed run repeats no inner step."""
        training.save_checkpoint(self.progress.notes / CHECKPOINT, self._state())
        images, owners, evaluation = self._training_images(), self.losses.owners, SubsetEvaluation.of(self.choices)

        def report(n: int) -> None:
            self._report(f"accuracy of subset {n} of {self.n - 1}")

        found = accuracies(images, owners, self.real, evaluation, self.seed, self.loop, report)
        return METRICS["accuracy"](Measurements(accuracies=found))

    def _initial_pixels(self) -> torch.Tensor:
        """The initial pixels f32 [c, n, 3, s, s]."""
        choices, size = self.choices, self.start.images.shape[1]
        if choices.initial == "start":
            plain = torch.from_numpy(self.start.images[self.rows.reshape(-1)]).to(self.device)
            return (plain.permute(0, 3, 1, 2).float() / 255).reshape(self.c, self.n, 3, size, size)
        if choices.initial == "noise":
            made = noise(self.start, self.context, self.seed, self.progress, mean=(0, 0, 0), std=(1, 1, 1))
            drawn = made(self.rows.reshape(-1))
            return (drawn * self.real.std + self.real.mean).reshape(self.c, self.n, 3, size, size)
        cells = self.n * choices.factor**2
        rows = self._representatives(cells, -1).numpy() if choices.cluster else self.real.first(cells)
        whole = self.real.take(rows.reshape(-1), normalised=False).reshape(self.c, cells, 3, size, size)
        return multiformation.arrange(whole, choices.factor)

    def _tell_snapshot(self) -> None:
        if self.step == 0 and self.progress.snapshot is not None:
            self.progress.snapshot(self.loop, self._image_set)

    def _report(self, note: str) -> None:
        outer, inner = self.choices.outer, self.choices.inner
        self.progress.report(self.count, outer * inner, f"loop {self.loop + 1} of {outer}: {note}", self._image_set)

    def _record(self, loop: int) -> None:
        if self.subsets is not None:
            self.progress.record("subsets", self.subsets.rows(loop))
            if len(self.subsets.loops):
                self.progress.record("distances", self.subsets.distance_rows())

    def _subset_note(self) -> str:
        if self.subsets is None:
            return ""
        shown = (("subset", self.subsets.sizes(self.loop)), ("frozen", self.subsets.frozen(self.loop)))
        return "".join(f", {name} {_span(values)}" for name, values in shown)

    def _image_set(self) -> ImageSet:
        """The current set, u8, in the order of `start`."""
        subsets = self.choices.subsets
        images = np.empty_like(self.start.images)
        images[self.rows.reshape(-1)] = as_images(self.pixels.flatten(0, 1))
        by: By = "images" if subsets is None else subsets.by
        return replace(self.start, images=images, grid=self.choices.factor, by=by)

    def _state(self) -> dict[str, Any]:
        """The contents of a checkpoint."""
        return {
            **self.form.state(),
            "loop": self.loop,
            "step": self.step,
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "distances": self.distances,
            "picked": self.picked,
            "subsets": None if self.subsets is None else self.subsets.state(),
        }

    def _restore(self, state: Mapping[str, Any]) -> None:
        """Restore the state from a checkpoint."""
        self.loop, self.step = state["loop"], state["step"]
        self._new_network()
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.form.restore(state)
        self.distances = state["distances"].to(self.device)
        self.picked = state["picked"]
        if self.subsets is not None:
            self.subsets = Subsets.resume(self.subsets.rules, state["subsets"])


def _span(values: IntArray) -> str:
    low, high = values.min(), values.max()
    return f"{low}" if low == high else f"{low} to {high}"


def match(start: ImageSet, context: SynthesisContext, seed: int, progress: Progress, choices: Choices) -> ImageSet:
    """The optimised images, with the labels and ids of `start`. Raises `DataError` for choices that do not fit the
    images, and if pixels are no longer finite."""
    return Engine(start, context, seed, progress, choices).run()
