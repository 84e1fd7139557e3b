"""Random: `ipc` images of every class, drawn without replacement. The baseline that every selector must beat.

Idea: each class is shuffled once and its first `ipc` rows are taken, so the picks of a smaller `ipc` are a prefix of
those of a larger one. Cost: one sort per class. The order comes from the counter-based generator of `dcpipe.random`
(Philox, key (seed, class)), not from NumPy's, whose shuffles may change between versions. So a seed always gives the
same images.
"""

from __future__ import annotations

import numpy as np

from dcpipe.random import Stream, permutation
from dcpipe.selection.base import Candidates, Picks, Progress


def random(candidates: Candidates, ipc: int, seed: int, progress: Progress) -> Picks:
    """Rows i64 [ipc * c] in rounds of one image per class; gains are 0, because random picks maximise nothing.

    `progress.earlier` is not used, because picking again is cheaper than checking. Raises `DataError` if a class has
    fewer than `ipc` images.
    """
    candidates.check_ipc(ipc)
    sizes = np.diff(candidates.offsets)
    shuffled = [permutation(seed, Stream.CLASS_PICKS + label, int(size))[:ipc] for label, size in enumerate(sizes)]
    rows = (np.stack(shuffled, axis=1) + candidates.offsets[:-1]).reshape(-1)
    gains = np.zeros(len(rows))
    for end in range(len(sizes), len(rows) + 1, len(sizes)):
        progress.report(Picks(rows[:end], gains[:end]))
    return Picks(rows, gains)
