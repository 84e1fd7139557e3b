"""How `field` spends a budget: the form, the number of features, the rank, the bits, and the size of the residual.

All choices that fit are compared by a model of the squared error (`error_model`), relative to that of the mean label:

* p features leave a residual share that falls with p. A rank r < p loses 0.9 (a_r - a_p) / (a_1 - a_p) of what they
  explain, with a_i = 1 / (i + 1/2). Rounding of rows or components loses a share of what these explain.
* The rounding of the constant adds a further error.
* The components of the residual leave a share of the error of the fit, and a larger share of the rounding errors.

If the first images have one more row than the others, the two errors are averaged according to their shares.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from dcpipe.compression.components import split, width_for
from dcpipe.compression.error_model import CONSTANT, ROWS, components_leave, features_leave
from dcpipe.compression.quantise import WIDTHS, row_bytes
from dcpipe.types import LabelShape

_MOST_RANK = 12


@dataclass(frozen=True)
class Spending:
    """The fields of `Field` with the same names."""

    features: int
    rank: int
    more: int
    bits: float
    residual: int
    extra: int
    residual_bits: float
    base_bits: int


def row_cost(shape: LabelShape, features: int, rank: int, bits: float) -> int:
    """Bytes of one more row (rank 0) or component of one image."""
    return row_bytes(shape.classes, bits) + 2 + (features if rank > 0 else 0)


def smallest(shape: LabelShape, features: int, bits: float | None, base_bits: int | None) -> int:
    """The smallest size with p = `features`: rows of W, or one component if components are possible."""
    base = base_bits or min(CONSTANT)
    rows = row_cost(shape, features, 0, base) + (features - 1) * row_cost(shape, features, 0, bits or min(WIDTHS))
    if min(features, shape.views, shape.classes) > 1:
        rows = min(rows, row_cost(shape, features, 1, base))
    return shape.images * rows


def choose(
    shape: LabelShape,
    budget: int,
    *,
    counts: range,
    bits: float | None,
    base_bits: int | None,
    residual_bits: float | None,
    mixed: bool,
    fresh: bool,
) -> Spending:
    """The choice with the smallest modelled error and p in `counts`; the smallest of them must fit `budget`."""
    return min(ways(shape, budget, counts, bits, base_bits, residual_bits, mixed, fresh), key=lambda way: way[0])[1]


def ways(
    shape: LabelShape,
    budget: int,
    counts: range,
    bits: float | None,
    base_bits: int | None,
    residual_bits: float | None,
    mixed: bool,
    fresh: bool,
) -> Iterator[tuple[float, Spending]]:
    """All choices with their modelled errors."""
    for p in counts:
        for rank in range(min(p, shape.views, shape.classes, _MOST_RANK + 1)):
            for width in WIDTHS if bits is None else (bits,):
                for base in CONSTANT if base_bits is None else (base_bits,):
                    start = Spending(p, rank, 0, width, 0, 0, residual_bits or 0, base)
                    yield from _ways(shape, budget, start, counts.stop, mixed, fresh)


def _ways(
    shape: LabelShape, budget: int, start: Spending, stop: int, mixed: bool, fresh: bool
) -> Iterator[tuple[float, Spending]]:
    """The uses of the bytes that the field of `start` leaves: one more row for the first images, or a residual.

    Yields nothing if `start` does not fit. A `residual_bits` of 0 is replaced here. For unmixed labels, the components
    of the residual are more similar in size than those of the labels, so twice as many of them can have few bits.
    """
    n, p, rank = shape.images, start.features, start.rank
    each = row_cost(shape, p, rank, start.bits)
    left = budget - n * (row_cost(shape, p, rank, start.base_bits) + ((rank or p) - 1) * each)
    if left < 0:
        return
    fit, rounding = _field_error(p, rank, start.bits, mixed)
    more_fit, more_rounding = _field_error(p + (rank == 0), rank + (rank > 0), start.bits, mixed)
    room = p + 1 < stop if rank == 0 else rank + 1 < min(p, shape.views, shape.classes)
    more = min(left // each, n - 1) if room else 0  # for all n images it would be another choice of p or rank
    constant = CONSTANT[start.base_bits]
    here, there = fit + rounding, more_fit + more_rounding
    yield constant + here + more / n * (there - here), replace(start, more=more, residual_bits=start.residual_bits or 4)
    if not fresh:
        bits = start.residual_bits or width_for(shape, left, 1 if mixed else 2)
        residual, extra = split(shape, left, bits)
        found, full = residual + extra / n, min(shape.views, shape.classes)
        error = components_leave(fit, rounding + constant, found, full, bits, p)
        yield error, replace(start, residual=residual, extra=extra, residual_bits=bits)


def _field_error(p: int, rank: int, bits: float, mixed: bool) -> tuple[float, float]:
    """The error of the fit, and the error that the rounding of its rows or components adds."""
    left = features_leave(p, mixed)
    cut = 0.9 * (1 / (rank + 0.5) - 1 / (p + 0.5)) / (1 / 1.5 - 1 / (p + 0.5)) if rank > 0 else 0.0
    explained = (1 - left) * (1 - cut)
    return 1 - explained, explained * ROWS[bits]
