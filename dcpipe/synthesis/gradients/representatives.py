"""Representatives: the real images nearest to the centres of their class's clusters. DREAM's choice of batches.

Idea. A random batch of a class may be lopsided, and its gradient is then a noisy goal. DREAM clusters all images of a
class by their embeddings with the network as it stands (k-means, Euclidean), and takes the image nearest to each
centroid: a batch spread evenly over the class.

    a(i) <- argmin over j of |x_i - z_j|^2,   z_j <- mean of x_i with a(i) = j     (Lloyd)

All classes at once: a product [c, m, d] x [c, d, k] finds the nearest centroids, one of a 0/1 matrix [c, k, m] with the
embeddings adds up the clusters, so that sums do not depend on the order of atomic additions.

Cost: 4 c m k d operations an iteration, at most `max_iter` of them. Memory: `budget` bytes beside the embeddings, kept
by taking some of the classes at a time; a class does not feel which others it came with.

Paper: "DREAM: Efficient Dataset Distillation by Representative Matching", Liu et al., ICCV 2023. As its official code:
the start is a random sample, the end a squared shift of all centroids of at most `tolerance` in sum (which depends on
the scale of the embeddings), and one image may be nearest to two centroids. Unlike there, a cluster that lost all its
images keeps its centroid instead of moving to the origin, where no image need be; `empty="zero"` does as the code.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
import torch

from dcpipe.random import Draw, philox
from dcpipe.types import DataError, IntArray, require

Empty = Literal["keep", "zero"]

_TIE = 8  # squared distances that differ by so many roundings of the largest squared length are a tie
_LOOK = 8  # iterations between two looks at whether all classes are at rest; those too many change nothing


def representatives(
    embeddings: torch.Tensor,
    ids: IntArray,
    n: int,
    seed: int,
    step: int,
    *,
    sub_sample: int = 1,
    distinct: bool = False,
    empty: Empty = "keep",
    max_iter: int = 100,
    tolerance: float = 1e-4,
    budget: int = 2**30,
) -> torch.Tensor:
    """For every class the columns of `n` representatives, i64 [c, n] on the device, centroid by centroid.

    `embeddings` float [c, m, d], worked on in at least float32; `ids` i64 [c, m]: the number that each image has in the
    source set, -1 where a class has fewer than m (what stands there is not read). The first centroids are a function of
    (seed, step, ids), so neither the order of a class's images nor the other classes matter.

    There are n / sub_sample clusters, and the `sub_sample` images nearest to each centroid are taken, nearest first
    (DREAM+; 1 in DREAM). `distinct`: an image is taken once only; centroids choose in turn, the first ones first. Of
    images that are equally near up to round-off, as the two of a cluster of two, the one of the lowest id is nearer.

    Raises `DataError` for a class of fewer than n images, n that sub_sample does not divide, ids of another shape, and
    embeddings that are not finite.
    """
    require(empty in get_args(Empty), f"representatives: empty must be {' or '.join(get_args(Empty))}, got {empty!r}")
    require(max_iter >= 1, f"representatives: max_iter must be at least 1, got {max_iter}")
    _check(embeddings, ids, n, sub_sample)
    pieces = _pieces(embeddings, n // sub_sample, budget)
    _check_finite(embeddings, torch.from_numpy(ids >= 0).to(embeddings.device), pieces)
    # Worked on in the order of ids: then not even round-off depends on the order they come in, and ties are settled.
    sorting = np.argsort(np.where(ids < 0, np.iinfo(np.int64).max, ids), axis=1, kind="stable")
    in_order = np.take_along_axis(ids, sorting, axis=1)
    order, present, start = (
        torch.from_numpy(array).to(embeddings.device)
        for array in (sorting, in_order >= 0, _start(in_order, n // sub_sample, seed, step))
    )
    picks = []
    for some in pieces:
        points, mean = _about_mean(embeddings[some].detach(), order[some], present[some])
        nowhere = -mean if empty == "zero" else None
        centroids = _lloyd(points, present[some], start[some], nowhere, max_iter, tolerance)
        picks.append(_nearest(*_distances(points, present[some], centroids), sub_sample, distinct))
    return order.gather(1, torch.cat(picks))


def _check(embeddings: torch.Tensor, ids: IntArray, n: int, sub_sample: int) -> None:
    shape = tuple(embeddings.shape)
    require(len(shape) == 3, f"representatives: embeddings must be [classes, images, features], got {list(shape)}")
    require(
        ids.shape == shape[:2],
        f"representatives: ids must be [classes, images] = {list(shape[:2])} as the embeddings, got {list(ids.shape)}",
    )
    require(
        n >= 1 and sub_sample >= 1 and n % sub_sample == 0,
        f"representatives: n must be a multiple of sub_sample, got n = {n} and sub_sample = {sub_sample}",
    )
    sizes = (ids >= 0).sum(axis=1)
    small = int(sizes.argmin())
    require(
        sizes[small] >= n,
        f"representatives: {n} images are asked of class {small}, which has {sizes[small]}; ask for fewer, or "
        "leave the class out",
    )


def _check_finite(embeddings: torch.Tensor, present: torch.Tensor, pieces: list[slice]) -> None:
    finite = torch.cat([torch.isfinite(embeddings[some]).all(2) for some in pieces])
    bad = (present & ~finite).nonzero()
    if len(bad):
        label, row = bad[0].tolist()
        raise DataError(
            f"representatives: the embedding of class {label}, image {row} is NaN or infinite; lower the learning "
            "rate of the network"
        )


def _start(ids: IntArray, k: int, seed: int, step: int) -> IntArray:
    """Columns of k different images of each class, i64 [c, k]: those of the smallest random words."""
    words = philox(seed, step, Draw.CENTROIDS, ids)[..., 0]
    words[ids < 0] = np.iinfo(np.uint64).max
    return np.argsort(words, axis=1, kind="stable")[:, :k].astype(np.int64)


def _pieces(embeddings: torch.Tensor, k: int, budget: int) -> list[slice]:
    """As many classes at a time as fit: a copy of the points, three arrays [m, k] and five of centroids."""
    c, m, d = embeddings.shape
    each = max(4, embeddings.element_size()) * (m * d + 3 * m * k + 5 * k * d)
    at_once = max(1, budget // each)
    return [slice(first, first + at_once) for first in range(0, c, at_once)]


def _about_mean(points: torch.Tensor, order: torch.Tensor, present: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Points in this order less the mean of their class, 0 where there is none, and the means [c, 1, d].

    Distances stay, and their products round off less: features after a ReLU lie far from the origin.
    """
    ordered = points.gather(1, order[..., None].expand_as(points))
    full = ordered.to(torch.promote_types(points.dtype, torch.float32)).masked_fill_(~present[..., None], 0)
    mean = full.sum(1, keepdim=True) / present.sum(1)[:, None, None]
    return full.sub_(mean).masked_fill_(~present[..., None], 0), mean


