"""The notes of a recovery: what it has finished, written once, and the batch that it is working on.

A checkpoint contains only the current batch, because the whole set may be far larger: at 224 pixels and 50 images per
class, ImageNet-1K has 7.5 GB of u8 images, and a batch of 80 has 0.2 GB with the state of Adam. Notes of another run
(other choices, images or teachers) or of another version are ignored, and the run begins anew.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from dcpipe.store.files import replacing
from dcpipe.types import ImageSet, Teacher

CHECKPOINT = "recovery.pt"
START = "recovery-start.pt"
Images = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Checkpoint:
    """The number of the current batch, its state, and the images u8 [m, s, s, 3] of the batches before it."""

    number: int
    state: Mapping[str, Any]
    finished: list[Images]


@dataclass(frozen=True)
class RecoveryNotes:
    """A folder, and the fingerprint of the run that its files must belong to."""

    folder: Path
    run: str

    def save(self, number: int, state: Mapping[str, Any], finished: Iterable[tuple[int, Images]]) -> None:
        """Write a checkpoint of batch `number`. `finished`: the number and the images of each batch that was finished
        since the last checkpoint; they are written first, so that a checkpoint never lacks any."""
        for place, images in finished:
            self._write(_finished(place), images=torch.from_numpy(images))
        self._write(CHECKPOINT, batch=number, state=state)

    def load(self) -> Checkpoint | None:
        """The last checkpoint; None if there is none of this run."""
        last = self._read(CHECKPOINT)
        if last is None:
            return None
        finished = [self._read(_finished(place)) for place in range(last["batch"])]
        if any(batch is None for batch in finished):
            return None
        return Checkpoint(last["batch"], last["state"], [batch["images"].numpy() for batch in finished if batch])

    def once(self, make: Callable[[], ImageSet]) -> Images:
        """The images u8 [n, s, s, 3] that recovery starts from if they take long to make; loaded if they were saved."""
        saved = self._read(START)
        if saved is None:
            saved = {"images": torch.from_numpy(make().images)}
            self._write(START, **saved)
        images: Images = saved["images"].numpy()
        return images

    def _write(self, name: str, **content: Any) -> None:
        with replacing(self.folder / name) as partial:
            torch.save({"run": self.run, **content}, partial)

    def _read(self, name: str) -> dict[str, Any] | None:
        path = self.folder / name
        if not path.exists():
            return None
        # Not directly to the device: Adam keeps its step count in main memory, and reading it from the device would
        # block.
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        return content if content.get("run") == self.run else None


def _finished(number: int) -> str:
    return f"recovery-{number:05d}.pt"


def fingerprint(settings: Sequence[Any], start: ImageSet, labels: npt.NDArray[Any], teachers: Sequence[Teacher]) -> str:
    """A digest of what a recovery is a function of: settings, the set that it starts from, the labels of the real
    images and the observers."""
    whole = hashlib.sha256(repr((settings, start.classes, start.images.shape)).encode())
    for array in (start.images, start.labels, start.ids, labels):
        whole.update(np.ascontiguousarray(array).data)
    for teacher in teachers:
        whole.update(repr((teacher.network, teacher.mean, teacher.std, sorted(teacher.weights))).encode())
        for name in sorted(teacher.weights):
            whole.update(teacher.weights[name].detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return whole.hexdigest()
