"""A tiny setting for tests of gradient matching: three classes of 8-pixel images, a small ConvNet and a reporter."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dcpipe.synthesis import Progress, SynthesisContext
from dcpipe.synthesis.gradients.choices import Choices
from dcpipe.synthesis.gradients.engine import Engine
from dcpipe.types import ImageSet, Whitening

SIZE, CLASSES, NETWORK = 8, ("class 0", "class 1", "class 2"), "convnet-d2-w3"
CPU = torch.device("cpu")


class KilledError(Exception):
    """Simulates the end of a process."""


def pixels_of(labels: np.ndarray, seed: int) -> np.ndarray:
    """u8 [n, s, s, 3]: noise in the colour of its class."""
    rng = np.random.default_rng(seed)
    colours = np.random.default_rng(7).integers(40, 170, (3, 1, 1, 3))
    return (colours[labels] + rng.integers(-40, 80, (len(labels), SIZE, SIZE, 3))).astype(np.uint8)


def start_of(ipc: int, seed: int = 1) -> ImageSet:
    """Rounds of one image per class, with the classes in another order each time."""
    labels = np.concatenate([np.roll(np.arange(3), k) for k in range(ipc)])
    return ImageSet(pixels_of(labels, seed), labels, 5 * np.arange(len(labels)) + 2, CLASSES)


@dataclass
class World:
    """Real images, different numbers of them per class, and what was reported: numbers of steps."""

    folder: Path
    labels: np.ndarray = field(default_factory=lambda: np.array([2, 0, 1, 0, 1, 2] * 5 + [0, 0, 1]))
    told: list[int] = field(default_factory=list)
    records: list[tuple[str, list[dict[str, int]]]] = field(default_factory=list)
    kept: list[dict[str, np.ndarray]] = field(default_factory=list)
    transforms: list[Whitening] = field(default_factory=list)
    kill_at: int = -1

    def __post_init__(self) -> None:
        self.images = pixels_of(self.labels, 0)
        self.folder.mkdir(exist_ok=True)

    def real(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for first in range(0, len(self.labels), 20):
            yield self.images[first : first + 20], self.labels[first : first + 20]

    @property
    def context(self) -> SynthesisContext:
        return SynthesisContext({}, self.real, self.labels, CPU)

    @property
    def progress(self) -> Progress:
        return Progress(
            self.folder,
            self.folder,
            self._report,
            lambda *record: self.records.append(record),
            keep=self._keep,
            whiten=self.transforms.append,
        )

    def _keep(self, arrays: Mapping[str, np.ndarray]) -> None:
        self.kept.append(dict(arrays))

    def _report(self, done: int, total: int, note: str, images: Callable[[], ImageSet]) -> None:
        self.told.append(done)
        if done == self.kill_at:
            raise KilledError(note)

    def engine(self, ipc: int = 2, seed: int = 0, **choices: Any) -> Engine:
        """An engine of tiny choices, some of them changed."""
        tiny: dict[str, Any] = {
            "network": NETWORK,
            "outer": 1,
            "inner": 3,
            "lr": 0.1,
            "real_batch": 4,
            "learn_images": 64,
        }
        return Engine(start_of(ipc), self.context, seed, self.progress, Choices(**tiny | choices))
