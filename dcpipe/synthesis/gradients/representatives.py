"""Representatives: the real images nearest to the centres of their class's clusters. DREAM's choice of batches.

Idea. A random batch of a class may be lopsided, and its gradient is then a noisy goal. DREAM clusters all images of a
class by their embeddings with the network as it stands (k-means, Euclidean), and takes the image nearest to each
centroid: a batch spread evenly over the class.

    a(i) <- argmin over j of |x_i - z_j|^2,   z_j <- mean of x_i with a(i) = j     (Lloyd)

All classes at once: a product [c, m, d] x [c, d, k] finds the nearest centroids, one of a 0/1 matrix [c, k, m] with the
embeddings adds up the clusters, so that sums do not depend on the order of atomic additions.

Cost: 4 c m k d operations an iteration, at most 100 of them. Memory: 1 GiB besides the embeddings, kept by taking some
of the classes at a time; a class does not feel which others it came with.

Paper: "DREAM: Efficient Dataset Distillation by Representative Matching", Liu et al., ICCV 2023. As its official code:
the start is a random sample, the end a squared shift of all centroids of at most 1e-4 in sum (which depends on the
scale of the embeddings), and one image may be nearest to two centroids. Unlike there, a cluster that lost all its
images keeps its centroid instead of moving to the origin, where no image need be.
"""

from __future__ import annotations

import numpy as np
import torch

from dcpipe.random import Draw, philox
from dcpipe.types import DataError, IntArray, require

MAX_ITER = 100  # as the official code, like the next one
TOLERANCE = 1e-4
PIECE_BYTES = 2**30  # of the classes that are clustered together
_TIE = 8  # squared distances that differ by so many roundings of the largest squared length are a tie
_LOOK = 8  # iterations between two looks at whether all classes are at rest; those too many change nothing


def representatives(embeddings: torch.Tensor, ids: IntArray, n: int, seed: int, step: int) -> torch.Tensor:
    """For every class the columns of `n` representatives, i64 [c, n] on the device, centroid by centroid.

    `embeddings` float [c, m, d], worked on in at least float32; `ids` i64 [c, m]: the number that each image has in the
    source set, -1 where a class has fewer than m (what stands there is not read). The first centroids are a function of
    (seed, step, ids), so neither the order of a class's images nor the other classes matter.

    Of images that are equally near up to round-off, as the two of a cluster of two, the one of the lowest id is nearer.

    Raises `DataError` for a class of fewer than n images, ids of another shape, and embeddings that are not finite.
    """
    _check(embeddings, ids, n)
    pieces = _pieces(embeddings, n)
    _check_finite(embeddings, torch.from_numpy(ids >= 0).to(embeddings.device), pieces)
    # Worked on in the order of ids: then not even round-off depends on the order they come in, and ties are settled.
    sorting = np.argsort(np.where(ids < 0, np.iinfo(np.int64).max, ids), axis=1, kind="stable")
    in_order = np.take_along_axis(ids, sorting, axis=1)
    order, present, start = (
        torch.from_numpy(array).to(embeddings.device)
        for array in (sorting, in_order >= 0, _start(in_order, n, seed, step))
    )
    picks = []
    for some in pieces:
        points = _about_mean(embeddings[some].detach(), order[some], present[some])
        centroids = _lloyd(points, present[some], start[some])
        picks.append(_nearest(points, present[some], centroids))
    return order.gather(1, torch.cat(picks))


def _check(embeddings: torch.Tensor, ids: IntArray, n: int) -> None:
    shape = tuple(embeddings.shape)
    require(len(shape) == 3, f"representatives: embeddings must be [classes, images, features], got {list(shape)}")
    require(
        ids.shape == shape[:2],
        f"representatives: ids must be [classes, images] = {list(shape[:2])} as the embeddings, got {list(ids.shape)}",
    )
    require(n >= 1, f"representatives: n must be at least 1, got {n}")
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


def _pieces(embeddings: torch.Tensor, k: int) -> list[slice]:
    """As many classes at a time as fit: a copy of the points, three arrays [m, k] and five of centroids."""
    c, m, d = embeddings.shape
    each = max(4, embeddings.element_size()) * (m * d + 3 * m * k + 5 * k * d)
    at_once = max(1, PIECE_BYTES // each)
    return [slice(first, first + at_once) for first in range(0, c, at_once)]


def _about_mean(points: torch.Tensor, order: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
    """Points in this order less the mean of their class, 0 where there is none.

    Distances stay, and their products round off less: features after a ReLU lie far from the origin.
    """
    ordered = points.gather(1, order[..., None].expand_as(points))
    full = ordered.to(torch.promote_types(points.dtype, torch.float32)).masked_fill_(~present[..., None], 0)
    mean = full.sum(1, keepdim=True) / present.sum(1)[:, None, None]
    return full.sub_(mean).masked_fill_(~present[..., None], 0)


def _lloyd(points: torch.Tensor, present: torch.Tensor, start: torch.Tensor) -> torch.Tensor:
    """Centroids [c, k, d] at rest, or after `MAX_ITER` iterations. A class at rest stays while others go on, and so
    does an empty cluster."""
    c, m, d = points.shape
    centroids = points.gather(1, start[..., None].expand(-1, -1, d))
    inside = present.to(points.dtype)[..., None]
    moving = torch.ones(c, dtype=torch.bool, device=points.device)
    for iteration in range(MAX_ITER):
        if iteration % _LOOK == 0 and not bool(moving.any()):
            break
        # |z|^2 / 2 - x . z orders the centroids of an image as the distance does.
        lengths = centroids.square().sum(2)[:, None] / 2
        nearest = torch.baddbmm(lengths, points, centroids.transpose(1, 2), alpha=-1).argmin(2, keepdim=True)
        members = points.new_zeros(c, m, start.shape[1]).scatter_(2, nearest, inside)
        counts = members.sum(1)[..., None]
        new = torch.bmm(members.transpose(1, 2), points) / counts.clamp(min=1)
        new = torch.where(counts > 0, new, centroids)
        shift = (new - centroids).square().sum((1, 2))
        centroids = torch.where(moving[:, None, None], new, centroids)
        moving &= shift > TOLERANCE
    return centroids


def _nearest(points: torch.Tensor, present: torch.Tensor, centroids: torch.Tensor) -> torch.Tensor:
    """Columns i64 [c, k] of the image nearest to each centroid; of those that tie, the first."""
    lengths = points.square().sum(2)[:, None] / 2
    tie = _TIE * torch.finfo(points.dtype).eps * lengths.amax(2, keepdim=True)
    lengths = lengths.masked_fill(~present[:, None], torch.inf)
    # Half the squared distances [c, k, m], less a constant of each centroid.
    distances = torch.baddbmm(lengths, centroids, points.transpose(1, 2), alpha=-1)
    return (distances <= distances.amin(2, keepdim=True) + tie).byte().argmax(2)
