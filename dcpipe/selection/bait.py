"""BAIT: the images whose joint Fisher information best covers that of all images.

Idea. The error of a maximum-likelihood fit to the picks S, averaged over all images U, is bounded by a trace. Choose

    S = argmin tr(M^-1 F),    M = lambda I + sum over x in S of I(x),    F = mean over x in U of I(x)

I(x) is the Fisher matrix of the last layer's weights, which needs no label: with feature h in R^d, probabilities p of C
classes and G = diag(p) - p p^T, it is I(x) = G (x) h h^T, of dimension D = C d. The trace is not submodular, so a
forward greedy pass takes more images than needed (`oversample` times the budget), and a backward pass removes the least
useful ones.

Formula. R = diag(sqrt p) - p sqrt(p)^T is a root of G, so V = R (x) h has I(x) = V V^T and C columns. Let A = M^-1 and
K = A F A, divided into d x d blocks A_ab, K_ab. By Woodbury's identity, adding (s = 1) or removing (s = -1) x lowers or
raises the trace by

    tr((I + s R^T T R)^-1 R^T Q R)    with the C x C matrices    T_ab = h^T A_ab h,    Q_ab = h^T K_ab h

With the Cholesky factorisation L L^T = I + s V^T A V, W = A V L^-T and Z = s A F W - W W^T F W / 2, this step updates

    A <- A - s W W^T              T <- T - s P P^T              P = the C blocks of W, times h: C x C
    K <- K - W Z^T - Z W^T        Q <- Q - P E^T - E P^T        E = the same of Z

for all candidates. A is stored by its columns W (or explicitly, if there would be more than D of them). F W is the mean
of (G P) (x) h, one pass over the images, so F is never formed, and only C x C matrices are inverted. The initial T is
h^T h I / lambda. The initial Q, times lambda^2, is h^T F_ab h = mean over z of (h . h_z)^2 G_z, computed by pairs of
images or through the F_ab.

Cost for n candidates: 3 n d C^2 multiply-adds per forward step, 2 n d C^2 per removal (only picks can be removed), and
once the smaller of n^2 (d / 2 + C^2) and n d^2 C (C + 1). Memory in float64: T, Q and P, n C^2 each, and A, D times the
smaller of D and C per step. If that exceeds `memory_gib`, an error is raised. Vectors are cached if they fit too,
otherwise they are read one class at a time.

Paper: Ash, Goel, Krishnamurthy, Kakade, "Gone Fishing: Neural Active Learning with Fisher Embeddings", NeurIPS 2021,
Algorithm 1. As in the official code (JordanAsh/badge), lambda is 1, the forward pass takes twice the budget, weights
count but the bias does not, features are not normalised, and the sum over S is not divided by its size. Where we
differ:

* Active learning starts from labelled images, whose mean Fisher matrix is part of the initial M. Here there are none.
* The budget of the paper is not per class. We take turns: each class adds its best image, and later each class that
  still has more than `ipc` images drops its least useful one. The trace is always that of all classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import combinations_with_replacement

import numpy as np
import torch

from dcpipe.config.options import validated
from dcpipe.config.values import AtLeastOne, Device, Positive
from dcpipe.selection.base import Candidates, Picks, Progress
from dcpipe.types import FloatArray, IntArray, require

# The error of Q stays near 1e-16 of its initial value, however small Q becomes; this leaves room for a thousand steps
# and sums of C^2 terms.
_ROUND_OFF = 1e-13
# With many picks, Q falls with (lambda / |h|^2)^2 and I - V^T A V with lambda / |h|^2; below this ratio float64 is not
# precise enough.
_RIDGE = 1e-6
_PART = 2048  # vectors whose products are in memory at once: 32 MiB


@dataclass(eq=False)
class _Model:
    """M^-1 and F as operators. Row a * d + i of D is feature i of logit a.

    `p` f64 [n, C]: the teacher's probabilities. `columns` f64 [D, C * steps] and `signs` f64 [C * steps], filled up to
    `used`: M^-1 = I / ridge - columns signs columns^T. If `dense`, `columns` f64 [D, D] is M^-1 itself. `cached`: the
    vectors of each class, f64 [N, d]; empty if they do not fit in memory.
    """

    candidates: Candidates
    ridge: float
    p: torch.Tensor
    columns: torch.Tensor
    signs: torch.Tensor
    dense: bool
    used: int = 0
    cached: list[torch.Tensor] = field(default_factory=list)

    def read(self, rows: slice) -> torch.Tensor:
        """Vectors of some rows, f64 [N, d]."""
        return torch.from_numpy(np.array(self.candidates.vectors[rows], dtype=np.float64)).to(self.p.device)

    def classes(self) -> Iterator[tuple[slice, torch.Tensor]]:
        """Rows and vectors f64 [N, d] of each class."""
        for label in range(self.candidates.n_classes):
            rows = self.candidates.rows(label)
            yield rows, self.cached[label] if self.cached else self.read(rows)

    def inverse(self, x: torch.Tensor) -> torch.Tensor:
        """M^-1 x, f64 [D, C]."""
        if self.dense:
            return self.columns @ x
        columns, signs = self.columns[:, : self.used], self.signs[: self.used]
        return x / self.ridge - columns @ (x.mT @ columns * signs).mT

    def pool(self, w: torch.Tensor, keep: torch.Tensor | None) -> torch.Tensor:
        """F w, f64 [D, C]; `keep` f64 [n, C, C] receives the projections of all candidates."""
        n, c = self.p.shape
        total = torch.zeros(c * c, w.shape[0] // c, dtype=torch.float64, device=w.device)
        for rows, x in self.classes():
            projected, p = project(x, w), self.p[rows, :, None]
            if keep is not None:
                keep[rows] = projected
            weighted = p * (projected - (p * projected).sum(dim=1, keepdim=True))
            total += weighted.view(len(x), c * c).mT @ x
        return total.view(c, c, -1).mT.reshape(w.shape) / n

    def take(self, row: int, sign: int, keep: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Add a candidate to M (`sign` 1) or remove it (-1); returns W and Z of this step, f64 [D, C]."""
        h, r = self.read(slice(row, row + 1))[0], root(self.p[row : row + 1])[0]
        c = len(r)
        v = (r[:, None, :] * h[:, None]).view(-1, c)
        av = self.inverse(v)
        factor = torch.linalg.cholesky(torch.eye(c, device=v.device) + sign * (v.mT @ av))
        w = torch.linalg.solve_triangular(factor, av.mT, upper=False).mT.contiguous()
        fw = self.pool(w, keep)
        z = sign * self.inverse(fw) - w @ (w.mT @ fw) / 2
        if self.dense:
            self.columns.addmm_(w, w.mT, alpha=-sign)
        else:
            self.columns[:, self.used : self.used + c], self.signs[self.used : self.used + c] = w, sign
            self.used += c
        return w, z