def _lloyd(
    points: torch.Tensor,
    present: torch.Tensor,
    start: torch.Tensor,
    nowhere: torch.Tensor | None,
    max_iter: int,
    tolerance: float,
) -> torch.Tensor:
    """Centroids [c, k, d] at rest, or after `max_iter` iterations. A class at rest stays while others go on.

    `nowhere` [c, 1, d]: where empty clusters go; None: they stay.
    """
    c, m, d = points.shape
    centroids = points.gather(1, start[..., None].expand(-1, -1, d))
    inside = present.to(points.dtype)[..., None]
    moving = torch.ones(c, dtype=torch.bool, device=points.device)
    for iteration in range(max_iter):
        if iteration % _LOOK == 0 and not bool(moving.any()):
            break
        # |z|^2 / 2 - x . z orders the centroids of an image as the distance does.
        lengths = centroids.square().sum(2)[:, None] / 2
        nearest = torch.baddbmm(lengths, points, centroids.transpose(1, 2), alpha=-1).argmin(2, keepdim=True)
        members = points.new_zeros(c, m, start.shape[1]).scatter_(2, nearest, inside)
        counts = members.sum(1)[..., None]
        new = torch.bmm(members.transpose(1, 2), points) / counts.clamp(min=1)
        new = torch.where(counts > 0, new, centroids if nowhere is None else nowhere)
        shift = (new - centroids).square().sum((1, 2))
        centroids = torch.where(moving[:, None, None], new, centroids)
        moving &= shift > tolerance
    return centroids


def _distances(
    points: torch.Tensor, present: torch.Tensor, centroids: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Half the squared distances [c, k, m], less a constant of each centroid and infinite where there is no image, and
    what they may differ by and be a tie [c, 1, 1]."""
    lengths = points.square().sum(2)[:, None] / 2
    tie = _TIE * torch.finfo(points.dtype).eps * lengths.amax(2, keepdim=True)
    lengths = lengths.masked_fill(~present[:, None], torch.inf)
    return torch.baddbmm(lengths, centroids, points.transpose(1, 2), alpha=-1), tie


def _nearest(distances: torch.Tensor, tie: torch.Tensor, each: int, distinct: bool) -> torch.Tensor:
    """Columns i64 [c, k * each] of the images nearest to each centroid: [c, k, m] is used up."""
    k = distances.shape[1]
    if not distinct:
        picks = []
        for _ in range(each):
            picks.append(_first(distances, tie))
            distances.scatter_(2, picks[-1], torch.inf)
        return torch.cat(picks, 2).flatten(1)
    picks = []
    for centroid in range(k):
        for _ in range(each):
            picks.append(_first(distances[:, centroid, None], tie))
            distances.scatter_(2, picks[-1].expand(-1, k, -1), torch.inf)
    return torch.cat(picks, 1).flatten(1)


def _first(distances: torch.Tensor, tie: torch.Tensor) -> torch.Tensor:
    """The first column of the nearest ones: [c, k, m] -> i64 [c, k, 1]."""
    return (distances <= distances.amin(2, keepdim=True) + tie).byte().argmax(2, keepdim=True)
