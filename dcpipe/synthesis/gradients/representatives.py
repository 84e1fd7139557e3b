"""Representatives: the real images nearest to the centroids of the clusters of their class. DREAM's choice of batches.

Idea. A random batch of a class may be unrepresentative, and its gradient is then a noisy target. DREAM clusters all
images of a class by their embeddings under the current network (k-means, Euclidean) and takes the image nearest to each
centroid. This batch is spread evenly over the class.

    a(i) <- argmin over j of |x_i - z_j|^2,   z_j <- mean of x_i with a(i) = j     (Lloyd)

All classes are computed at once: a product [c, m, d] x [c, d, k] gives the nearest centroids, and the product of a 0/1
matrix [c, k, m] with the embeddings gives the sums of the clusters, which therefore do not depend on the order of
atomic additions.

Cost: 4 c m k d operations per iteration, for at most 100 iterations. Memory: 1 GiB in addition to the embeddings; to
stay within it, some of the classes are processed at a time. The result of a class does not depend on the others.

Paper: "DREAM: Efficient Dataset Distillation by Representative Matching", Liu et al., ICCV 2023. As in its official
code, the first centroids are a random sample, iteration stops when the squared shifts of all centroids sum to at most
1e-4 (which depends on the scale of the embeddings), and one image may be nearest to two centroids. Unlike there, a
cluster that has lost all its images keeps its centroid instead of moving to the origin, where there may be no image.
"""

from __future__ import annotations

import numpy as np
import torch

from dcpipe.random import Draw, philox
from dcpipe.types import DataError, IntArray, require

MAX_ITER = 100  # as in the official code, like the next one
TOLERANCE = 1e-4
PIECE_BYTES = 2**30  # of the classes that are clustered together
_TIE = 8  # squared distances that differ by up to this many roundings of the largest squared length are a tie
_CHECK_EVERY = 8  # iterations between two checks whether all classes have converged; superfluous ones change nothing


def representatives(embeddings: torch.Tensor, ids: IntArray, n: int, seed: int, step: int) -> torch.Tensor:
    """The columns of `n` representatives of every class, one per centroid: i64 [c, n] on the device.

    `embeddings` float [c, m, d]; computations are in at least float32. `ids` i64 [c, m]: the number of each image in
    the source set, or -1 where a class has fewer than m images (embeddings there are not read). The first centroids are
    a function of (seed, step, ids), so neither the order of the images of a class nor the other classes matter.

    Of images that are equally near up to round-off, such as the two images of a cluster of two, the one with the lowest
    id is taken.

    Raises `DataError` for a class with fewer than n images, ids of another shape, and embeddings that are not finite.
    """
    _check(embeddings, ids, n)
    pieces = _pieces(embeddings, n)
    _check_finite(embeddings, torch.from_numpy(ids >= 0).to(embeddings.device), pieces)
    # Images are sorted by id, so that not even round-off depends on their order, and ties are resolved.
    sorting = np.argsort(np.where(ids < 0, np.iinfo(np.int64).max, ids), axis=1, kind="stable")
    in_order = np.take_along_axis(ids, sorting, axis=1)
    order, present, start = (
        torch.from_numpy(array).to(embeddings.device)
        for array in (sorting, in_order >= 0, _start(in_order, n, seed, step))
    )
    picks = []
    for some in pieces:
        points = _centred(embeddings[some].detach(), order[some], present[some])
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
        f"representatives: {n} images are requested of class {small}, which has {sizes[small]}; request fewer, or "
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
    """Columns of k different images of each class, i64 [c, k]: those with the smallest random numbers."""
    words = philox(seed, step, Draw.CENTROIDS, ids)[..., 0]
    words[ids < 0] = np.iinfo(np.uint64).max
    return np.argsort(words, axis=1, kind="stable")[:, :k].astype(np.int64)


def _pieces(embeddings: torch.Tensor, k: int) -> list[slice]:
    """Slices of as many classes as fit: a copy of the points, three arrays [m, k] and five of centroids per class."""
    c, m, d = embeddings.shape
    each = max(4, embeddings.element_size()) * (m * d + 3 * m * k + 5 * k * d)
    at_once = max(1, PIECE_BYTES // each)
    return [slice(first, first + at_once) for first in range(0, c, at_once)]


def _centred(points: torch.Tensor, order: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
    """The points in this order, minus the mean of their class; 0 where there is no image.

    Distances do not change, but products have less round-off, because features after a ReLU lie far from the origin.
    """
    ordered = points.gather(1, order[..., None].expand_as(points))
    full = ordered.to(torch.promote_types(points.dtype, torch.float32)).masked_fill_(~present[..., None], 0)
    mean = full.sum(1, keepdim=True) / present.sum(1)[:, None, None]
    return full.sub_(mean).masked_fill_(~present[..., None], 0)


def _lloyd(points: torch.Tensor, present: torch.Tensor, start: torch.Tensor) -> torch.Tensor:
    """Centroids [c, k, d] after convergence or `MAX_ITER` iterations. Classes that have converged do not change while
    others continue, and empty clusters keep their centroids."""
    c, m, d = points.shape
    centroids = points.gather(1, start[..., None].expand(-1, -1, d))
    inside = present.to(points.dtype)[..., None]
    moving = torch.ones(c, dtype=torch.bool, device=points.device)
    for iteration in range(MAX_ITER):
        if iteration % _CHECK_EVERY == 0 and not bool(moving.any()):
            break
        # |z|^2 / 2 - x . z orders the centroids for an image in the same way as the distance.
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
    """Columns i64 [c, k] of the image nearest to each centroid; the first one in a tie."""
    lengths = points.square().sum(2)[:, None] / 2
    tie = _TIE * torch.finfo(points.dtype).eps * lengths.amax(2, keepdim=True)
    lengths = lengths.masked_fill(~present[:, None], torch.inf)
    # Half the squared distances [c, k, m], up to a constant for each centroid.
    distances = torch.baddbmm(lengths, centroids, points.transpose(1, 2), alpha=-1)
    return (distances <= distances.amin(2, keepdim=True) + tie).byte().argmax(2)
