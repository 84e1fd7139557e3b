"""Stores of soft labels as SRe2L's family of scripts writes them, made slowly and plainly: for the tests of `interop`.

The teacher is a linear map of the pixels it sees, so a replayed view can be checked against its stored label.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch.utils.data import DataLoader, RandomSampler

CLASSES = ("ant", "bee", "cow", "dog")
PER_CLASS, SIDE = 3, 16
N = PER_CLASS * len(CLASSES)


@dataclass
class Batch:
    """What a script held in memory when it saved a batch."""

    index: list[int]
    images: torch.Tensor  # f32 [b, 3, s, s], mixed
    logits: torch.Tensor  # f16 [b, c]


def write_images(folder: Path, seed: int = 0) -> torch.Tensor:
    """An ImageFolder; its pixels f32 [n, 3, s, s] in [0, 1], in the order of the dataset index."""
    source = np.random.default_rng(seed)
    pixels = source.integers(0, 256, (N, SIDE, SIDE, 3), dtype=np.uint8)
    for row in range(N):
        path = folder / CLASSES[row // PER_CLASS] / f"{row % PER_CLASS:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels[row]).save(path)
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255


def teacher(images: torch.Tensor) -> torch.Tensor:
    """Logits f32 [b, 4]."""
    weight = torch.randn(len(CLASSES), 3 * SIDE * SIDE, generator=torch.Generator().manual_seed(5))
    return images.flatten(1) @ weight.T


def write_store(
    folder: Path,
    pixels: torch.Tensor,
    layout: str,
    *,
    epochs: int = 5,
    batch: int = 5,
    mix: bool = True,
    seed: int = 42,
) -> dict[tuple[int, int], Batch]:
    """Save `epoch_E/batch_B.tar`; (epoch, batch) -> what was saved."""
    source = np.random.default_rng(11)
    generator = torch.Generator()
    generator.manual_seed(seed)
    rows = torch.arange(N)
    loader = DataLoader(
        rows, batch_size=5, sampler=RandomSampler(rows, generator=generator), drop_last=layout == "lpld"
    )
    made, listed = {}, {}
    for epoch in range(epochs):
        (folder / f"epoch_{epoch}").mkdir(parents=True)
        listed[epoch] = []
        for number, index in enumerate(loader):
            record, images = _record(pixels, index, source, mix)
            listed[epoch] += index.tolist()
            if layout in ("gvbsm", "edc"):
                record.append(index)
            if layout == "edc":
                record.append(torch.zeros(len(index), 2, 2, dtype=torch.int32))
            torch.save(record, folder / f"epoch_{epoch}" / f"batch_{number}.tar")
            made[epoch, number] = Batch(index.tolist(), images, record[5])
    if layout == "lpld":
        (folder / "sampler_indices_epoch.json").write_text(json.dumps(listed))
    return made


def _record(
    pixels: torch.Tensor, index: torch.Tensor, source: np.random.Generator, mix: bool
) -> tuple[list, torch.Tensor]:
    coords, flips, views = [], [], []
    for row in index.tolist():
        h, w = int(source.integers(4, SIDE + 1)), int(source.integers(4, SIDE + 1))
        i, j = int(source.integers(0, SIDE - h + 1)), int(source.integers(0, SIDE - w + 1))
        view = F.interpolate(
            pixels[row : row + 1, :, i : i + h, j : j + w], (SIDE, SIDE), mode="bilinear", antialias=True
        )
        flip = bool(source.random() < 0.5)
        views.append(torch.flip(view[0], [2]) if flip else view[0])
        coords.append([i / SIDE, j / SIDE, h / SIDE, w / SIDE])
        flips.append(flip)
    images = torch.stack(views)
    mixing: list = [None, None, None]
    if mix:
        images, mixing = _cutmix(images, source)
    logits = teacher(images).half()
    return [torch.tensor(coords), torch.tensor(flips), *mixing, logits], images


def _cutmix(images: torch.Tensor, source: np.random.Generator) -> tuple[torch.Tensor, list]:
    """The scripts' own way: corners are NumPy integers, and x indexes rows."""
    lam = float(source.beta(1.0, 1.0))
    side = int(SIDE * np.sqrt(1.0 - lam))
    cx, cy = int(source.integers(SIDE)), int(source.integers(SIDE))
    x1, x2 = np.clip(cx - side // 2, 0, SIDE), np.clip(cx + side // 2, 0, SIDE)
    y1, y2 = np.clip(cy - side // 2, 0, SIDE), np.clip(cy + side // 2, 0, SIDE)
    order = torch.from_numpy(source.permutation(len(images)))
    images[:, :, x1:x2, y1:y2] = images[order, :, x1:x2, y1:y2]
    return images, [order, lam, [x1, y1, x2, y2]]


def by_view(made: dict[tuple[int, int], Batch]) -> dict[tuple[int, int], tuple[torch.Tensor, torch.Tensor]]:
    """(image, k) -> (pixels, logits) of its k-th appearance, counted one by one."""
    seen = [0] * N
    found = {}
    for place in sorted(made):
        batch = made[place]
        for row, image in enumerate(batch.index):
            found[image, seen[image]] = (batch.images[row], batch.logits[row])
            seen[image] += 1
    return found
