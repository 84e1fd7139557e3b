"""Subsets: the smaller set that is optimised along with the whole one, and the images that are then frozen. MDC's
state.

Idea. Of N condensed images per class, the first n should be a good set as well: S[1] in S[2] in ... in S[N]. To the
matching loss of S[N], MDC adds that of one smaller set, the most learnable subset S[n*] (Eq. 4). It is chosen anew
every `period` = Dt outer loops by how much the distance of its features to the real ones has changed (Eq. 5, 8, 9):

    F_t[n] = | mean f(real) - mean f(S[n]) |^2,   n* = argmax over n < N of |F_t[n] - F_(t - Dt)[n]| / Dt.

When n* has grown, the images of an earlier choice are frozen (Eq. 10): no loss changes them.

Paper: "Multisize Dataset Condensation", He, Xiao, Zhou and Tsang, ICLR 2024. Its text and its official code differ, so
the rules are options; the published numbers come from the code:

* `begin`. `code`: the first outer loop has no subset term, and n* = 1 from the second one on. `paper` (Algorithm 1): n*
  = 1 from the first loop on. Both measure in the first loop, as the code and Table 7 do, and then in every Dt-th one.
* `freeze`. `paper` (Eq. 10): the last n* of another size is frozen if it is smaller. `code`: every n* that was used for
  Dt loops and then replaced counts as finished from then on, and the largest finished one below n* is frozen. With
  `begin="code"` the first n* is used from loop 1 to loop Dt, so it is finished one loop after the first change; the
  code has this lag too. `none`: nothing is frozen (Table 3, row 3).
* `rate`. `absolute` is Eq. 8 and the code (the code does not divide by Dt, which does not change the argmax; Table 7
  divides). `relative`, |F_t - F_(t - Dt)| / F_(t - Dt), is in neither, but is a possible reading of "reduction rate".
  `off`: n* is always 1 and nothing is measured (Table 3, row 2). The code rounds F to two decimals, which can only
  create ties; we do not.

Cost, in the loops that measure: one product of [N, d] with features that matching computes anyway; for the metric
`accuracy`, N - 1 trainings (`accuracies.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch

from dcpipe.types import DataError, FloatArray, IntArray, require

Rate = Literal["absolute", "relative", "off"]
Begin = Literal["code", "paper"]
Freeze = Literal["code", "paper", "none"]
Metric = Literal["feature", "gradient", "accuracy"]

_NEVER = np.iinfo(np.int64).max
_SAVED = ("chosen", "previous", "finished", "measured", "loops", "history")  # in a checkpoint


def _counts(owners: IntArray) -> IntArray:
    """The number of training images of each stored image: i64 [N]."""
    counts = np.bincount(owners)
    lacking = np.flatnonzero(counts == 0)
    require(
        not len(lacking),
        f"subsets: stored image {lacking[:1].tolist()} decodes to no training image; owners must name every image "
        f"from 0 to {len(counts) - 1}",
    )
    return counts


def prefix_weights(owners: IntArray, device: torch.device) -> torch.Tensor:
    """Weights of the means over S[1] .. S[N]: f64 [N, d], row n - 1 is 1 / |S[n]| where an image is in S[n], else 0.

    `owners` i64 [d]: the stored image, 0 .. N - 1, that each of the d training images of a class was decoded from. Then
    S[n] consists of the first n stored images, as in the paper. In the official code it consists of the first n f^2
    decoded images in cell-major order: `owners = arange(d) // f**2`. Raises `DataError` for a stored image without
    training images.
    """
    sizes = np.cumsum(_counts(owners))
    inside = owners[None, :] < np.arange(1, len(sizes) + 1)[:, None]
    return torch.from_numpy(inside / sizes[:, None]).to(device)


def trainable_mask(frozen: IntArray, owners: IntArray, device: torch.device) -> torch.Tensor:
    """Which images may change: f32 [c, d], 0 for the images of S[frozen] of each class and 1 for the others.

    `frozen` i64 [c] as returned by `Subsets.frozen`. `owners` i64 [d] as in `prefix_weights`, or `arange(N)` for a mask
    of stored images.
    """
    return torch.from_numpy(owners[None, :] >= frozen[:, None]).to(device, torch.float32)


@dataclass(frozen=True, eq=False)
class Measurements:
    """What is measured in a loop for the subsets of c classes; each metric uses the fields that it needs.

    `real` [c, m, ...] and `synthetic` [c, d, ...]: feature maps of the last block, of real and of decoded images, with
    `weights` [N, d] of `prefix_weights`. `gradients` [N, c]: distance between the class gradients of S[n] and of the
    real images. `accuracies` [c, N]: accuracy in 0..1, on some real images of each class, of a network trained on S[n].
    """

    real: torch.Tensor | None = None
    synthetic: torch.Tensor | None = None
    weights: torch.Tensor | None = None
    gradients: torch.Tensor | None = None
    accuracies: torch.Tensor | None = None


def feature_distances(measured: Measurements) -> torch.Tensor:
    """Squared distance of the mean feature maps (Eq. 5; neither normalised nor divided by their size): f64 [c, N].

    In float64 on the device, because changes of these numbers are compared.
    """
    real = _needed("feature", "real", measured.real).detach().flatten(2)
    synthetic = _needed("feature", "synthetic", measured.synthetic).detach().flatten(2)
    weights = _needed("feature", "weights", measured.weights)
    means = weights @ synthetic.double()
    return (means - real.mean(1, keepdim=True, dtype=torch.float64)).square().sum(2)


def gradient_distances(measured: Measurements) -> torch.Tensor:
    """Distance of the gradients (Table 5, row 2): f64 [c, N]."""
    return _needed("gradient", "gradients", measured.gradients).detach().T.double()


def errors(measured: Measurements) -> torch.Tensor:
    """1 - accuracy, whose change is the accuracy difference (Table 5, row 3): f64 [c, N]."""
    return 1 - _needed("accuracy", "accuracies", measured.accuracies).detach().double()


METRICS: dict[str, Callable[[Measurements], torch.Tensor]] = {
    "feature": feature_distances,
    "gradient": gradient_distances,
    "accuracy": errors,
}


def _needed(metric: str, name: str, value: torch.Tensor | None) -> torch.Tensor:
    if value is None:
        raise DataError(f"subsets: metric {metric!r} needs {name}, which are not given; pass Measurements({name}=...)")
    return value


@dataclass(frozen=True)
class Rules:
    """How subsets are chosen and frozen; see the docstring of the module.

    `period`: Dt, outer loops between measurements (official: 100, 50 for ImageNet). `class_wise`: n* is chosen for each
    class separately (Sec. B.6); otherwise all classes share the choice by their mean distance.
    """

    ipc: int
    n_classes: int
    period: int = 100
    rate: Rate = "absolute"
    begin: Begin = "paper"
    freeze: Freeze = "paper"
    class_wise: bool = False

    def __post_init__(self) -> None:
        require(
            self.ipc >= 2,
            f"subsets: ipc must be at least 2, got {self.ipc}; a single image has no smaller set, use plain IDC",
        )
        require(self.n_classes >= 1, f"subsets: n_classes must be at least 1, got {self.n_classes}")

    def measures(self, loop: int) -> bool:
        """Whether `Subsets.after` needs the distances of outer loop `loop`, counted from 0."""
        return self.rate != "off" and (loop == 0 or (loop + 1) % self.period == 0)


@dataclass(frozen=True, eq=False)
class Subsets:
    """The current choice for every class, and the earlier ones. Immutable: `after` and `entered` return the next state.

    `chosen` i64 [c]: n*, from outer loop `since` on. `previous` i64 [c]: the last n* of another size, 0 at first.
    `finished` i64 [c, N - 1]: the outer loop from which n* = column + 1 counts as finished. `measured` f64 [times,
    rows, N - 1]: the distances of every measurement, one row per class if `class_wise`, otherwise one row; `loops` i64
    [times]: the outer loops that they were measured in (paper, Table 7). `history` i64 [changes, 3, c]: the outer loops
    in which n* or the number of frozen images changed, with both new values (paper, Fig. 5).
    """

    rules: Rules
    chosen: IntArray
    previous: IntArray
    finished: IntArray
    since: int
    measured: FloatArray
    loops: IntArray
    history: IntArray

    @classmethod
    def begin(cls, rules: Rules) -> Subsets:
        """The state before outer loop 0."""
        c, n = rules.n_classes, rules.ipc - 1
        ones, zeros = np.ones(c, dtype=np.int64), np.zeros(c, dtype=np.int64)
        since, none = 1 if rules.begin == "code" else 0, np.empty((0, 3, c), dtype=np.int64)
        rows = c if rules.class_wise else 1
        unmeasured = np.empty((0, rows, n)), np.empty(0, dtype=np.int64)
        return cls(rules, ones, zeros, np.full((c, n), _NEVER), since, *unmeasured, none)

    def sizes(self, loop: int) -> IntArray:
        """n* of each class in outer loop `loop`, i64 [c]; 0 if the loss has no subset term."""
        return self.chosen if loop >= self.since else np.zeros_like(self.chosen)

    def frozen(self, loop: int) -> IntArray:
        """The number of frozen images of each class in outer loop `loop`: i64 [c], less than n*."""
        if self.rules.freeze == "none":
            return np.zeros_like(self.chosen)
        if self.rules.freeze == "paper":
            return np.where(self.previous < self.chosen, self.previous, 0)
        sizes = np.arange(1, self.rules.ipc)
        done = (self.finished <= loop) & (sizes < self.chosen[:, None])
        largest: IntArray = np.where(done, sizes, 0).max(axis=1)
        return largest

    def after(self, loop: int, distances: torch.Tensor) -> Subsets:
        """The state after outer loop `loop`, for which `Rules.measures` is true. `distances` [c, N] are those of a
        metric, as the mean over the inner steps. Ties go to the smaller set. The whole set, column N, is not a
        candidate and is ignored.

        Raises `DataError` for a loop that does not measure, another shape, and distances that are not finite.
        """
        rules = self.rules
        require(
            rules.measures(loop),
            f"subsets: outer loop {loop} does not measure with rate {rules.rate!r} and period {rules.period}; check "
            "Rules.measures first",
        )
        now = self._checked(loop, distances)
        added = replace(self, measured=np.concatenate([self.measured, now[None]]), loops=np.append(self.loops, loop))
        if not len(self.measured):
            return added
        last = self.measured[-1]
        change = np.abs(now - last)
        if rules.rate == "relative":
            growth = np.where(change > 0, np.inf, 0.0)  # for a distance that was 0
            change = np.divide(change, np.abs(last), out=growth, where=last != 0)
        chosen = np.broadcast_to(change.argmax(axis=1) + 1, self.chosen.shape).astype(np.int64)
        given_up = chosen != self.chosen
        finished = self.finished.copy()
        finished[given_up, self.chosen[given_up] - 1] = self.since + rules.period
        previous = np.where(given_up, self.chosen, self.previous)
        return replace(added, chosen=chosen, previous=previous, finished=finished, since=loop + 1)

    def entered(self, loop: int) -> Subsets:
        """The state in outer loop `loop`, added to `history` if it is new. Must be called for all loops in order."""
        now = np.stack([np.full_like(self.chosen, loop), self.sizes(loop), self.frozen(loop)])
        if len(self.history) and np.array_equal(self.history[-1, 1:], now[1:]):
            return self
        return replace(self, history=np.concatenate([self.history, now[None]]))

    def rows(self, loop: int) -> list[dict[str, int]]:
        """The record up to outer loop `loop`, the latest one: a row for each change of state, including the first
        state, and one for `loop` itself, which shows how long the last state has lasted. `class` is -1 if all classes
        share one choice."""
        changes = [(int(then[0, 0]), then[1], then[2]) for then in self.history]
        if changes and changes[-1][0] < loop:
            changes.append((loop, *changes[-1][1:]))
        # If all classes share one choice, -1 reads that of the last one.
        names = range(self.rules.n_classes) if self.rules.class_wise else (-1,)
        return [
            {"loop": first, "class": name, "subset": int(sizes[name]), "frozen": int(frozen[name])}
            for first, sizes, frozen in changes
            for name in names
        ]

    def distance_rows(self) -> list[dict[str, float]]:
        """The record of all measurements: a row for each outer loop, class and candidate of n images per class, with
        its distance in six digits, since the last ones depend on the machine. `class` is -1 if all classes share one
        choice."""
        names = range(self.rules.n_classes) if self.rules.class_wise else (-1,)
        return [
            {"loop": int(loop), "class": name, "size": n, "distance": float(f"{distance:.6g}")}
            for loop, found in zip(self.loops, self.measured, strict=True)
            for name, by_size in zip(names, found, strict=True)
            for n, distance in enumerate(by_size.tolist(), 1)
        ]

    def _checked(self, loop: int, distances: torch.Tensor) -> FloatArray:
        """Distances of the candidates, f64 [c, N - 1], or [1, N - 1] as the mean over all classes."""
        expected = (self.rules.n_classes, self.rules.ipc)
        require(
            tuple(distances.shape) == expected,
            f"subsets: distances must be [classes, images per class] = {list(expected)}, got {list(distances.shape)}",
        )
        # A copy, because the caller may continue to add to its own tensor.
        found: FloatArray = distances.detach().to("cpu", torch.float64, copy=True).numpy()[:, :-1]
        bad = np.argwhere(~np.isfinite(found))
        if len(bad):
            label, column = bad[0].tolist()
            raise DataError(
                f"subsets: the distance of class {label}, n = {column + 1} is {found[label, column]} in outer loop "
                f"{loop}; lower the learning rate of the images or the network"
            )
        return found if self.rules.class_wise else found.mean(axis=0, keepdims=True)

    def state(self) -> dict[str, torch.Tensor]:
        """The contents of a checkpoint."""
        arrays = {name: getattr(self, name) for name in _SAVED}
        kept = {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}
        return kept | {"since": torch.tensor(self.since)}

    @classmethod
    def resume(cls, rules: Rules, state: Mapping[str, torch.Tensor]) -> Subsets:
        """The state of a checkpoint. Raises `DataError` if it has another number of classes or images."""
        arrays = {name: state[name].to("cpu", copy=True).numpy() for name in _SAVED}
        expected, found = [rules.n_classes, rules.ipc - 1], list(arrays["finished"].shape)
        require(
            found == expected,
            f"subsets: the checkpoint has [classes, subsets] = {found}, but the rules need {expected}; start a new run",
        )
        return cls(rules=rules, since=int(state["since"]), **arrays)
