"""Selection: which images of each class the condensed set is made of. One file a selector, one line in `SELECTORS`.

A selector is a pure function `(candidates, ipc, seed, progress, **options) -> Picks`. It sees candidates grouped by
class, one class at a time, so the features of ImageNet-1K stay memory-mapped. It returns rows in rounds of one image
a class: the first `k * c` picks are the condensed set of `k` images per class.
"""

from __future__ import annotations

from collections.abc import Callable

from dcpipe.selection.badge import badge
from dcpipe.selection.bait import bait
from dcpipe.selection.base import Candidates, Picks, Progress, class_by_class, unit
from dcpipe.selection.candidates import candidates_of, candidates_without_features
from dcpipe.selection.gradmatch import gradmatch
from dcpipe.selection.herding import herding
from dcpipe.selection.k_center import k_center
from dcpipe.selection.random import random
from dcpipe.selection.score import score
from dcpipe.selection.uncertainty import el2n, entropy, least_confidence, margin

__all__ = [
    "SELECTORS",
    "USES_SEED",
    "Candidates",
    "Picks",
    "Progress",
    "candidates_of",
    "candidates_without_features",
    "class_by_class",
    "unit",
]

SELECTORS: dict[str, Callable[..., Picks]] = {
    "random": random,
    "score": score,
    "herding": herding,
    "k_center": k_center,
    "gradmatch": gradmatch,
    "badge": badge,
    "bait": bait,
    "least_confidence": least_confidence,
    "margin": margin,
    "entropy": entropy,
    "el2n": el2n,
}

# Selectors whose picks depend on the seed; the others pick the same whatever it is, so a study asks them once.
USES_SEED = frozenset({"random", "k_center", "gradmatch", "badge"})
