"""The accuracy that students reach."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dcpipe.types.base import require

# The protocol of the row "all training images": the recipe of this block of params.yaml.
ALL_IMAGES_PROTOCOL = "teacher.training"


@dataclass(frozen=True)
class Score:
    """One row of the evaluation table: the accuracy on test of each seed, after the last epoch unless `protocol` says
    otherwise."""

    name: str
    protocol: str
    student: str
    ipc: int
    accuracy: tuple[float, ...]
    image_bytes: int
    label_bytes: int
    teacher_bytes: int = 0
    epochs: int = 0

    def __post_init__(self) -> None:
        require(len(self.accuracy) > 0, f"score {self.name}: no seed was run")
        for value in self.accuracy:
            require(0 <= value <= 100, f"score {self.name}: accuracy {value} is not in 0..100 percent")

    @property
    def mean(self) -> float:
        return float(np.mean(self.accuracy))

    @property
    def on_all_images(self) -> bool:
        """Whether it is the upper bound: that of students trained on all train images instead of a condensed set."""
        return self.protocol == ALL_IMAGES_PROTOCOL

    @property
    def std(self) -> float:
        """Sample standard deviation over seeds (0 for a single seed)."""
        return float(np.std(self.accuracy, ddof=1)) if len(self.accuracy) > 1 else 0.0

    @property
    def total_bytes(self) -> int:
        return self.image_bytes + self.label_bytes + self.teacher_bytes