@dataclass(eq=False)
class _Blocks:
    """Some candidates: `p` f64 [m, C], T and Q f64 [m, C, C], and `size` f64 [m]: tr(G Q) before any pick, which is the
    scale of all later round-off."""

    p: torch.Tensor
    t: torch.Tensor
    q: torch.Tensor
    size: torch.Tensor

    def change(self, rows: IntArray, sign: int) -> tuple[FloatArray, FloatArray]:
        """How much adding (`sign` 1) lowers, or removing (-1) raises, the trace, and the round-off of it, f64 [N]
        each."""
        r = root(self.p[rows])
        small = sign * (r.mT @ self.t[rows] @ r)
        small.diagonal(dim1=1, dim2=2).add_(1.0)
        inverse = torch.cholesky_inverse(torch.linalg.cholesky(small))
        change = (inverse * (r.mT @ self.q[rows] @ r)).sum(dim=(1, 2))
        slack = _ROUND_OFF * self.size[rows] * inverse.diagonal(dim1=1, dim2=2).sum(dim=1)
        return change.cpu().numpy(), slack.cpu().numpy()

    def update(self, rows: slice, of_w: torch.Tensor, of_z: torch.Tensor, sign: int) -> None:
        """Update these rows by a step with their projections `of_w`, `of_z` f64 [N, C, C]."""
        self.t[rows].baddbmm_(of_w, of_w.mT, alpha=-sign)
        cross = of_w @ of_z.mT
        self.q[rows] -= cross + cross.mT


