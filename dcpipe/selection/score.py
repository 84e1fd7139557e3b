"""SCORE: real images that are jointly informative, compact within their class, and have compressible soft labels.

Idea. Greedily add the image x that makes Eq. 4 of the picks X' largest,

    R(x, Y | X') = R_I({x} + X') - alpha R_D({x} + X') - beta R_C(Y)

    R_I = 1/2 logdet(I + d / (n eps2) Z Z^T)                                     Eq. 5, bits to code all n picks
    R_D = sum_j n_j / (2 n) logdet(I + d / (n_j eps2) Z_j Z_j^T)                 Eq. 6, bits to code each class
    R_C = `label_rate` of the image's own soft labels                            Eq. 7, bits of its labels

`dcpipe.coding_rate` makes the exact choice. Its docstrings give formulas, cost and memory, and
`benchmarks/selection.py` compares the time with the good ways to do it in NumPy and SciPy.

Where we differ from the paper, "SCORE: Soft Label Compression-Centric Dataset Condensation via Coding Rate
Optimization", Sec. 4 and Algorithm 1:

* Algorithm 1 searches all classes at once and stops at ipc * C images, and nothing keeps its classes balanced. By
  default we take turns between the classes (`order="rounds"`), so each gets `ipc` images, and the first k rounds are
  the set of k images per class. `order="global"` is exactly Algorithm 1: a class may get more than its share, or
  nothing. Each step then evaluates every image, which costs C times as much.
* The paper does not state the norm of rows or eps. Here rows have unit norm and eps2 = 0.5, as in MCR2 (Yu et al.,
  NeurIPS 2020) and its code.
* The paper proves submodularity for a constant coefficient. With d / (n eps2) the rate is neither submodular nor
  monotone, and -alpha R_D makes any variant a difference of submodular functions: there is no (1 - 1/e) bound.
  `coefficient="final"` fixes n and n_j at their final values, which is the function of the proof (for alpha = 0).

* R_I takes outliers first, which is what Eq. 5 asks for, and -alpha R_D then takes images like them. Two options that
  are not in the paper start from typical images. `typical` limits the candidates to this share of each class, those
  nearest its mean. `start="medoid"` makes the first pick of each class the candidate nearest its mean.

With one image per class, alpha has no effect: the rate of one unit vector is a constant, so R_D is the same for every
choice. The stage `selection` says so, and recommends `start="medoid"`.

Published alpha / beta: ImageNet-1K 5 / 1; Tiny-ImageNet 5 / 0.001 (ipc 10) and 10 / 0.001 (ipc 50); ImageWoof 5 / 0.1;
ImageNette 0.1 / 0.1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import numpy as np

from dcpipe.coding_rate import Objective, greedy
from dcpipe.config.options import validated
from dcpipe.config.values import Device, NotNegative, Positive, PositiveShare
from dcpipe.selection.base import Candidates, Picks, Progress, unit
from dcpipe.types import FloatArray, IntArray, require

Coefficient = Literal["growing", "final"]
Order = Literal["rounds", "global"]
Precision = Literal["float64", "float32"]
Start = Literal["greedy", "medoid"]


def _together(*, coefficient: str, order: str, start: str, **others: Any) -> None:
    require(
        start == "greedy" or order == "rounds",
        "start 'medoid' gives every class a first image, which order 'global' does not; use start 'greedy' or order "
        "'rounds'",
    )
    require(
        order == "rounds" or coefficient == "growing",
        "coefficient 'final' needs the final size of every class, which order 'global' does not fix; use coefficient "
        "'growing' or order 'rounds'",
    )


@validated("selector 'score'", _together)
def score(
    candidates: Candidates,
    ipc: int,
    seed: int,
    progress: Progress,
    *,
    alpha: NotNegative = 5.0,
    beta: NotNegative = 1.0,
    eps2: Positive = 0.5,
    coefficient: Coefficient = "growing",
    order: Order = "rounds",
    precision: Precision = "float64",
    device: Device = "cpu",
    typical: PositiveShare = 1.0,
    start: Start = "greedy",
) -> Picks:
    """Rows i64 [ipc * c], in rounds of one image per class unless `order` is `global`, and gains f64: R(S + x) - R(S)
    of each pick in nats, where R contains the sum of R_C over the set.

    `eps2` is epsilon squared. Ties go to the lower label rate, then to the lower row. `seed` is not used, because the
    greedy choice is not random; all selectors have the same signature. A smaller `ipc` gives a prefix, except with
    `coefficient="final"`, where the objective depends on `ipc`. `precision="float64"` gives the picks of double
    precision; `float32` is a little faster, but the picks may differ between machines. `typical`: the share of each
    class, rounded up, that may be picked: the candidates with the largest cosine to the mean of the unit vectors of the
    class. `start`: the first pick of each class is greedy too, or its `medoid`, the candidate with the largest cosine.

    Raises `DataError` for a class with fewer than `ipc` images (or with fewer on the shortlist), for vectors that are
    not finite, for an option outside its range, and for earlier picks that do not belong to these candidates.
    """
    replace(candidates, take_all=False).check_ipc(ipc)
    for label in range(candidates.n_classes):
        kept = int(np.isfinite(candidates.label_rate[candidates.rows(label)]).sum())
        require(
            kept >= ipc,
            f"selection.ipc is {ipc} but the shortlist has {kept} images of class {candidates.class_name(label)}; "
            "raise features.label_rate.shortlist.per_class",
        )
    label_rate, medoids = candidates.label_rate, np.zeros(0, dtype=np.int64)
    if typical < 1 or start == "medoid":
        label_rate, medoids = _typical(candidates, typical, ipc)
    objective = Objective(
        alpha,
        beta,
        eps2,
        final=ipc if coefficient == "final" else None,
        by_turns=order == "rounds",
        double=precision == "float64",
        device=device,
    )
    make = partial(greedy, candidates.vectors, candidates.offsets, objective=objective)
    earlier = None if progress.earlier is None else (progress.earlier.rows, progress.earlier.gains)
    if start == "medoid" and earlier is None:
        # A round in which each class has only one candidate gives the first picks their gains.
        alone = np.full(len(label_rate), np.inf)
        alone[medoids] = label_rate[medoids]
        earlier = make(alone, candidates.n_classes)
    rows, gains = make(
        label_rate,
        ipc * candidates.n_classes,
        earlier=earlier,
        report=lambda rows, gains: progress.report(Picks(rows, gains)),
    )
    return Picks(rows, gains)


def note(ipc: int, options: Mapping[str, Any]) -> str | None:
    """What to know about a choice that has no effect, in one sentence: alpha, with one image per class.

    R_D of one unit vector per class is the same whichever it is, so every alpha gives the same picks.
    """
    if ipc > 1 or options.get("start", "greedy") == "medoid" or options.get("order", "rounds") == "global":
        return None
    return (
        "with ipc 1, alpha has no effect on score, which takes the images least like those of other classes; "
        "`selection.options: {start: medoid}` takes the most typical image of each class instead"
    )


def _typical(candidates: Candidates, share: float, ipc: int) -> tuple[FloatArray, IntArray]:
    """Label rates f64 [n] that are infinite for all but the typical candidates, and the most typical row of each class.

    Raises `DataError` for a class of which fewer than `ipc` candidates remain.
    """
    label_rate, medoids = np.full(len(candidates.label_rate), np.inf), np.empty(candidates.n_classes, dtype=np.int64)
    for label in range(candidates.n_classes):
        rows, units = candidates.rows(label), candidates.class_units(label)
        free = np.flatnonzero(np.isfinite(candidates.label_rate[rows]))
        cosines = units[free] @ unit(units.mean(axis=0, keepdims=True))[0]
        kept = rows.start + free[np.argsort(-np.round(cosines, 12), kind="stable")[: math.ceil(share * len(free))]]
        require(
            ipc <= len(kept),
            f"selection.ipc is {ipc} but option typical {share:g} leaves {len(kept)} images of class "
            f"{candidates.class_name(label)}; raise typical",
        )
        label_rate[kept], medoids[label] = candidates.label_rate[kept], kept[0]
    return label_rate, medoids
