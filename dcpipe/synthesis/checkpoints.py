"""The notes of a recovery: the images of finished batches, and the state of batches that are not finished.

Each batch has files of its own, because batches may be recovered in any order and by several processes, and because the
whole set may be far larger than a batch: at 224 pixels and 50 images per class, ImageNet-1K has 7.5 GB of u8 images,
and a batch of 80 has 0.2 GB with the state of Adam. Notes of another run (other choices, images or teachers) or of
another version are ignored, and the batch begins anew.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from dcpipe.store.files import replacing
from dcpipe.types import ImageSet, IntArray, Teacher, require

START, IDS = "recovery-start.pt", "recovery-ids.pt"
Images = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class RecoveryNotes:
    """A folder, and the fingerprint of the run that its files must belong to."""

    folder: Path
    run: str

    def finished(self, number: int) -> Images | None:
        """The images u8 [m, s, s, 3] of a batch that is finished, else None. They are read from disk when they are
        used."""
        saved = self._read(_finished(number), mapped=True)
        return None if saved is None else _array(saved["images"])

    def missing(self, count: int) -> list[int]:
        """Which of so many batches are not finished."""
        # A list of the folder, because a shared file system may remember for a while that a name was not there.
        names = {path.name for path in self.folder.iterdir()}
        return [n for n in range(count) if _finished(n) not in names or self.finished(n) is None]

    def terms(self, number: int) -> torch.Tensor:
        """The terms of the loss f32 [steps, terms] of a batch that is finished."""
        saved = self._read(_finished(number))
        assert saved is not None
        terms: torch.Tensor = saved["terms"]
        return terms

    def finish(self, number: int, images: Images, terms: torch.Tensor) -> None:
        """Save the images of a batch, and the terms of its loss f32 [steps, terms], and remove its checkpoint."""
        self._write(_finished(number), images=torch.from_numpy(images), terms=terms.cpu())
        (self.folder / checkpoint_of(number)).unlink(missing_ok=True)

    def save(self, number: int, state: Mapping[str, Any]) -> None:
        """Write the checkpoint of a batch."""
        self._write(checkpoint_of(number), state=state)

    def load(self, number: int) -> Mapping[str, Any] | None:
        """The state in the checkpoint of a batch; None if there is none of this run."""
        saved = self._read(checkpoint_of(number))
        return None if saved is None else dict(saved["state"])

    def once(self, make: Callable[[], ImageSet]) -> Images:
        """The images u8 [n, s, s, 3] that recovery starts from if they take long to make; loaded if they were saved."""
        saved = self._read(START, mapped=True)  # a worker needs those of its batch
        if saved is None:
            saved = {"images": torch.from_numpy(make().images)}
            self._write(START, **saved)
        return _array(saved["images"])

    def save_ids(self, ids: IntArray) -> None:
        """Save the ids i64 [n] of the set for other processes, which read its images from the table."""
        self._write(IDS, ids=torch.from_numpy(ids))

    def ids(self) -> IntArray:
        """What `save_ids` saved. Raises `DataError` if it is gone."""
        saved = self._read(IDS)
        require(saved is not None, f"{self.folder / IDS} was removed while images were recovered; run the stage again")
        assert saved is not None
        ids: IntArray = saved["ids"].numpy()
        return ids

    def _write(self, name: str, **content: Any) -> None:
        with replacing(self.folder / name) as partial:
            torch.save({"run": self.run, **content}, partial)

    def _read(self, name: str, mapped: bool = False) -> dict[str, Any] | None:
        """The content of a file of this run, which remains on disk until it is used if it is `mapped`."""
        path = self.folder / name
        if not path.exists():
            return None
        # Not directly to the device: Adam keeps its step count in main memory, and reading it from the device would
        # block.
        content: dict[str, Any] = torch.load(str(path), map_location="cpu", weights_only=True, mmap=mapped)
        return content if content.get("run") == self.run else None


def checkpoint_of(number: int) -> str:
    """The name of the checkpoint of a batch."""
    return f"recovery-{number:05d}-open.pt"


def _finished(number: int) -> str:
    return f"recovery-{number:05d}.pt"


def _array(images: torch.Tensor) -> Images:
    array: Images = images.numpy()
    return array


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
