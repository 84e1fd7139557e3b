"""Views and images that the tests of views share."""

from __future__ import annotations

import numpy as np
import torch

from dcpipe.types import StoredViews, ViewPolicy
from dcpipe.views import Views

SIAMESE = ViewPolicy(scale_min=0.5, siamese="color_crop_flip_scale_rotate", mix="cutmix_images", seed=4)


def whole(m: int, flip: bool = False) -> Views:
    """Views of the full image without a mix."""
    box = np.tile([0.0, 0.0, 1.0, 1.0], (m, 1))
    return Views(box, np.full(m, flip), np.zeros(m, dtype=np.int64), np.zeros((m, 4)))


def column(n: int, value: int = 0) -> np.ndarray:
    return np.full(n, value, dtype=np.int64)


def random_images(n: int, height: int, width: int, seed: int = 0) -> torch.Tensor:
    pixels = np.random.default_rng(seed).integers(0, 256, (n, height, width, 3), dtype=np.uint8)
    return torch.from_numpy(pixels)


def stored_views(
    n: int = 4, k: int = 3, height: int = 8, width: int = 8, size: int = 8, mix: str = "cutmix_images", seed: int = 0
) -> StoredViews:
    """Boxes of whole pixels of images of `height` x `width`, seen at `size` pixels."""
    source = np.random.default_rng(seed)
    side = np.array([width, height])
    pixel = source.integers(1, side + 1, (2, n, k, 2))
    corner = (source.random((2, n, k, 2)) * (side + 1 - pixel)).astype(int)
    box, partner_box = (np.concatenate([at / side, of / side], axis=-1) for at, of in zip(corner, pixel, strict=True))
    arrays = {"box": box.astype(np.float32), "flip": source.integers(0, 2, (n, k)).astype(np.uint8)}
    if mix != "none":
        edges = np.sort(source.integers(0, size + 1, (2, n, k, 2)), axis=0)
        arrays |= {
            "partner": source.integers(0, n, (n, k)).astype(np.int32),
            "mix_box": np.concatenate([edges[0], edges[1]], axis=-1).astype(np.uint16),
            "partner_box": partner_box.astype(np.float32),
            "partner_flip": source.integers(0, 2, (n, k)).astype(np.uint8),
        }
    return StoredViews(mix, size, arrays)  # type: ignore[arg-type]  # a plain string
