"""What every synthesis method is given beside the images it starts from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from dcpipe.types import ImageSet, IntArray, Teacher, require


@dataclass(frozen=True, eq=False)
class SynthesisContext:
    """Teachers that may observe, the real train images in table order (u8 [m, s, s, 3] and labels, part by part), the
    labels of all of them (i64 [n], table order), and the device to work on."""

    observers: Mapping[str, Teacher]
    real: Callable[[], Iterator[tuple[npt.NDArray[np.uint8], IntArray]]]
    labels: IntArray
    device: torch.device

    def choose(self, names: list[str] | None) -> dict[str, Teacher]:
        """The teachers of these names, in their order; all for None. Raises `DataError` for a name it lacks."""
        chosen = list(self.observers) if names is None else names
        require(bool(chosen), "synthesis: observers is an empty list; name one or more, or leave it out for all")
        for name in chosen:
            legal = ", ".join(self.observers)
            require(
                name in self.observers, f"synthesis: observer {name!r} is not among the teachers; choose of {legal}"
            )
        return {name: self.observers[name] for name in chosen}


def _unrecorded(name: str, rows: list[dict[str, int]]) -> None:
    """For those who keep no record."""


@dataclass(frozen=True)
class Progress:
    """A method's tie to the world: `notes`, a folder for checkpoints that it may go on from; `shared`, one for what any
    run with these images and teachers would find alike (statistics); `report(done, total, note, images)`, whose
    `images` are made only if somebody looks; and `record(name, rows)`, a small table of what the method has decided so
    far, whole each time. None of them may change the result."""

    notes: Path
    shared: Path
    report: Callable[[int, int, str, Callable[[], ImageSet]], None]
    record: Callable[[str, list[dict[str, int]]], None] = _unrecorded
