"""Selection: which images of each class the condensed set is made of. One file a selector, one line in `SELECTORS`.

A selector is a pure function `(candidates, ipc, seed, progress, **options) -> Picks`. It sees candidates grouped by
class, one class at a time, so the features of ImageNet-1K stay memory-mapped. It returns rows in rounds of one image
a class: the first `k * c` picks are the condensed set of `k` images per class.
"""

from __future__ import annotations

from collections.abc import Callable

from dcpipe.config.registry import Registry
from dcpipe.selection.base import Candidates, Picks, Progress, class_by_class, unit
from dcpipe.selection.candidates import candidates_of, candidates_without_features

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
    "uses_seed",
]

SELECTORS: Registry[Callable[..., Picks]] = Registry(
    "selector",
    "dcpipe.selectors",
    {
        "random": "dcpipe.selection.random:random",
        "score": "dcpipe.selection.score:score",
        "herding": "dcpipe.selection.herding:herding",
        "k_center": "dcpipe.selection.k_center:k_center",
        "gradmatch": "dcpipe.selection.gradmatch:gradmatch",
        "badge": "dcpipe.selection.badge:badge",
        "bait": "dcpipe.selection.bait:bait",
        "least_confidence": "dcpipe.selection.uncertainty:least_confidence",
        "margin": "dcpipe.selection.uncertainty:margin",
        "entropy": "dcpipe.selection.uncertainty:entropy",
        "el2n": "dcpipe.selection.uncertainty:el2n",
    },
    ("candidates", "ipc", "seed", "progress"),
)

# Of dcpipe's own selectors, those whose picks depend on the seed.
USES_SEED = frozenset({"random", "k_center", "gradmatch", "badge"})


def uses_seed(name: str) -> bool:
    """Whether a selector's picks may depend on the seed; where they cannot, a study selects once for all seeds. Nothing
    is known of another package's selector, so that it counts as one that draws."""
    return name in USES_SEED or name not in SELECTORS.builtin
