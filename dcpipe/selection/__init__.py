"""Selection: which images of each class the condensed set is made of. One file a selector, one line in `SELECTORS`.

A selector is a pure function `(candidates, ipc, seed, watch, **options) -> Picks`. It sees candidates grouped by
class, one class at a time, so the features of ImageNet-1K stay memory-mapped. It returns rows in rounds of one image
a class: the first `k * c` picks are the condensed set of `k` images per class.
"""

from __future__ import annotations

from collections.abc import Callable

from dcpipe.selection.random import random
from dcpipe.selection.score import score
from dcpipe.selection.seam import Candidates, Picks, Watch, by_label

__all__ = ["SELECTORS", "Candidates", "Picks", "Watch", "by_label"]

SELECTORS: dict[str, Callable[..., Picks]] = {
    "random": random,
    "score": score,
}
