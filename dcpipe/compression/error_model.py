"""The error of codes with few bits: a model of the squared error, relative to that of the exact mean label alone.

`lowrank_int8` and `field` use it to compare all plans that fit a budget. Only the order of plans matters, so rough
constants are enough. These were fitted to the labels of small networks on 50 classes of Tiny-ImageNet and on CIFAR-10,
with K = 100 and crop areas from 0.3 and 0.4.
"""

from __future__ import annotations

from dcpipe.compression.quantise import TERNARY

# The mean label is ten times as large as all changes between views; the rounding of a row of W is partly compensated by
# the other rows.
CONSTANT = {8: 0.0004, 6: 0.006, 4: 0.1, 3: 0.42}
ROWS = {8: 0.0001, 6: 0.001, 4: 0.012, 3: 0.047, TERNARY: 0.2}
_MIXED = 0.12


def features_leave(count: int, mixed: bool) -> float:
    """The share of the changes between views that a fit of `count` features does not explain."""
    if mixed:
        return float(count**-_MIXED)
    return 1 - 0.115 * (count - 1) if count <= 6 else 0.425 * (6 / count) ** 0.45


def components_leave(smooth: float, noise: float, found: float, full: int, bits: float, features: int = 1) -> float:
    """The error that remains with `found` of `full` components of a matrix, including their rounding.

    Without components the error is `smooth`, the residual of a fit of p = `features` features, whose tail of singular
    values falls like 1 / (R + 2.5 + p / 20), plus `noise`, added by rounding, which is equal in all directions. The
    more components with three levels there are, the less each is worth compared with an exact one.
    """
    shift = 2.5 + features / 20
    worth = 0.75 * found**0.85 if bits == TERNARY else found
    tail = (1 / (worth + shift) - 1 / (full + shift)) / (1 / shift - 1 / (full + shift))
    rounding = 0.0 if bits == TERNARY else 0.01 * 4.0 ** (3 - bits) * found / full
    return float(smooth * (tail + rounding) + noise * (1 - worth / full))
