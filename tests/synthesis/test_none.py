"""Synthesis `none` returns the picked images and needs no context."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from dcpipe.synthesis import METHODS, Progress, SynthesisContext
from dcpipe.types import ImageSet


def test_none_is_the_selection_itself(tmp_path: Path) -> None:
    def untouched(*_: object) -> None:
        raise AssertionError

    pixels = np.arange(2 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 4, 4, 3)
    start = ImageSet(pixels.copy(), np.array([1, 0]), np.array([7, 3]), ("cat", "dog"))
    context = SynthesisContext({}, untouched, start.labels, torch.device("cpu"))
    for seed in (0, 1):
        result = METHODS["none"](start, context, seed, Progress(tmp_path, tmp_path, untouched))
        assert np.array_equal(result.images, pixels)
        assert (result.labels.tolist(), result.ids.tolist(), result.classes) == ([1, 0], [7, 3], ("cat", "dog"))
    assert list(tmp_path.iterdir()) == []
