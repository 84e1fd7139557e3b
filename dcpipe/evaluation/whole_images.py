"""Whole images, as students are tested on them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch

from dcpipe import store, teacher
from dcpipe.images.kept import read_kept
from dcpipe.types import Colour, ImageTable
from dcpipe.views.whitening import Whitener

UNCHANGED: tuple[Colour, Colour] = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))  # mean and deviation that change nothing


def whole_images(
    test: ImageTable, folder: Path, mean: Colour, std: Colour, device: torch.device, whitening: Path | None = None
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Batches of the images of a split, normalised, or whitened by the transform in a file: f32 [m, 3, s, s] and their
    labels i64 [m]. They are decoded once for all students that share the folder."""
    if whitening is None:
        yield from teacher.plain_batches(read_kept(test, folder), mean, std, 512, device)
        return
    whitener = Whitener.of(store.read_whitening(whitening), device)
    for pixels, labels in teacher.plain_batches(read_kept(test, folder), *UNCHANGED, 512, device):
        yield whitener(pixels), labels
