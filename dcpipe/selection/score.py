"""SCORE: real images that are informative together, tight within their class, and cheap in soft labels.

Idea. Greedily add the image x that makes Eq. 4 of the picks X' largest,

    R(x, Y | X') = R_I({x} + X') - alpha R_D({x} + X') - beta R_C(Y)

    R_I = 1/2 logdet(I + d / (n eps2) Z Z^T)                                     Eq. 5, bits to code all n picks
    R_D = sum_j n_j / (2 n) logdet(I + d / (n_j eps2) Z_j Z_j^T)                 Eq. 6, bits to code each class
    R_C = `label_rate` of the image's own soft labels                            Eq. 7, bits of its labels

Formula. Let n and n_y count the picks with x among them, c = d / (n eps2), c_y = d / (n_y eps2). By the determinant
lemma, with all logdets over the picks before x,

    R_I = 1/2 [logdet(I + c G)       + log(1 + c z^T (I + c G)^-1 z)]             G   = sum of z z^T over all picks
    R_D = as before, but class y has  n_y/(2n) [logdet(I + c_y G_y) + log(1 + c_y z^T (I + c_y G_y)^-1 z)]

The coefficient moves with n, which changes I + c G by full rank, so no rank-one update is exact. But every candidate
of one step shares it: one Cholesky factor and one triangular solve score a whole class. R_I takes the smaller of the
d x d form above and the n x n form z^T (I + c G)^-1 z = z^T z - k^T (I / c + Z Z^T)^-1 k, k = Z z; R_D, whose classes
hold few picks, always takes the latter.

Cost a step, for N candidates in the class: d^3 / 3 + N d^2 multiply-adds at most, n^3 / 3 + n^2 d + N n (n + d) while
few are picked; a determinant for each candidate would take N d^3 / 3 (`benchmarks/selection.py` has the ratio).
Memory: one class of candidates and a few d x d matrices.

Where we differ from the paper, "SCORE: Soft Label Compression-Centric Dataset Condensation via Coding Rate
Optimization", Sec. 4 and Algorithm 1:

* Algorithm 1 searches all classes at once and stops at ipc * C images; nothing keeps its classes even. We go round
  the classes, so each gets `ipc` and the first k rounds are the set of k a class.
* Norm and eps are not stated. Rows have unit norm and eps2 = 0.5, as in MCR2 (Yu et al., NeurIPS 2020) and its code.
* The paper proves submodularity for a constant coefficient. With d / (n eps2) the rate is neither submodular nor
  monotone, and -alpha R_D makes any variant a difference of submodular functions: there is no (1 - 1/e) bound.
  `coefficient="final"` holds n and n_j at their last values, the function that the proof is about (for alpha = 0).

Published alpha / beta: ImageNet-1K 5 / 1; Tiny-ImageNet 5 / 0.001 (ipc 10) and 10 / 0.001 (ipc 50); ImageWoof 5 / 0.1;
ImageNette 0.1 / 0.1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from dcpipe.selection.coding_rate import logdet, more_by_dimension, more_by_sample, sample_form_is_cheaper
from dcpipe.selection.seam import Candidates, Picks, Watch
from dcpipe.types import FloatArray, IntArray, require

_PRECISIONS = {"float64": torch.float64, "float32": torch.float32}
_COEFFICIENTS = ("growing", "final")
# Gains nearer than round-off are a tie: rates are of order 1 to 100, and the matrices' condition is below 1 + d / eps2.
_TIE = {torch.float64: 1e-10, torch.float32: 1e-5}


@dataclass(frozen=True)
class _Objective:
    """Eq. 4 and the arithmetic it is evaluated in. `final` is ipc where the counts are held, else None."""

    alpha: float
    beta: float
    eps2: float
    final: int | None
    dtype: torch.dtype
    device: torch.device


@dataclass(eq=False)
class _State:
    """What the picks so far leave behind.

    `scatter` [d, d]: sum of z z^T. `head` [<= d, d]: vectors of the first picks, for as long as the n x n form can
    win. `class_rate` f64 [c]: logdet(I + c_j G_j) of each class. `rows` i64, `gains` f64 [ipc * c], filled up to `n`.
    """

    scatter: torch.Tensor
    head: torch.Tensor
    class_rate: FloatArray
    rows: IntArray
    gains: FloatArray
    n: int = 0


def score(
    candidates: Candidates,
    ipc: int,
    seed: int,
    watch: Watch,
    *,
    alpha: float = 5.0,
    beta: float = 1.0,
    eps2: float = 0.5,
    coefficient: Literal["growing", "final"] = "growing",
    precision: Literal["float64", "float32"] = "float64",
    device: str = "cpu",
) -> Picks:
    """Rows i64 [ipc * c] in rounds of one image a class, gains f64: R(S + x) - R(S) of each pick in nats, where R sums
    R_C over the set.

    `eps2` is epsilon squared. Ties go to the lower label rate, then to the lower row. `seed` is unused, for the greedy
    choice has no randomness; it is there because all selectors are called alike. A smaller `ipc` gives a prefix, except
    with `coefficient="final"`, whose objective depends on `ipc`. Vectors of one class at a time are read, once a round.

    Raises `DataError` for a class with fewer than `ipc` images, vectors that are not finite, an option outside its
    range, and earlier picks that do not belong to these candidates.
    """
    candidates.check_ipc(ipc)
    require(eps2 > 0, f"selection.options.eps2 is {eps2}; give a number above 0")
    require(
        coefficient in _COEFFICIENTS,
        f"selection.options.coefficient is {coefficient!r}; choose one of {', '.join(_COEFFICIENTS)}",
    )
    require(
        precision in _PRECISIONS,
        f"selection.options.precision is {precision!r}; choose one of {', '.join(_PRECISIONS)}",
    )
    final = ipc if coefficient == "final" else None
    objective = _Objective(alpha, beta, eps2, final, _PRECISIONS[precision], torch.device(device))
    state = _begin(candidates, ipc, objective)
    if watch.earlier is not None:
        _replay(candidates, objective, state, watch.earlier)
    while state.n < len(state.rows):
        _step(candidates, objective, state)
        if state.n % candidates.n_classes == 0:
            watch.report(Picks(state.rows[: state.n].copy(), state.gains[: state.n].copy()))
    return Picks(state.rows, state.gains)


def _begin(candidates: Candidates, ipc: int, objective: _Objective) -> _State:
    """Nothing picked yet."""
    total, d = ipc * candidates.n_classes, candidates.vectors.shape[1]
    return _State(
        scatter=torch.zeros(d, d, dtype=objective.dtype, device=objective.device),
        head=torch.zeros(min(total, d), d, dtype=objective.dtype, device=objective.device),
        class_rate=np.zeros(candidates.n_classes),
        rows=np.zeros(total, dtype=np.int64),
        gains=np.zeros(total),
    )


def _vectors(candidates: Candidates, objective: _Objective, label: int) -> torch.Tensor:
    """Unit vectors of one class [N, d] on the device; rows of zeros stay."""
    block = np.asarray(candidates.vectors[candidates.rows(label)], dtype=np.float64)
    require(
        bool(np.isfinite(block).all()),
        f"candidates: vectors of class {label} hold NaN or infinity; extract the features again",
    )
    norm = np.linalg.norm(block, axis=1, keepdims=True)
    return torch.from_numpy(block / np.where(norm > 0, norm, 1.0)).to(objective.device, objective.dtype)


def _step(candidates: Candidates, objective: _Objective, state: _State) -> None:
    """Pick one image for the class whose turn it is."""
    n_classes, start = candidates.n_classes, state.n
    label = start % n_classes
    x = _vectors(candidates, objective, label)
    first = candidates.rows(label).start
    own = torch.from_numpy(state.rows[label:start:n_classes] - first).to(objective.device)
    label_rate = candidates.label_rate[candidates.rows(label)]
    rate = _rates(objective, state, label, x, own)
    # R(S) without its R_C is the sum of the gains without theirs: right after a replay too.
    before = float((state.gains[:start] + objective.beta * candidates.label_rate[state.rows[:start]]).sum())
    gains = rate - before - objective.beta * label_rate
    free = np.ones(len(x), dtype=bool)
    free[own.cpu().numpy()] = False
    pick = _best(gains, label_rate, free, _TIE[objective.dtype])
    state.gains[start] = gains[pick]
    state.rows[start] = first + pick
    _add(state, x[pick])
    state.class_rate[label] = _class_rate(objective, x, state.rows[label : state.n : n_classes] - first)


def _rates(objective: _Objective, state: _State, label: int, x: torch.Tensor, own: torch.Tensor) -> FloatArray:
    """R_I - alpha R_D of the picks with each row of `x` [N, d] added to class `label`, f64 [N]; `own` are the rows of
    `x` that are picked already."""
    counts = np.full(len(state.class_rate), state.n // len(state.class_rate))
    counts[: label + 1] += 1  # after the addition
    if objective.final is not None:
        counts[:] = objective.final
    n, d = int(counts.sum()), x.shape[1]
    c = d / (n * objective.eps2)
    if sample_form_is_cheaper(state.n, d, len(x)):
        all_before, all_more = more_by_sample(state.head[: state.n], x, c)
    else:
        all_before, all_more = more_by_dimension(state.scatter, x, c)
    own_before, own_more = more_by_sample(x[own], x, d / (int(counts[label]) * objective.eps2))
    weights = counts / n
    others = float(np.delete(weights * state.class_rate, label).sum())
    r_i = (all_before + _array(all_more)) / 2
    r_d = (others + weights[label] * (own_before + _array(own_more))) / 2
    rates: FloatArray = r_i - objective.alpha * r_d
    return rates


def _array(tensor: torch.Tensor) -> FloatArray:
    array: FloatArray = tensor.double().cpu().numpy()
    return array


def _best(gains: FloatArray, label_rate: FloatArray, free: npt.NDArray[np.bool_], tie: float) -> int:
    """The free row of highest gain; among ties that of lowest label rate, then the first."""
    tied = np.flatnonzero(free & (gains >= gains[free].max() - tie))
    return int(tied[np.argmin(label_rate[tied])])


def _add(state: _State, z: torch.Tensor) -> None:
    """Take the vector of the pick already entered in `state.rows`."""
    if state.n < len(state.head):
        state.head[state.n] = z
    state.scatter.addr_(z, z)
    state.n += 1


def _class_rate(objective: _Objective, x: torch.Tensor, own: IntArray) -> float:
    """logdet(I + c_j G_j) of the rows `own` of one class."""
    count = len(own) if objective.final is None else objective.final
    return logdet(x[torch.from_numpy(own).to(x.device)], x.shape[1] / (count * objective.eps2))


def _replay(candidates: Candidates, objective: _Objective, state: _State, earlier: Picks) -> None:
    """Bring the state to where a killed run left it: the same sums in the same order, so that the same picks follow."""
    n, n_classes = len(earlier.rows), candidates.n_classes
    labels = np.arange(n) % n_classes
    within = (earlier.rows >= candidates.offsets[labels]) & (earlier.rows < candidates.offsets[labels + 1])
    require(
        n <= len(state.rows) and bool(within.all()) and len(np.unique(earlier.rows)) == n,
        f"the {n} earlier picks are not the first of {len(state.rows)} in rounds of one image a class; "
        "remove them and select anew",
    )
    state.rows[:n], state.gains[:n] = earlier.rows, earlier.gains
    z = torch.empty(n, candidates.vectors.shape[1], dtype=objective.dtype, device=objective.device)
    for label in range(min(n, n_classes)):
        x = _vectors(candidates, objective, label)
        own = earlier.rows[label::n_classes] - candidates.rows(label).start
        z[label::n_classes] = x[torch.from_numpy(own).to(x.device)]
        state.class_rate[label] = _class_rate(objective, x, own)
    for vector in z:
        _add(state, vector)
