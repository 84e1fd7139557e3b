"""A tiny setting for tests of recovery: three classes of real images, two observers, a start and a reporter."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from slow_observers import teacher_of

from dcpipe.synthesis import Progress, SynthesisContext
from dcpipe.synthesis.batches import recover
from dcpipe.synthesis.matching import Matching
from dcpipe.synthesis.recovery import Recovery
from dcpipe.synthesis.weak_augmentation import WeakAugmentation
from dcpipe.types import ImageSet, Teacher

SIZE, CLASSES = 16, ("class 0", "class 1", "class 2")
NETS = {"res": "resnet10-w2", "conv": "convnet-d2-w3"}
THREE = NETS | {"wide": "resnet10-w3"}
CPU = torch.device("cpu")


def pixels_of(labels: np.ndarray, seed: int) -> np.ndarray:
    """u8 [n, s, s, 3]: noise in the colour of its class."""
    rng = np.random.default_rng(seed)
    colours = np.random.default_rng(7).integers(40, 170, (3, 1, 1, 3))
    return (colours[labels] + rng.integers(-40, 80, (len(labels), SIZE, SIZE, 3))).astype(np.uint8)


def start_of(labels: list[int], seed: int = 1) -> ImageSet:
    rows = np.array(labels)
    return ImageSet(pixels_of(rows, seed), rows, 5 * np.arange(len(rows)) + 2, CLASSES)


@dataclass
class World:
    """A context that counts the passes over the real images, and what was reported."""

    folder: Path
    nets: dict[str, str] = field(default_factory=lambda: dict(NETS))
    passes: int = 0
    recorded: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    told: list[tuple[int, int, str]] = field(default_factory=list)
    interrupt: Callable[[int, str], None] = lambda count, note: None

    def __post_init__(self) -> None:
        self.labels = np.arange(36) % 3
        self.images = pixels_of(self.labels, 0)
        self.teachers: dict[str, Teacher] = {key: teacher_of(net, SIZE) for key, net in self.nets.items()}
        for name in ("notes", "shared"):
            (self.folder / name).mkdir(exist_ok=True)

    def real(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        self.passes += 1
        for first in range(0, 36, 20):
            yield self.images[first : first + 20], self.labels[first : first + 20]

    @property
    def context(self) -> SynthesisContext:
        return SynthesisContext(self.teachers, self.real, self.labels, CPU)

    @property
    def progress(self) -> Progress:
        def report(done: int, total: int, note: str, images: Any) -> None:
            self.told.append((done, total, note))
            self.interrupt(len(self.told), note)

        return Progress(self.folder / "notes", self.folder / "shared", report, self.recorded.__setitem__)


EVERYTHING = Recovery(
    iterations=5,
    lr=0.05,
    batch_size=4,
    weight=0.1,
    density=0.5,
    flat=2.0,
    matching=Matching(alpha=0.5, momentum=0.8, drop=0.4),
    augmentation=WeakAugmentation(crop_min=0.5, jitter=2),
)
LABELS = [0, 1, 2, 0, 1, 2, 0, 1]  # two batches of four


def made(world: World, choices: Recovery = EVERYTHING, seed: int = 3) -> ImageSet:
    return recover(start_of(LABELS), world.context, seed, world.progress, choices)


def two_worlds(folder: Path) -> tuple[World, World]:
    """Each with folders of its own."""
    for name in ("one", "other"):
        (folder / name).mkdir()
    return World(folder / "one"), World(folder / "other")
