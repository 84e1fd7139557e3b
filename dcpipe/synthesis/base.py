"""What every synthesis method gets in addition to the images that it starts from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from dcpipe.synthesis.gradients.forms import Form
from dcpipe.types import ImageSet, ImageTable, IntArray, Map, Teacher, Whitening, require, run_in_turn


@dataclass(frozen=True, eq=False)
class SynthesisContext:
    """The teachers that may be observers, the real train images in table order (parts of u8 [m, s, s, 3] with their
    labels), the labels of all train images (i64 [n], table order), and the device to compute on.

    `map_tasks`: how independent parts of the work run. They can run in other processes if `table` is the table that the
    real images come from, and the set that a method starts from is a selection of its images; None otherwise.
    `start_seed`: the seed of the images that gradient matching starts from (the real images of `mix`, the noise), None
    for that of the run, so that several runs can start from the same images. `form`: what the methods of matching move
    instead of pixels (`gradients/forms.py`), and leave as their result; None for pixels.
    """

    observers: Mapping[str, Teacher]
    real: Callable[[], Iterator[tuple[npt.NDArray[np.uint8], IntArray]]]
    labels: IntArray
    device: torch.device
    map_tasks: Map = run_in_turn
    table: ImageTable | None = None
    start_seed: int | None = None
    form: Form | None = None

    def choose(self, names: list[str] | None) -> dict[str, Teacher]:
        """The teachers with these names, in this order; all teachers for None. Raises `DataError` for an unknown
        name."""
        chosen = list(self.observers) if names is None else names
        require(
            bool(chosen),
            "synthesis: observers is an empty list; name at least one, or leave it out to use all teachers",
        )
        for name in chosen:
            valid = ", ".join(self.observers)
            require(
                name in self.observers, f"synthesis: observer {name!r} is not among the teachers; choose from {valid}"
            )
        return {name: self.observers[name] for name in chosen}


def as_images(pixels: torch.Tensor) -> npt.NDArray[np.uint8]:
    """Pixels [n, 3, s, s] in [0, 1] as images u8 [n, s, s, 3], rounded and clipped."""
    whole = pixels.detach().mul(255).round().clamp(0, 255).to(torch.uint8)
    images: npt.NDArray[np.uint8] = whole.permute(0, 2, 3, 1).contiguous().cpu().numpy()
    return images


def _unkept(arrays: Mapping[str, npt.NDArray[np.float32]]) -> None:
    """The default of `Progress.keep`, which keeps nothing."""


def _unrecorded(name: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """The default of `Progress.record`, which records nothing."""


@dataclass(frozen=True)
class Progress:
    """How a method saves and reports its progress. `notes`: a folder for checkpoints, from which a method may resume.
    `shared`: a folder for results that are the same for every run with these images and teachers (statistics).
    `report(done, total, note, images)`: shows progress; the function `images` is called only if they are displayed.
    `record(name, rows)`: stores a small table of all decisions, measurements or losses so far. `watch(engine, batch,
    number)`: called by recoveries with their `recovery.Engine` and each batch, before its first step (or, after a kill,
    the step of its checkpoint) and after every step; batches then run one after another in this process.
    `snapshot(loops, images)`: called by gradient matching with the number of outer loops so far, by `mtt` with that of
    iterations, 0 at the start, and a function that gives the images; what is after the last checkpoint of a killed run
    is told again. `keep(arrays)`: what was learned beside the images, once they are done: `logits` f32 [n, c] of labels
    that hold for all views of an image, the step size `rate` f32 [] of students. `whiten(transform)`: stores the ZCA
    transform that the images are made for, before the work begins; None where it would be lost, so that a method must
    refuse to whiten. Only `keep` and `whiten` belong to the result; none of them may change it."""

    notes: Path
    shared: Path
    report: Callable[[int, int, str, Callable[[], ImageSet]], None]
    record: Callable[[str, Sequence[Mapping[str, Any]]], None] = _unrecorded
    watch: Callable[[Any, Any, int], None] | None = None
    snapshot: Callable[[int, Callable[[], ImageSet]], None] | None = None
    keep: Callable[[Mapping[str, npt.NDArray[np.float32]]], None] = _unkept
    whiten: Callable[[Whitening], None] | None = None
