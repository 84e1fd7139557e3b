"""Views and images that the tests of views share."""

from __future__ import annotations

import numpy as np
import torch

from dcpipe.views import Views


def whole(m: int, flip: bool = False) -> Views:
    """Views of the full image without a mix."""
    box = np.tile([0.0, 0.0, 1.0, 1.0], (m, 1))
    return Views(box, np.full(m, flip), np.zeros(m, dtype=np.int64), np.zeros((m, 4)))


def column(n: int, value: int = 0) -> np.ndarray:
    return np.full(n, value, dtype=np.int64)


def random_images(n: int, height: int, width: int, seed: int = 0) -> torch.Tensor:
    pixels = np.random.default_rng(seed).integers(0, 256, (n, height, width, 3), dtype=np.uint8)
    return torch.from_numpy(pixels)
