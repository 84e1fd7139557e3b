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
    wanted, sizes = candidates.wanted(ipc), np.diff(candidates.offsets)
    rows = np.zeros((ipc, candidates.n_classes), dtype=np.int64)
    for label, n in enumerate(wanted.tolist()):
        shuffled = permutation(seed, Stream.CLASS_PICKS + label, int(sizes[label]))
        rows[:n, label] = shuffled[:n] + candidates.offsets[label]
    picked = np.arange(ipc)[:, None] < wanted
    picks = Picks(rows[picked], np.zeros(int(picked.sum())))
    for end in picked.sum(axis=1).cumsum().tolist():
        progress.report(Picks(picks.rows[:end], picks.gains[:end]))
    return picks
