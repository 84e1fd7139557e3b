"""Notice when an epoch is drawn twice, because `set_epoch` was forgotten: students would see the same views for ever.

`CondensedLoader` knows where its passes begin. A torch `DataLoader` does not tell a dataset that, nor which process or
which of two loaders asks. So its items are counted, in memory that all processes share, since the last `set_epoch`.
After twice as many as the epoch has, all of it was drawn again. Workers count without a lock, so that a few items may
be missed, and the warning comes a batch later.
"""

from __future__ import annotations

import warnings

import torch

_TOLD = (
    "epoch {epoch} of a condensed dataset was drawn twice without set_epoch, with the same views and labels; call "
    "dataset.set_epoch(epoch) before each pass, also with the same number if that is meant"
)
_CHOICES, _DRAWN, _WARNED = range(3)


class Repeats:
    """How often the epoch of a dataset was set, and how many items were drawn since."""

    def __init__(self) -> None:
        state = torch.zeros(3, dtype=torch.int64)
        self._state: torch.Tensor = state.share_memory_()  # type: ignore[no-untyped-call]  # torch has no annotation

    @property
    def choices(self) -> int:
        """How often the epoch was set."""
        return int(self._state[_CHOICES])

    def restart(self) -> None:
        """The epoch was set."""
        self._state[_CHOICES] += 1
        self._state[_DRAWN] = 0

    def count(self, drawn: int, items: int, epoch: int) -> None:
        """Count some items that were `drawn`, of an epoch that has `items`; warns if all were drawn again."""
        total = int(self._state[_DRAWN]) + drawn
        self._state[_DRAWN] = total
        if 0 < 2 * items <= total:
            self.warn(epoch)

    def warn(self, epoch: int) -> None:
        """Warn, but only once for each dataset."""
        if not self._state[_WARNED]:
            self._state[_WARNED] = 1
            warnings.warn(_TOLD.format(epoch=epoch), stacklevel=3)
