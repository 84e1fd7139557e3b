"""Crops that observers classify easily, and mosaics of them: the training-free part of RDED, and a start for recovery.

The pass is one piece of work, not a shard per part of the table. Parts could be scored anywhere, because their best
crops are merged in the order of the table, but other processes would have to hand over every candidate's crop: 45 GB
for ImageNet-1K at factor 1, of which a set of 10 images per class keeps 1.5 GB.

Memory: one part of the table, one batch of crops on the device, the best crops so far (u8, as many as the mosaics
contain), and finally the mosaics themselves. Time: decoding the table once, and `candidates * crops` views per class
through every observer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import nn

from dcpipe import networks, views
from dcpipe.random import Draw, permutation
from dcpipe.types import IntArray, Teacher, ViewPolicy

Pixels = npt.NDArray[np.uint8]
Ranks = Literal["stratified", "consecutive"]
Edges = Literal["continuous", "pixels"]


@dataclass(frozen=True)
class Search:
    """How crops are searched: `crops` views of each of `candidates` images per class, whose area is at least
    `scale_min` of the image, shrunk to 1/`factor` of the side. `pad`: a crop is scored in a frame of the observer's
    mean colour; otherwise it is enlarged. `batch_size`: crops per batch, at least those of one image. `edges`: of
    crops, see `cut_pixels`."""

    seed: int
    factor: int = 1
    candidates: int = 300
    crops: int = 5
    scale_min: float = 0.08
    pad: bool = True
    batch_size: int = 256
    edges: Edges = "continuous"

    @property
    def policy(self) -> ViewPolicy:
        """Square crops, not flipped."""
        return ViewPolicy(self.scale_min, 1.0, 0.0, seed=self.seed, ratio_min=1.0, ratio_max=1.0)


def draw_candidates(labels: IntArray, wanted: npt.NDArray[np.bool_], search: Search) -> npt.NDArray[np.bool_]:
    """Which rows of the table are candidates, bool [n]: `candidates` rows of every wanted class, drawn without
    replacement, or all rows of a smaller class. They are a function of (seed, class). `labels` i64 [n], `wanted` bool
    [c]."""
    by_class = np.argsort(labels, kind="stable")
    ends = np.cumsum(np.bincount(labels, minlength=len(wanted)))
    chosen = np.zeros(len(labels), dtype=bool)
    for label, rows in enumerate(np.split(by_class, ends[:-1])):
        if wanted[label]:
            order = permutation(search.seed, label, len(rows), draw=Draw.RDED_CANDIDATES)
            chosen[rows[order[: search.candidates]]] = True
    return chosen


class CropScorer:
    """Scores crops by the loss of observers: the lower it is, the more clearly a crop shows its class."""

    def __init__(self, observers: Mapping[str, Teacher], size: int, search: Search, device: torch.device) -> None:
        self.teachers = list(observers.values())
        self.networks: list[nn.Module] = [networks.from_teacher(teacher, device) for teacher in self.teachers]
        self.size, self.search, self.device = size, search, device

    def best(self, images: Pixels, labels: IntArray, rows: IntArray) -> tuple[npt.NDArray[np.float32], Pixels]:
        """The best crop of each image: scores f32 [m], lower is better, and pixels u8 [m, cell, cell, 3].

        `images` u8 [m, h, w, 3] with their labels and their rows in the table, both i64 [m].
        """
        cell = self.size // self.search.factor
        step = max(1, self.search.batch_size // self.search.crops)
        if not len(images):
            return np.empty(0, dtype=np.float32), np.empty((0, cell, cell, 3), dtype=np.uint8)
        spans = [slice(first, first + step) for first in range(0, len(images), step)]
        found = [self._best_of_batch(images[span], labels[span], rows[span]) for span in spans]
        # The only synchronisation with the device per part.
        scores, pixels = (torch.cat(kind).cpu() for kind in zip(*found, strict=True))
        return scores.numpy(), pixels.numpy()

    def _best_of_batch(self, images: Pixels, labels: IntArray, rows: IntArray) -> tuple[torch.Tensor, torch.Tensor]:
        m, crops = len(images), self.search.crops
        drawn = views.draw(self.search.policy, rows.repeat(crops), np.tile(np.arange(crops), m), m)
        whole = views.send(images, self.device).repeat_interleave(crops, dim=0)
        if self.search.edges == "pixels":
            cut = cut_pixels(whole, drawn.box, self.size // self.search.factor)
        else:
            # At full size, where nothing shrinks, and then averaged: `crop` alone would skip pixels of large boxes.
            cut = F.avg_pool2d(views.crop(whole, drawn, self.size), self.search.factor)
        targets = views.send(labels, self.device).repeat_interleave(crops)
        losses = F.cross_entropy(self.logits(cut), targets, reduction="none").view(m, crops)
        scores, place = losses.min(dim=1)
        chosen = cut.view(m, crops, *cut.shape[1:])[torch.arange(m, device=self.device), place]
        return scores, chosen.mul(255).round().to(torch.uint8).permute(0, 2, 3, 1)

    def logits(self, cut: torch.Tensor) -> torch.Tensor:
        """Mean logits f32 [m, c] of crops f32 [m, 3, cell, cell] in [0, 1], padded or enlarged to the observers'
        size."""
        logits = [
            networks.mean_logits([network], [teacher], self._resized(cut, teacher))
            for network, teacher in zip(self.networks, self.teachers, strict=True)
        ]
        return torch.stack(logits).mean(dim=0)

    def _resized(self, cut: torch.Tensor, teacher: Teacher) -> torch.Tensor:
        cell = cut.shape[-1]
        if cell == self.size:
            return cut
        if not self.search.pad:
            return F.interpolate(cut, (self.size, self.size), mode="bilinear", align_corners=False)
        first = (self.size - cell) // 2
        # The mean colour becomes zero when it is normalised, as in the official code.
        colour = torch.tensor(teacher.mean, device=cut.device).view(1, 3, 1, 1)
        framed = colour.repeat(len(cut), 1, self.size, self.size)
        framed[:, :, first : first + cell, first : first + cell] = cut
        return framed


def cut_pixels(images: torch.Tensor, boxes: npt.NDArray[np.float64], cell: int) -> torch.Tensor:
    """Crops f32 [m, 3, cell, cell] in [0, 1] of square images u8 [m, s, s, 3], as torchvision's RandomResizedCrop cuts
    them: edges are on whole pixels, and the bilinear filter is widened where it shrinks (antialiasing).

    `boxes` f64 [m, 4]: left, top, width and height as shares of the side. Sides are rounded; a place that is uniform
    among continuous ones becomes one that is uniform among those on pixels.
    """
    size = images.shape[1]
    sides = np.clip(np.rint(boxes[:, 2:] * size), 1, size).astype(np.int64)
    room = np.maximum(1 - boxes[:, 2:], 1e-12)
    places = np.floor(boxes[:, :2] / room * (size - sides + 1)).astype(np.int64).clip(0, size - sides)
    cut = []
    for image, (left, top), (width, height) in zip(images, places.tolist(), sides.tolist(), strict=True):
        part = image[top : top + height, left : left + width].permute(2, 0, 1)[None].float() / 255
        cut.append(F.interpolate(part, (cell, cell), mode="bilinear", align_corners=False, antialias=True))
    return torch.cat(cut)


class BestCrops:
    """The best crops so far: `places[y]` crops of class y, places i64 [c]. An empty place has an infinite score."""

    def __init__(self, places: IntArray, cell: int) -> None:
        self.places = places
        self.labels: IntArray = np.repeat(np.arange(len(places)), places)
        self.scores = np.full(len(self.labels), np.inf, dtype=np.float32)
        self.rows: IntArray = np.full(len(self.labels), np.iinfo(np.int64).max)
        self.pixels: Pixels = np.zeros((len(self.labels), cell, cell, 3), dtype=np.uint8)

    def add(self, labels: IntArray, rows: IntArray, scores: npt.NDArray[np.float32], pixels: Pixels) -> None:
        """Insert the crops among m new ones that are among the best of their class. Ties go to the lower table row."""
        touched = np.zeros(len(self.places), dtype=bool)
        touched[labels] = True
        held = np.flatnonzero(touched[self.labels])
        whose = np.concatenate([self.labels[held], labels])
        order = _order(whose, np.concatenate([self.scores[held], scores]), np.concatenate([self.rows[held], rows]))
        ranked = whose[order]
        rank = np.arange(len(order)) - np.searchsorted(ranked, ranked)
        stays = np.empty(len(order), dtype=bool)
        stays[order] = rank < self.places[ranked]
        # Each class drops as many crops as it gains, and both lists are sorted by class.
        freed, taken = held[~stays[: len(held)]], np.flatnonzero(stays[len(held) :])
        taken = taken[np.argsort(labels[taken], kind="stable")]
        self.scores[freed], self.rows[freed], self.pixels[freed] = scores[taken], rows[taken], pixels[taken]

    def mosaics(self, labels: IntArray, factor: int, ranks: Ranks) -> Pixels:
        """Images u8 [n, s, s, 3] of factor x factor crops for rows with these labels, i64 [n]. If class y has n_y rows,
        cell k of its i-th row, counted in row-major order, shows the crop of rank k n_y + i (`stratified`) or i
        factor^2 + k (`consecutive`)."""
        cells, cell = factor * factor, self.pixels.shape[1]
        ranked = _order(self.labels, self.scores, self.rows)
        starts = np.cumsum(self.places) - self.places
        own = _place_in_class(labels)
        images = np.empty((len(labels), factor * cell, factor * cell, 3), dtype=np.uint8)
        for k in range(cells):
            rank = k * (self.places[labels] // cells) + own if ranks == "stratified" else own * cells + k
            top, left = k // factor * cell, k % factor * cell
            images[:, top : top + cell, left : left + cell] = self.pixels[ranked[starts[labels] + rank]]
        return images


def _order(labels: IntArray, scores: npt.NDArray[np.float32], rows: IntArray) -> IntArray:
    """The order by class, then by score, then by row."""
    return np.lexsort((rows, scores, labels))


def _place_in_class(labels: IntArray) -> IntArray:
    """How many earlier rows have the same label, i64 [n]."""
    order = np.argsort(labels, kind="stable")
    ranked = labels[order]
    place = np.empty(len(labels), dtype=np.int64)
    place[order] = np.arange(len(labels)) - np.searchsorted(ranked, ranked)
    return place
