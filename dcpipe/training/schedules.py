"""Learning-rate schedules: the factor on the base rate in epoch e of N.

Every schedule takes a `Moment` and returns a factor. Rates change between epochs, never within one. Only ALRS depends
on the losses so far. Checkpoints store them, so a resumed run has the same rates as an uninterrupted one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

WARMUP_START = 0.01  # factor in the first epoch of a warm-up (SRe2L's students on Tiny-ImageNet)
RELATIVE, ABSOLUTE = 0.02, 0.02  # thresholds h1 and h2 of ALRS


@dataclass(frozen=True)
class Moment:
    """What a schedule knows in epoch e of N.

    `zeta` stretches time. `milestones` and `factor` belong to multistep; `factor` is also gamma of ALRS. `losses` are
    the mean training losses of epochs 0..e - 1.
    """

    epoch: int
    epochs: int
    zeta: float = 1.0
    milestones: Sequence[float] = ()
    factor: float = 0.5
    losses: Sequence[float] = ()


def smoothing(now: Moment) -> float:
    """(1 + cos(pi e / (zeta N))) / 2: EDC's smoothing LR. zeta = 1 is the plain cosine; zeta = 2 ends at one half."""
    return (1.0 + math.cos(math.pi * now.epoch / (now.zeta * now.epochs))) / 2.0


def constant(now: Moment) -> float:
    """1: no schedule."""
    return 1.0


def linear(now: Moment) -> float:
    """1 - e / (zeta N). EDC's official ImageNet-1k run ends up with this one although it asks for `cos`.

    zeta = 2 ends at one half. Below zeta = 1 the rate would become negative, which `Recipe` refuses.
    """
    return 1.0 - now.epoch / (now.zeta * now.epochs)


def ssrs(now: Moment) -> float:
    """Smoothing early, steep later (EDC, Eq. 33): `smoothing` up to e = 5N/6, then
    (1 + cos(5 pi / (6 zeta))) / 2 * (6N - 6e) / (6N).

    Both in the paper and in the official code the rate drops to a sixth right after 5N/6 (zeta = 2: from .629 to .105)
    and then falls to 0.
    """
    if 6 * now.epoch <= 5 * now.epochs:
        return smoothing(now)
    return (1.0 + math.cos(5.0 * math.pi / (6.0 * now.zeta))) / 2.0 * (now.epochs - now.epoch) / now.epochs


def milestones_of(now: Moment) -> list[int]:
    """The epochs of the milestones. An integer m is an epoch; a fraction in (0, 1) is the epoch round(m N)."""
    return [m if isinstance(m, int) else round(m * now.epochs) for m in now.milestones]


def multistep(now: Moment) -> float:
    """factor^(number of milestones <= e); `milestones_of` says at which epochs they are."""
    return float(now.factor ** sum(place <= now.epoch for place in milestones_of(now)))


def alrs(now: Moment) -> float:
    """The adaptive schedule of EDC's appendix G.3, on the mean losses L_i of the epochs. With gamma = `factor`,

        mu(i) = mu(i - 1) * gamma ^ [ |L_i - L_(i-1)| / |L_i| <= h1  and  |L_i - L_(i-1)| <= h2 ],  h1 = h2 = 0.02.

    In the paper i is an iteration; here it is an epoch, and the rate of epoch e depends on the losses before it. All
    parameters have the same rate; `alrs_code` differs.
    """
    steps = [(abs(new - old), abs(new)) for old, new in pairwise(now.losses[: now.epoch])]
    return float(now.factor ** sum(step <= RELATIVE * size and step <= ABSOLUTE for step, size in steps))


def alrs_code(now: Moment) -> float:
    """ALRS as EDC's official code runs it: `<` instead of `<=`, and for the first group of parameters only
    (`FIRST_GROUP`). With `decay: weights` these are the weights, and biases and normalisation layers keep the full
    rate; with `decay: all` there is one group."""
    steps = [(abs(new - old), abs(new)) for old, new in pairwise(now.losses[: now.epoch])]
    return float(now.factor ** sum(step < RELATIVE * size and step < ABSOLUTE for step, size in steps))


SCHEDULES: dict[str, Callable[[Moment], float]] = {
    "smoothing": smoothing,
    "constant": constant,
    "linear": linear,
    "ssrs": ssrs,
    "multistep": multistep,
    "alrs": alrs,
    "alrs_code": alrs_code,
}
FIRST_GROUP = frozenset({"alrs_code"})  # schedules of the first parameter group; for others the rate is constant


def factor(name: str, now: Moment, warmup: int = 0) -> float:
    """The factor on the base rate in this epoch, with a warm-up of w = `warmup` epochs.

    During the warm-up the factor rises linearly, 0.01 + 0.99 e / w. After it the schedule runs over the remaining N - w
    epochs as if there were no others; milestones given as epochs also count from there.
    """
    if now.epoch < warmup:
        return WARMUP_START + (1.0 - WARMUP_START) * now.epoch / warmup
    left = Moment(
        now.epoch - warmup, now.epochs - warmup, now.zeta, now.milestones, now.factor, now.losses[warmup : now.epoch]
    )
    return SCHEDULES[name](left)
