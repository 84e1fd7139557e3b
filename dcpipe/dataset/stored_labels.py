"""Uncompressed soft labels as targets, of which a few views are in memory at a time.

All labels of ImageNet-1K at 200 images per class are 120 GB. An epoch needs one view of each image, 0.4 GB; the label
store has the labels of up to 16 views of an image next to each other, so as many views are read together as a chunk has
and `READ_BYTES` allow, and the next ones are read in a thread while students train on these.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch

from dcpipe.compression.base import Array
from dcpipe.dataset.targets import targets_of
from dcpipe.types import IntArray, LabelShape, Sliceable, require
from dcpipe.views import Views

READ_BYTES = 2**31  # of the views that are read together, unless one view takes more


def views_at_once(shape: LabelShape, chunk_views: int) -> int:
    """How many views are read together: a divisor of `chunk_views`, so that no read crosses a chunk's border."""
    most = max(1, READ_BYTES // (2 * shape.images * shape.classes))
    return next(n for n in range(min(most, chunk_views), 0, -1) if chunk_views % n == 0)


def memory(shape: LabelShape, chunk_views: int) -> tuple[int, int]:
    """Bytes of main memory and of the device that `StoredLabels` takes: the views that are used and the next ones, and
    those of an epoch."""
    view = 2 * shape.images * shape.classes
    return (2 * views_at_once(shape, chunk_views) + 1) * view, view


class StoredLabels:
    """The labels of a store fp16 [n, K, c], exactly as codec `none` gives them: every image once an epoch, in view
    `epoch mod K`."""

    def __init__(self, logits: Sliceable) -> None:
        shape = LabelShape(*logits.shape)
        require(logits.dtype == np.float16, f"stored labels: logits must be fp16, got {logits.dtype}")
        self.logits, self.shape, self.n_images = logits, shape, shape.images
        chunk = getattr(logits, "chunks", logits.shape)  # an array in memory has none
        self.at_once = views_at_once(shape, chunk[1])
        self._reader = ThreadPoolExecutor(max_workers=1, thread_name_prefix="stored-labels")
        self._read: dict[int, Future[Array]] = {}  # by first view: the current ones and the next

    def plan(self, epoch: int) -> tuple[IntArray, IntArray]:
        """Every image once, in view `epoch mod K`."""
        view = epoch % self.shape.views
        self._request(view)
        return np.arange(self.n_images), np.full(self.n_images, view, dtype=np.int64)

    def locate(self, rows: IntArray, stored: IntArray, drawn: Views) -> Mapping[str, Array]:
        """The labels themselves, fp16 [m, c]."""
        labels = np.empty((len(rows), self.shape.classes), dtype=np.float16)
        for view in np.unique(stored):  # one, if it is as planned
            at = np.flatnonzero(stored == view)
            labels[at] = self._request(int(view)).result()[rows[at], view % self.at_once]
        return {"logits": labels}

    def targets(
        self, located: Mapping[str, torch.Tensor], inputs: torch.Tensor, temperature: float | None
    ) -> torch.Tensor:
        """softmax(logits / T), or the logits."""
        return targets_of(located["logits"].float(), temperature)

    def _request(self, view: int) -> Future[Array]:
        """The labels of the views that are read together with `view`, with those after them on the way. All others are
        forgotten."""
        first = view - view % self.at_once
        after = first + self.at_once
        wanted = (first, after if after < self.shape.views else 0)
        for place in [place for place in self._read if place not in wanted]:
            del self._read[place]
        for place in wanted:
            if place not in self._read:
                self._read[place] = self._reader.submit(self._read_from, place)
        return self._read[first]

    def _read_from(self, first: int) -> Array:
        found: Array = np.asarray(self.logits[:, first : first + self.at_once])
        return found
