"""How `field` spends a budget: which form, how many features, what rank, how many bits, how much on the remainder.

All choices that fit are compared by a model of the squared error, relative to that of the mean label alone. Its
constants fit the labels of two teachers (CIFAR-10 and 50 classes of Tiny-ImageNet, K = 100, crop area from 0.4 and
0.3) roughly, which is enough as only the order of choices matters: what was chosen there is within an eighth in KL of
the best of an exhaustive search, on the labels that the model was made for.

* p features leave p^-0.6; where the teacher saw mixed views, p^-0.12.
* Of what they explain, a rank of r < p leaves 0.9 (a_r - a_p) / (a_1 - a_p) with a_i = 1 / (i + 1/2).
* Rounding rows (or components) to b bits adds 0.01 x 4^(3-b) of the error for each of them.
* The remainder's energy after R components is that of singular values whose tail falls like 1 / (R + 2.5 + p / 20).

Where the first images have one row or component more than the others, the two errors are averaged by their shares.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from dcpipe.compression.lowrank_int8 import few, split, width_for
from dcpipe.compression.quantise import WIDTHS, row_bytes
from dcpipe.types import LabelShape

_MOST_RANK = 12


@dataclass(frozen=True)
class Spending:
    """Fields of `Field` of the same names."""

    features: int
    rank: int
    more: int
    bits: int
    residual: int
    extra: int
    residual_bits: int


def row_cost(shape: LabelShape, features: int, rank: int, bits: int) -> int:
    """Bytes that one more row (rank 0), or component, of one image costs."""
    return row_bytes(shape.classes, bits) + 2 + (features if rank > 0 else 0)


def base_cost(shape: LabelShape, features: int, rank: int) -> int:
    """Bytes of one image's first row, or component."""
    return row_cost(shape, features, rank, 8)


def smallest(shape: LabelShape, features: int, bits: int | None) -> int:
    """The fewest bytes with p = `features`: rows of W, or where there may be components, one of them."""
    rows = base_cost(shape, features, 0) + (features - 1) * row_cost(shape, features, 0, bits or min(WIDTHS))
    if min(features, shape.views, shape.classes) > 1:
        rows = min(rows, base_cost(shape, features, 1))
    return shape.images * rows


def choose(
    shape: LabelShape,
    budget: int,
    *,
    counts: range,
    bits: int | None,
    residual_bits: int | None,
    mixed: bool,
    fresh: bool,
) -> Spending:
    """The spending of least modelled error among those with p in `counts`; `budget` pays for the least of them."""
    tried = [
        way
        for p in counts
        for rank in range(min(p, shape.views, shape.classes, _MOST_RANK + 1))
        for width in (WIDTHS if bits is None else (bits,))
        for way in _ways(
            shape, budget, Spending(p, rank, 0, width, 0, 0, residual_bits or 0), counts.stop, mixed, fresh
        )
    ]
    return min(tried, key=lambda way: way[0])[1]


def _ways(
    shape: LabelShape, budget: int, start: Spending, stop: int, mixed: bool, fresh: bool
) -> list[tuple[float, Spending]]:
    """What may be done with the bytes that the field of `start` leaves: rows for first images, or a remainder.

    None where it does not fit. A `residual_bits` of 0 is chosen here: what a field leaves of clean labels has
    components more alike in size than the labels have, so 3 bits serve twice as many.
    """
    n, p, rank = shape.images, start.features, start.rank
    rows = rank or p
    each = row_cost(shape, p, rank, start.bits)
    left = budget - n * (base_cost(shape, p, rank) + (rows - 1) * each)
    if left < 0:
        return []
    here = _field_error(p, rank, start.bits, mixed)
    room = p + 1 < stop if rank == 0 else rank + 1 < min(p, shape.views, shape.classes)
    more = min(left // each, n - 1) if room else 0  # with all n it is another choice of p or rank
    there = _field_error(p + (rank == 0), rank + (rank > 0), start.bits, mixed)
    ways = [(here + more / n * (there - here), replace(start, more=more, residual_bits=start.residual_bits or 4))]
    if not fresh:
        bits = start.residual_bits or width_for(shape, left, few(shape) * (1 if mixed else 2))
        residual, extra = split(shape, left, bits)
        full, shift = min(shape.views, shape.classes), 2.5 + p / 20
        now, next_one = _tail(residual, full, shift), _tail(min(residual + 1, full), full, shift)
        error = here * (now + extra / n * (next_one - now) + 0.01 * 4.0 ** (3 - bits) * (residual + extra / n) / full)
        ways.append((error, replace(start, residual=residual, extra=extra, residual_bits=bits)))
    return ways


def _field_error(p: int, rank: int, bits: int, mixed: bool) -> float:
    left: float = p ** (-0.12 if mixed else -0.6)
    cut = 0.9 * (1 / (rank + 0.5) - 1 / (p + 0.5)) / (1 / 1.5 - 1 / (p + 0.5)) if rank > 0 else 0.0
    return (left + (1 - left) * cut) * (1 + 0.01 * 4.0 ** (3 - bits) * (rank or p))


def _tail(removed: int, full: int, shift: float) -> float:
    """The share of energy after `removed` of `full` components."""
    return (1 / (removed + shift) - 1 / (full + shift)) / (1 / shift - 1 / (full + shift))
