"""All batches of a recovery, one after another in this process, or on workers.

Batches do not depend on each other: the random numbers of a batch are functions of its number, and it has its own Adam
and its own averages of statistics. What they share is made here first: the statistics of the real images, and mosaics
to start from.

Memory: the set, u8, in main memory.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from dcpipe.synthesis import shards
from dcpipe.synthesis.base import Progress, SynthesisContext
from dcpipe.synthesis.checkpoints import Images
from dcpipe.synthesis.recovery import Batch, Engine, Recovery
from dcpipe.types import ImageSet, require, run_in_turn


def recover(start: ImageSet, context: SynthesisContext, seed: int, progress: Progress, choices: Recovery) -> ImageSet:
    """Recovered images with the labels and ids of `start`. They start from `choices.initial`. Batches that an earlier
    run has finished are not recovered again.

    Raises `DataError` for choices that do not fit the images or the observers, and if pixels are no longer finite.
    """
    engine = Engine(start, context, seed, progress, choices)
    whole = Whole(engine)
    missing = engine.notes.missing(len(engine.rows))
    if missing:
        _ = engine.pixels  # made here, before a worker would have to
        work, job = shards.Work(engine, whole.report), shards.job_of(engine) if progress.watch is None else None
        one: Callable[[int], None] = work.recover
        if job is not None:
            shards.work_of.put(work, job)
            one = partial(shards.recover_batch, job)
        try:
            map_tasks = context.map_tasks if progress.watch is None else run_in_turn
            map_tasks(one, missing, "recover[{:05d}]".format, retries=2, progress="batches")
        finally:
            shards.work_of.forget()
    return whole.finished()


class Whole:
    """The images of all batches, as far as they are known, and the progress of the batches that run in this process."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.images: Images = np.empty_like(engine.start.images)
        self.drawn, self.kept = set[int](), set[int]()  # batches of which `images` has the start, and the result

    def finished(self) -> ImageSet:
        """The set when all batches are finished. Raises `DataError` if the images of one are gone."""
        for number in range(len(self.engine.rows)):
            notes = self.engine.progress.notes
            require(self._keep(number), f"synthesis: batch {number} is not in {notes}; run the stage again")
        self.engine.progress.record("loss", self.losses())
        return self._image_set()

    def losses(self) -> list[dict[str, Any]]:
        """A table of the weighted terms of the loss by step and observer, each the mean over the batches in which this
        observer measured in this step (EDC, Fig. 3)."""
        engine, names = self.engine, list(self.engine.observers)
        total = np.zeros((engine.choices.iterations, len(names), len(engine.term_names)))
        count = np.zeros(total.shape[:2], dtype=np.int64)
        steps = np.arange(engine.choices.iterations)
        for number in range(len(engine.rows)):
            turns = np.array([engine.turn(number, int(step)) for step in steps])
            total[steps, turns] += engine.notes.terms(number).double().numpy()
            count[steps, turns] += 1
        return [
            {
                "step": int(step),
                "observer": names[turn],
                "batches": int(count[step, turn]),
                **dict(zip(engine.term_names, (total[step, turn] / count[step, turn]).round(6).tolist(), strict=True)),
            }
            for step, turn in np.argwhere(count)
        ]

    def report(self, batch: Batch, number: int, note: str) -> None:
        """Report the progress of a batch among all, the terms of its loss, and the current images."""
        count, steps = len(self.engine.rows), self.engine.choices.iterations
        done, text = number * steps + batch.step, f"batch {number + 1} of {count}: {note}"
        self.engine.progress.report(done, count * steps, text, lambda: self._so_far(batch, number))

    def _so_far(self, batch: Batch, number: int) -> ImageSet:
        engine = self.engine
        for other, rows in enumerate(engine.rows):
            if not self._keep(other) and other not in self.drawn:  # what a batch starts from if it has not begun
                self.images[rows] = engine.rounded(engine.pixels(rows))
                self.drawn.add(other)
        self.images[engine.rows[number]] = engine.rounded(batch.pixels)
        return self._image_set()

    def _keep(self, number: int) -> bool:
        """Whether a batch is finished; then its images are put in their place."""
        if number not in self.kept and (images := self.engine.notes.finished(number)) is not None:
            self.images[self.engine.rows[number]] = images
            self.kept.add(number)
        return number in self.kept

    def _image_set(self) -> ImageSet:
        return replace(self.engine.start, images=self.images, grid=1)
