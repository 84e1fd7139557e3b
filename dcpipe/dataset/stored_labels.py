"""Uncompressed soft labels as targets, of which a few views are in memory at a time.

All labels of ImageNet-1K at 200 images per class are 120 GB. An epoch needs one view of each image, 0.4 GB; the label
store has the labels of up to 16 views of an image next to each other, so as many views are read together as a chunk has
and `READ_BYTES` allow, and the next ones are read in a thread while students train on these.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
import torch

from dcpipe import views
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
    `epoch mod K`. The labels of one view are on the device."""

    def __init__(self, logits: Sliceable, device: torch.device) -> None:
        shape = LabelShape(*logits.shape)
        require(logits.dtype == np.float16, f"stored labels: logits must be fp16, got {logits.dtype}")
        self.logits, self.shape, self.device, self.n_images = logits, shape, device, shape.images
        chunk = getattr(logits, "chunks", logits.shape)  # an array in memory has none
        self.at_once = views_at_once(shape, chunk[1])
        self._reader = ThreadPoolExecutor(max_workers=1, thread_name_prefix="stored-labels")
        self._read: dict[int, Future[npt.NDArray[np.float16]]] = {}  # by first view: the current ones and the next
        self._view, self._on_device = -1, torch.empty(0)

    def plan(self, epoch: int) -> tuple[IntArray, IntArray]:
        """Every image once, in view `epoch mod K`."""
        view = epoch % self.shape.views
        self._request(view)
        return np.arange(self.n_images), np.full(self.n_images, view, dtype=np.int64)

    def targets(
        self, rows: IntArray, stored: IntArray, drawn: Views, inputs: torch.Tensor, temperature: float | None
    ) -> torch.Tensor:
        """softmax(logits / T), or the logits."""
        wanted = np.unique(stored)
        if len(wanted) == 1:  # as planned
            return targets_of(views.take(self._labels(int(wanted[0])), rows).float(), temperature)
        logits = torch.empty(len(rows), self.shape.classes, device=self.device)
        for view in wanted:
            at = np.flatnonzero(stored == view)
            logits[torch.from_numpy(at).to(self.device)] = views.take(self._labels(int(view)), rows[at]).float()
        return targets_of(logits, temperature)

    def _labels(self, view: int) -> torch.Tensor:
        """The labels of a view, fp16 [n, c] on the device."""
        if view != self._view:
            together = self._request(view).result()
            labels = np.ascontiguousarray(together[:, view % self.at_once])
            self._view, self._on_device = view, torch.from_numpy(labels).to(self.device)
        return self._on_device

    def _request(self, view: int) -> Future[npt.NDArray[np.float16]]:
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

    def _read_from(self, first: int) -> npt.NDArray[np.float16]:
        found: npt.NDArray[np.float16] = np.asarray(self.logits[:, first : first + self.at_once])
        return found
