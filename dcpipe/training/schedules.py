"""Learning-rate schedules: the share of the base rate that epoch e of N trains with, a function of what is known then.

Every schedule takes a `Moment` and returns a factor; rates change per epoch, never within one. Only `alrs` looks at
the losses so far, which a checkpoint keeps: a resumed run gets the rates of an unbroken one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

WARMUP_START = 0.01  # of the base rate, in the first epoch of a warm-up (SRe2L's Tiny-ImageNet students)
RELATIVE, ABSOLUTE = 0.02, 0.02  # ALRS's thresholds h1 and h2


@dataclass(frozen=True)
class Moment:
    """Epoch e of N and what schedules need beside: `zeta` stretches time; `milestones` and `factor` are multistep's,
    `factor` also ALRS's gamma; `losses` are the mean training losses of epochs 0..e-1."""

    epoch: int
    epochs: int
    zeta: float = 1.0
    milestones: Sequence[float] = ()
    factor: float = 0.5
    losses: Sequence[float] = ()


def smoothing(now: Moment) -> float:
    """(1 + cos(pi e / (zeta N))) / 2: EDC's smoothing LR; zeta = 1 is the plain cosine, zeta = 2 ends at one half."""
    return (1.0 + math.cos(math.pi * now.epoch / (now.zeta * now.epochs))) / 2.0


def constant(now: Moment) -> float:
    """1: no schedule."""
    return 1.0


def linear(now: Moment) -> float:
    """1 - e / (zeta N). EDC's official ImageNet-1k run ends here although it asks for `cos`; zeta = 2 ends at one half.
    Below zeta = 1 the rate would turn negative, which a recipe refuses."""
    return 1.0 - now.epoch / (now.zeta * now.epochs)


def ssrs(now: Moment) -> float:
    """Early smoothing, later steep (EDC, Eq. 33): `smoothing` up to e = 5N/6, then
    (1 + cos(5 pi / (6 zeta))) / 2 * (6N - 6e) / (6N).

    As printed and as run, the rate jumps to a sixth right after 5N/6 (zeta = 2: from .629 to .105), then falls to 0.
    """
    if 6 * now.epoch <= 5 * now.epochs:
        return smoothing(now)
    return (1.0 + math.cos(5.0 * math.pi / (6.0 * now.zeta))) / 2.0 * (now.epochs - now.epoch) / now.epochs


def multistep(now: Moment) -> float:
    """factor^(number of milestones m <= e). An integer is an epoch, a fraction in (0, 1) the epoch round(m N)."""
    places = [m if isinstance(m, int) else round(m * now.epochs) for m in now.milestones]
    return float(now.factor ** sum(place <= now.epoch for place in places))


def alrs(now: Moment) -> float:
    """The adaptive schedule of EDC's appendix G.3 on mean losses L_i of epochs: with gamma = `factor`,

        mu(i) = mu(i - 1) * gamma ^ [ |L_i - L_(i-1)| / |L_i| <= h1  and  |L_i - L_(i-1)| <= h2 ],  h1 = h2 = 0.02.

    The paper speaks of iterations; here i is an epoch, and the rate of epoch e knows the losses before it.
    """
    steps = [(abs(new - old), abs(new)) for old, new in pairwise(now.losses[: now.epoch])]
    return float(now.factor ** sum(step <= RELATIVE * size and step <= ABSOLUTE for step, size in steps))


SCHEDULES: dict[str, Callable[[Moment], float]] = {
    "smoothing": smoothing,
    "constant": constant,
    "linear": linear,
    "ssrs": ssrs,
    "multistep": multistep,
    "alrs": alrs,
}


def factor(name: str, now: Moment, warmup: int = 0) -> float:
    """The share of the base rate in this epoch. The first `warmup` epochs w rise linearly, 0.01 + 0.99 e / w; the
    schedule then runs over the N - w that are left, as if they were all, and epochs of milestones count from there."""
    if now.epoch < warmup:
        return WARMUP_START + (1.0 - WARMUP_START) * now.epoch / warmup
    left = Moment(
        now.epoch - warmup, now.epochs - warmup, now.zeta, now.milestones, now.factor, now.losses[warmup : now.epoch]
    )
    return SCHEDULES[name](left)
