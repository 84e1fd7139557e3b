"""What codes of few bits cost: a model of the squared error, relative to that of the exact mean label alone.

Plans of `lowrank_int8` and `field` compare with it all that a budget buys. Only the order of choices matters, so rough
constants are enough; these fit the labels of small networks on 50 classes of Tiny-ImageNet and on CIFAR-10, K = 100,
crop area from 0.3 and 0.4.
"""

from __future__ import annotations

from dcpipe.compression.quantise import TERNARY

# The mean label is ten times the size of all changes from view to view; rows of W are told beside others, which make
# up for some of their rounding.
CONSTANT = {8: 0.0004, 6: 0.006, 4: 0.1, 3: 0.42}
ROWS = {8: 0.0001, 6: 0.001, 4: 0.012, 3: 0.047, TERNARY: 0.2}
_MIXED = 0.12


def features_leave(count: int, mixed: bool) -> float:
    """The share of the changes that a fit of `count` features leaves."""
    if mixed:
        return float(count**-_MIXED)
    return 1 - 0.115 * (count - 1) if count <= 6 else 0.425 * (6 / count) ** 0.45


def components_leave(smooth: float, noise: float, found: float, full: int, bits: float, features: int = 1) -> float:
    """The error left by `found` of `full` components of a matrix, their rounding included.

    It was `smooth`, what a fit of `features` features leaves, with singular values whose tail falls like
    1 / (R + 2.5 + p / 20), and `noise`, what rounding has added, all of whose directions are alike. A component of
    three levels is worth less of an exact one the more there are.
    """
    shift = 2.5 + features / 20
    worth = 0.75 * found**0.85 if bits == TERNARY else found
    tail = (1 / (worth + shift) - 1 / (full + shift)) / (1 / shift - 1 / (full + shift))
    rounding = 0.0 if bits == TERNARY else 0.01 * 4.0 ** (3 - bits) * found / full
    return float(smooth * (tail + rounding) + noise * (1 - worth / full))