@validated("selector 'bait'")
def bait(
    candidates: Candidates,
    ipc: int,
    seed: int,
    progress: Progress,
    *,
    ridge: Positive = 1.0,
    oversample: AtLeastOne = 2.0,
    memory_gib: Positive = 8.0,
    device: Device = "cpu",
) -> Picks:
    """Rows i64 [ipc * c] in rounds of one image per class, with the images of a class in the order in which the forward
    pass picked them; gains f64: the decrease of tr(M^-1 F) by that pick.

    `ridge` is lambda. The forward pass takes int(oversample * ipc) images per class, or all of a smaller class. Ties go
    to the lower row, which is added first and removed last. Because of the removals, a smaller `ipc` does not give a
    prefix, except with `oversample=1`. `seed` is not used, because nothing is random. A killed run starts from the
    beginning.

    Raises `DataError` for a class with fewer than `ipc` images, for an option outside its range, and for one that does
    not suit the data: a ridge that is too small for the lengths of the vectors, or too little memory.
    """
    replace(candidates, take_all=False).check_ipc(ipc)
    wanted = np.minimum(int(oversample * ipc), np.diff(candidates.offsets))
    steps = 2 * int(wanted.sum()) - ipc * candidates.n_classes
    model = _initial_model(candidates, ridge, steps, memory_gib, torch.device(device))
    blocks = _first_blocks(model)
    all_picks = _forward(model, blocks, wanted, lambda done: progress.progress(done, steps))
    kept = _backward(model, blocks, all_picks.rows, ipc, lambda done: progress.progress(done, steps))
    return Picks(all_picks.rows[kept], all_picks.gains[kept])


def _initial_model(candidates: Candidates, ridge: float, steps: int, memory_gib: float, device: torch.device) -> _Model:
    """M = ridge I, after checking that memory suffices."""
    (n, c), d = candidates.logits.shape, candidates.vectors.shape[1]
    width = c * min(d, steps)
    need, room = 8 * (3 * n * c * c + c * d * width), memory_gib * 2**30
    require(
        need <= room,
        f"selection: bait needs {need / 2**30:.1f} GiB for {n} images and {c} classes, but "
        f"selection.options.memory_gib is {memory_gib}; use fewer classes or another selector, or raise it",
    )
    p = np.concatenate([candidates.class_probabilities(label) for label in range(candidates.n_classes)])
    columns = torch.zeros(c * d, width, dtype=torch.float64, device=device)
    model = _Model(candidates, ridge, torch.from_numpy(p).to(device), columns, columns.new_zeros(width), d <= steps)
    if model.dense:
        columns.diagonal().fill_(1 / ridge)
    if need + 8 * n * d <= room:
        model.cached = [x for _, x in model.classes()]
    return model


def _first_blocks(model: _Model) -> _Blocks:
    """T and Q of all candidates for M = ridge I, after checking that float64 suffices."""
    (n, c), d = model.p.shape, model.candidates.vectors.shape[1]
    squares = torch.cat([x.square().sum(dim=1) for _, x in model.classes()])
    longest = float(squares.max())
    require(
        model.ridge >= _RIDGE * longest,
        f"selection.options.ridge is {model.ridge}, too small for vectors of length up to {longest**0.5:.3g}; "
        f"give at least {_RIDGE * longest:.3g}",
    )
    by_pair = n * (d / 2 + c * c) < d * d * c * (c + 1)
    q = (pool_by_pair if by_pair else pool_by_dimension)(model).div_(model.ridge**2)
    size = (q @ root(model.p)).mul_(root(model.p)).sum(dim=(1, 2))
    t = torch.zeros_like(q)
    t.diagonal(dim1=1, dim2=2).copy_(squares[:, None] / model.ridge)
    return _Blocks(model.p, t, q, size)


