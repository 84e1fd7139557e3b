"""What every synthesis method is given beside the images it starts from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from dcpipe.types import ImageSet, IntArray, Teacher


@dataclass(frozen=True)
class Scene:
    """Teachers that may observe, the real train images in table order (u8 [m, s, s, 3] and labels, part by part),
    and the device to work on."""

    observers: Mapping[str, Teacher]
    real: Callable[[], Iterator[tuple[npt.NDArray[np.uint8], IntArray]]]
    device: torch.device


@dataclass(frozen=True)
class Watch:
    """A method's tie to the world: a folder for checkpoints it may go on from, and `report(done, total, images)`.
    Neither may change the result."""

    notes: Path
    report: Callable[[int, int, ImageSet], None]
