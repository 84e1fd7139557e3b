"""A set of images as a mean and few components for each class: the parameterisation that slimming truncates.

With X the n images of a class as rows of d values, X - mean = U S V^T is their singular value decomposition. The first
r components give X_r = mean + (U_r S_r) V_r^T, the closest images that lie in r directions around the mean, and

    ||X - X_r||_F = sqrt(s_{r+1}^2 + s_{r+2}^2 + ...)

(Eckart and Young, Psychometrika 1936): no other r directions come closer, so this is a lower bound of the error of
everything that is stored at rank r. Components are nested: those of rank r are the first of those of rank r + 1. All n
images are kept, since the rank is not their number; what is saved are bytes.

The sign of a component is arbitrary in an SVD. Here the largest value of each basis is positive, so that all LAPACKs
give the same bytes. Components whose singular value is zero up to rounding have no direction; they are zero.

As stored, the mean and the bases of a class are pictures of `bits` bits, in the same file format as the images that
they replace, and coefficients are fp16 (`Stored`). Coarser pictures take fewer bytes and leave room for more
components, so `fitted` tries every number of bits with as many components as the budget holds, and takes what comes
closest. Coefficients are fitted again, by least squares, to the rounded pictures.

Memory: a few copies of all images in float64.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from dcpipe import store
from dcpipe.types import FloatArray, ImageSet, IntArray, require

BITS = (8, 7, 6, 5, 4, 3, 2)
_FP16_MAX = 65504.0


@dataclass(frozen=True, eq=False)
class Components:
    """`mean` f64 [c, d], `bases` f64 [c, r, d] and `coefficients` f64 [c, n, r] of the n images of each of c classes.
    Values are pixels in [0, 1], in the order h, w, 3."""

    mean: FloatArray
    bases: FloatArray
    coefficients: FloatArray

    @property
    def rank(self) -> int:
        return len(self.bases[0])

    def first(self, rank: int) -> Components:
        """The first `rank` components."""
        return Components(self.mean, self.bases[:, :rank], self.coefficients[:, :, :rank])

    def decoded(self) -> FloatArray:
        """The images, f64 [c, n, d]; values may lie outside [0, 1]."""
        images: FloatArray = self.mean[:, None] + self.coefficients @ self.bases
        return images


def rows_by_class(images: ImageSet) -> IntArray:
    """The rows of each class in their order: i64 [c, n]. Raises `DataError` for classes of different sizes."""
    counts = images.per_class
    require(
        bool((counts == counts[0]).all()),
        f"slimming: classes have {counts.min()} to {counts.max()} images; all are slimmed alike, so select as many of "
        "each",
    )
    rows: IntArray = np.argsort(images.labels, kind="stable").reshape(len(images.classes), -1)
    return rows


def values_of(images: ImageSet) -> FloatArray:
    """The stored images of a set by class, f64 [c, n, d] in [0, 1]. Raises `DataError` as `rows_by_class` does."""
    rows = rows_by_class(images)
    values: FloatArray = images.images[rows].reshape(*rows.shape, -1) / 255.0
    return values


def images_of(values: FloatArray, like: ImageSet) -> ImageSet:
    """Values [c, n, d] as u8, rounded and clipped, in place of the images of the set `like`."""
    made = np.empty_like(like.images)
    flat = np.rint(values * 255).clip(0, 255).astype(np.uint8)
    made[rows_by_class(like).reshape(-1)] = flat.reshape(-1, *like.images.shape[1:])
    return replace(like, images=made)


def decompose(values: FloatArray) -> tuple[Components, FloatArray]:
    """All min(n, d) components of values f64 [c, n, d], and their singular values f64 [c, min(n, d)], descending."""
    c, n, d = values.shape
    most = min(n, d)
    mean = values.mean(1)
    bases, coefficients = np.zeros((c, most, d)), np.zeros((c, n, most))
    singular = np.zeros((c, most))
    for label in range(c):
        left, found, right = np.linalg.svd(values[label] - mean[label], full_matrices=False)
        real = found > np.linalg.norm(values[label]) * max(n, d) * np.finfo(np.float64).eps
        largest = np.abs(right).argmax(1)
        sign = np.where(right[np.arange(most), largest] < 0, -1.0, 1.0) * real
        singular[label] = found * real
        bases[label], coefficients[label] = right * sign[:, None], left * (found * sign)
    return Components(mean, bases, coefficients), singular


def tail(singular: FloatArray, rank: int) -> float:
    """The error of the first `rank` components of all classes, in the Frobenius norm."""
    return float(np.sqrt(np.square(singular[:, rank:]).sum()))


@dataclass(frozen=True, eq=False)
class Stored:
    """Components as they are stored: `codes` u8 [c, r + 1, d], the pictures of the mean and of each basis in `bits`
    bits, and `coefficients` f16 [c, n, r]. A mean of code q is q / (2^bits - 1); a basis of code q is q / half - 1 with
    half = 2^(bits - 1) - 1, so that its largest value is 1."""

    codes: npt.NDArray[np.uint8]
    coefficients: npt.NDArray[np.float16]
    bits: int

    @property
    def rank(self) -> int:
        return len(self.codes[0]) - 1

    def components(self) -> Components:
        """What is decoded from it."""
        return Components(*_decoded(self.codes, self.bits), self.coefficients.astype(np.float64))

    def pictures(self, like: ImageSet) -> ImageSet:
        """The pictures as a set: all means, then the first basis of all classes, and so on, of the size of the images
        of `like`."""
        c, count, _ = self.codes.shape
        pictures = self.codes.swapaxes(0, 1).reshape(-1, *like.images.shape[1:])
        return ImageSet(pictures, np.tile(np.arange(c), count), np.arange(c * count), like.classes)

    def n_bytes(self, like: ImageSet, measure: Callable[[ImageSet], int]) -> int:
        """Bytes on disk: those that `measure` finds for the pictures, and those of a safetensors file of the
        coefficients, if there are any."""
        n_bytes = measure(self.pictures(like))
        if self.rank:
            head = store.header_bytes({"coefficients": (self.coefficients.shape, "float16")}, {})
            n_bytes += len(head) + self.coefficients.nbytes
        return n_bytes


def stored(parts: Components, values: FloatArray, bits: int) -> Stored:
    """Components with pictures of `bits` bits, and coefficients that bring them as close to `values` [c, n, d] as these
    pictures allow."""
    top, half = 2**bits - 1, 2 ** (bits - 1) - 1
    largest = np.abs(parts.bases).max(2, keepdims=True, initial=0)
    scaled = np.divide(parts.bases, largest, out=np.zeros_like(parts.bases), where=largest > 0)
    pictures = (np.rint(parts.mean * top).clip(0, top)[:, None], half + np.rint(scaled * half))
    codes = np.concatenate(pictures, axis=1).astype(np.uint8)
    mean, bases = _decoded(codes, bits)
    fits = [
        np.linalg.lstsq(bases[label].T, (values[label] - mean[label]).T, rcond=None)[0].T for label in range(len(mean))
    ]
    return Stored(codes, np.stack(fits).clip(-_FP16_MAX, _FP16_MAX).astype(np.float16), bits)


def _decoded(codes: npt.NDArray[np.uint8], bits: int) -> tuple[FloatArray, FloatArray]:
    """Mean [c, d] and bases [c, r, d] of pictures."""
    top, half = 2**bits - 1, 2 ** (bits - 1) - 1
    return codes[:, 0] / top, codes[:, 1:] / half - 1.0


def fitted(
    parts: Components, values: FloatArray, like: ImageSet, budget: int, measure: Callable[[ImageSet], int]
) -> Stored:
    """The first components, as many and as finely stored as `budget` bytes hold, such that the images u8 that they
    decode to come closest to `values` [c, n, d].

    Raises `DataError` if the budget does not even hold the coarsest means.
    """
    best, least = None, np.inf
    goal = images_of(values, like).images.astype(np.int64)
    for bits in BITS:
        found = _largest(parts, values, like, budget, measure, bits)
        if found is None:
            continue
        error = float(np.square(images_of(found.components().decoded(), like).images - goal).sum())
        if error < least:
            best, least = found, error
    require(
        best is not None,
        f"slimming: {budget:,} bytes do not hold one mean image per class, not even in {BITS[-1]} bits; leave this "
        "size out",
    )
    assert best is not None
    return best


def _largest(
    parts: Components,
    values: FloatArray,
    like: ImageSet,
    budget: int,
    measure: Callable[[ImageSet], int],
    bits: int,
) -> Stored | None:
    """The most components in `bits` bits that fit, found by bisection; None if not even the means do."""
    best, low, high = None, 0, int(parts.bases.any(2).sum(1).max(initial=0))
    while low <= high:
        rank = (low + high + 1) // 2 if best is not None else low
        made = stored(parts.first(rank), values, bits)
        if made.n_bytes(like, measure) <= budget:
            best, low = made, rank + 1
        else:
            high = rank - 1
    return best
