"""Selection: which images of each class form the condensed set. Each selector has one file and one line in `SELECTORS`.

A selector is a pure function `(candidates, ipc, seed, progress, **options) -> Picks`. It reads candidates grouped by
class, one class at a time, so the features of ImageNet-1K can stay memory-mapped. It returns rows in rounds of one
image per class: the first `k * c` picks are the condensed set of `k` images per class.
"""

from __future__ import annotations

from collections.abc import Callable

from dcpipe.config.registry import Registry
from dcpipe.selection.base import Candidates, Picks, Progress, class_by_class, unit
from dcpipe.selection.candidates import candidates_of, candidates_without_features

__all__ = [
    "JOINT",
    "SELECTORS",
    "USES_LOGITS",
    "USES_SEED",
    "Candidates",
    "Picks",
    "Progress",
    "allows_small_classes",
    "candidates_of",
    "candidates_without_features",
    "class_by_class",
    "unit",
    "uses_logits",
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
        "facility_location": "dcpipe.selection.facility_location:facility_location",
        "graph_cut": "dcpipe.selection.graph_cut:graph_cut",
        "craig": "dcpipe.selection.craig:craig",
        "gradmatch": "dcpipe.selection.gradmatch:gradmatch",
        "glister": "dcpipe.selection.glister:glister",
        "badge": "dcpipe.selection.badge:badge",
        "bait": "dcpipe.selection.bait:bait",
        "contextual_diversity": "dcpipe.selection.contextual_diversity:contextual_diversity",
        "cal": "dcpipe.selection.cal:cal",
        "least_confidence": "dcpipe.selection.uncertainty:least_confidence",
        "margin": "dcpipe.selection.uncertainty:margin",
        "entropy": "dcpipe.selection.uncertainty:entropy",
        "el2n": "dcpipe.selection.uncertainty:el2n",
        "grand": "dcpipe.selection.grand:grand",
    },
    ("candidates", "ipc", "seed", "progress"),
)

# The built-in selectors whose picks depend on the seed.
USES_SEED = frozenset({"random", "k_center", "gradmatch", "badge"})


def uses_seed(name: str) -> bool:
    """Whether the picks of a selector may depend on the seed. If they cannot, a study selects once for all seeds. A
    selector of another package is assumed to depend on it."""
    return name in USES_SEED or name not in SELECTORS.builtin


# The built-in selectors that choose in all classes together, so that none of these may have fewer images than others.
JOINT = frozenset({"score", "bait"})


def allows_small_classes(name: str) -> bool:
    """Whether a selector may give fewer images of small classes. A selector of another package is assumed to, if it
    takes what `Candidates.wanted` says."""
    return name not in JOINT


# The built-in selectors that look at the teacher's logits; for the others, these are neither sorted nor checked.
USES_LOGITS = frozenset(
    {"craig", "gradmatch", "glister", "badge", "bait", "contextual_diversity", "cal"}
    | {"least_confidence", "margin", "entropy", "el2n", "grand"}
)


def uses_logits(name: str) -> bool:
    """Whether a selector may look at logits. A selector of another package is assumed to."""
    return name in USES_LOGITS or name not in SELECTORS.builtin