def _forward(model: _Model, blocks: _Blocks, wanted: IntArray, progress: Callable[[int], None]) -> Picks:
    """Picks in rounds of one image per class, `wanted[y]` of class y."""
    keep, rows, gains = torch.empty_like(blocks.t), np.zeros(0, dtype=np.int64), np.zeros(0)
    for turn in range(int(wanted.max())):
        for label in np.flatnonzero(wanted > turn):
            own = model.candidates.rows(int(label))
            left = np.setdiff1d(np.arange(own.start, own.stop), rows)
            gain, slack = blocks.change(left, 1)
            best = int(np.argmax(gain + slack >= (gain - slack).max()))
            rows, gains = np.append(rows, left[best]), np.append(gains, gain[best])
            _, z = model.take(int(left[best]), 1, keep)
            for some, x in model.classes():
                blocks.update(some, keep[some], project(x, z), 1)
            progress(len(rows))
    return Picks(rows, gains)


def _backward(model: _Model, blocks: _Blocks, rows: IntArray, ipc: int, progress: Callable[[int], None]) -> IntArray:
    """Positions in `rows` of the remaining picks, i64 [ipc * c] in rounds of one image per class."""
    label = np.searchsorted(model.candidates.offsets, rows, side="right") - 1
    x = torch.cat([model.read(slice(row, row + 1)) for row in rows])
    picks = _Blocks(blocks.p[rows], blocks.t[rows], blocks.q[rows], blocks.size[rows])
    here = np.ones(len(rows), dtype=bool)
    while here.sum() > ipc * model.candidates.n_classes:
        for turn in range(model.candidates.n_classes):
            own = np.flatnonzero(here & (label == turn))
            if len(own) > ipc:
                loss, slack = picks.change(own, -1)
                tied = own[loss - slack <= (loss + slack).min()]
                worst = tied[np.argmax(rows[tied])]
                here[worst] = False
                w, z = model.take(int(rows[worst]), -1)
                picks.update(slice(None), project(x, w), project(x, z), -1)
                progress(2 * len(rows) - int(here.sum()))
    return np.stack([np.flatnonzero(here & (label == turn)) for turn in np.unique(label)], axis=1).reshape(-1)


def project(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    """Products of vectors x [N, d] with the d-blocks of columns w [C * d, k], f64 [N, C, k]."""
    blocks = w.view(-1, x.shape[1], w.shape[1]).mT.reshape(-1, x.shape[1])
    return (blocks @ x.mT).mT.contiguous().view(len(x), -1, w.shape[1])


def root(p: torch.Tensor) -> torch.Tensor:
    """R = diag(sqrt p) - p sqrt(p)^T of each row of p [N, C], f64 [N, C, C]: R R^T = G."""
    q = p.sqrt()
    r = -p[:, :, None] * q[:, None, :]
    # 1 - p is computed as the sum of the others: it may be 1e-12 for a confident teacher, which a subtraction would
    # lose.
    others = p @ (1 - torch.eye(p.shape[1], dtype=p.dtype, device=p.device))
    r.diagonal(dim1=1, dim2=2).copy_(q * others)
    return r


def pool_by_pair(model: _Model) -> torch.Tensor:
    """h^T F_ab h of every candidate, f64 [n, C, C], as the mean over z of (h . h_z)^2 G_z."""
    n, c = model.p.shape
    g = (root(model.p) @ root(model.p).mT).view(n, c * c)
    total = torch.zeros_like(g)
    parts = [slice(start, min(start + _PART, n)) for start in range(0, n, _PART)]
    for one, other in combinations_with_replacement(parts, 2):
        pairs = (model.read(one) @ model.read(other).mT).square_()
        total[one] += pairs @ g[other]
        if one != other:
            total[other] += pairs.mT @ g[one]
    return total.div_(n).view(n, c, c)


def pool_by_dimension(model: _Model) -> torch.Tensor:
    """As `pool_by_pair`, but through F_ab = mean over z of G_z[a, b] h_z h_z^T, one matrix [d, d] at a time."""
    (n, c), d = model.p.shape, model.candidates.vectors.shape[1]
    g = root(model.p) @ root(model.p).mT
    for a, b in combinations_with_replacement(range(c), 2):
        block = torch.zeros(d, d, dtype=torch.float64, device=g.device)
        for rows, x in model.classes():
            block += (g[rows, a, b, None] * x).mT @ x
        for rows, x in model.classes():
            g[rows, a, b] = g[rows, b, a] = ((x @ block) * x).sum(dim=1)  # this G_ab is no longer needed
    return g.div_(n)
