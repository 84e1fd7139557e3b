"""Statistics of real images at the layers of all observers, computed in one pass over the images.

Only sums per class, of the images' means m and of v + m^2 (see `observers.py`), are accumulated. Means and variances of
classes and of the whole set follow from them exactly, for any division of the images into batches:

    mean = sum m / n,    variance = sum (v + m^2) / n - mean^2    ("total": over all pixels).

For its class statistics EDC's official code averages the variances of single images instead, which leaves out the
variance between images: `variance="within"`, sum v / n. The variance of the whole set includes that between images in
both cases. (The official code averages the variances of training batches, so its result is slightly smaller and depends
on batch size and order.) It uses augmented training images, one view of each; here images are not augmented.

The pass is one piece of work, not a shard per part: sums of parts that are added up afterwards are rounded differently
from sums that go on from part to part, and images that are recovered from them would no longer be the same.

Memory: 16 bytes per class and entry of each observer during the pass (two sums in float64), 8 bytes in the result
(float32), and one batch and one part of the images, whatever their number. EDC's five ImageNet networks have 101,548
entries: for 1,000 classes 1.6 GB in the pass, 0.8 GB afterwards.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from dcpipe.store.files import replacing
from dcpipe.synthesis.observers import Observer
from dcpipe.types import DataError, IntArray, require

Variance = Literal["total", "within"]
Parts = Callable[[], Iterator[tuple[npt.NDArray[np.uint8], IntArray]]]


@dataclass(frozen=True, eq=False)
class Statistics:
    """Statistics of the entries of one observer on real images: `mean`, `variance` f32 [entries] over all images;
    `class_mean`, `class_variance` f32 [n_classes, entries]; `counts` i64 [n_classes], the number of images of each
    class. `variance` is always over all pixels; `class_variance` depends on the option of `collect`."""

    mean: torch.Tensor
    variance: torch.Tensor
    class_mean: torch.Tensor
    class_variance: torch.Tensor
    counts: torch.Tensor


NAMES = tuple(field.name for field in fields(Statistics))


class _Sums:
    """Sums for one observer: per class, f64 [n_classes, entries], of means and of v or v + m^2; over all images, f64
    [entries], of v + m^2 if the sums per class are of v."""

    def __init__(self, observer: Observer, n_classes: int, variance: Variance) -> None:
        self.observer, self.total = observer, variance == "total"
        shape = (n_classes, observer.entries)
        self.first, self.second = (torch.zeros(shape, dtype=torch.float64, device=observer.device) for _ in range(2))
        self.whole = torch.zeros(observer.entries, dtype=torch.float64, device=observer.device)

    def add(self, inputs: torch.Tensor, labels: torch.Tensor) -> None:
        """Inputs f32 [m, 3, s, s] in [0, 1] of classes `labels` i64 [m]."""
        _, means, variances = self.observer.measure(inputs.to(self.observer.device))
        labels, means, variances = labels.to(self.observer.device), means.double(), variances.double()
        self.first.index_add_(0, labels, means)
        if not self.total:
            self.second.index_add_(0, labels, variances)
        squares = variances.addcmul_(means, means)
        if self.total:
            self.second.index_add_(0, labels, squares)
        else:
            self.whole += squares.sum(0)

    def finish(self, counts: torch.Tensor) -> Statistics:
        """Convert the sums to statistics in place, so nothing can be added later. Raises `DataError` for NaN or
        infinity."""
        counts = counts.to(self.observer.device)
        self._check()
        n = counts.double()
        mean = self.first.sum(0) / n.sum()
        variance = _central((self.second.sum(0) if self.total else self.whole) / n.sum(), mean)
        class_mean, class_variance = self.first.div_(n[:, None]), self.second.div_(n[:, None])
        if self.total:
            class_variance = _central(class_variance, class_mean)
        return Statistics(mean.float(), variance.float(), class_mean.float(), class_variance.float(), counts)

    def _check(self) -> None:
        sound = (torch.isfinite(self.first.sum(0)) & torch.isfinite(self.second.sum(0))).cpu()
        bad = [part.layer for part in self.observer.segments if not sound[part.start : part.stop].all()]
        require(
            not bad,
            f"statistics: observer {self.observer.name!r} gives NaN or infinity at the input of layer "
            f"{bad[0] if bad else ''!r}; train it again or leave it out",
        )


def _central(squares: torch.Tensor, mean: torch.Tensor) -> torch.Tensor:
    """The variance, from the mean of v + m^2, which is overwritten, and that of m."""
    return squares.addcmul_(mean, mean, value=-1).clamp_(min=0)


@torch.no_grad()
def collect(
    observers: Mapping[str, Observer],
    real: Parts,
    n_classes: int,
    *,
    batch_size: int = 256,
    variance: Variance = "total",
    report: Callable[[int], None] = lambda done: None,
) -> dict[str, Statistics]:
    """Statistics of every observer on the real images, which come in parts of u8 [m, s, s, 3] with labels i64 [m].

    `variance`: whether class variances are those of all pixels of the class (`total`) or the mean of the variances of
    its images (`within`). `report(done)` is called after each batch with the number of images processed so far. Raises
    `DataError` for a class without images and for numbers that are not finite.
    """
    valid = " or ".join(get_args(Variance))
    require(variance in get_args(Variance), f"statistics: variance must be {valid}, got {variance!r}")
    require(batch_size >= 1, f"statistics: batch_size must be at least 1, got {batch_size}")
    sums = {name: _Sums(observer, n_classes, variance) for name, observer in observers.items()}
    device = next(iter(observers.values())).device
    counts, done = np.zeros(n_classes, dtype=np.int64), 0
    for images, labels in real():
        inside = len(labels) == 0 or (int(labels.min()) >= 0 and int(labels.max()) < n_classes)
        require(inside, f"statistics: a label of the real images is outside 0..{n_classes - 1}; check the class list")
        counts += np.bincount(labels, minlength=n_classes)
        for start in range(0, len(images), batch_size):
            batch = slice(start, start + batch_size)
            inputs = torch.from_numpy(images[batch]).to(device).permute(0, 3, 1, 2).to(torch.float32).div_(255.0)
            classes = torch.from_numpy(labels[batch]).to(device)
            for part in sums.values():
                part.add(inputs, classes)
            done += len(inputs)
            report(done)
    empty = np.flatnonzero(counts == 0)
    lacking = f"class {empty[0]} has no images" if len(empty) else ""
    require(not lacking, f"statistics: {lacking} among the {done} real ones; add some or leave the class out")
    # Popped, so that the sums of one observer are freed before the result of the next one is computed.
    return {name: sums.pop(name).finish(torch.from_numpy(counts.copy())) for name in observers}


def save(path: Path, found: Mapping[str, Statistics]) -> None:
    """Write one safetensors file of tensors `OBSERVER/NAME` with a digest of all bytes, atomically."""
    tensors = {
        f"{observer}/{name}": getattr(statistics, name).cpu().contiguous()
        for observer, statistics in found.items()
        for name in NAMES
    }
    with replacing(path) as partial:
        save_file(tensors, partial, metadata={"sha256": _digest(tensors)})


def load(path: Path, device: torch.device) -> dict[str, Statistics]:
    """The statistics that `save` wrote, sorted by name. Raises `DataError` for a missing, damaged or different file."""
    try:
        with safe_open(path, framework="pt") as stream:
            names, expected = list(stream.keys()), (stream.metadata() or {}).get("sha256")
            tensors = {name: stream.get_tensor(name) for name in names}
    except (SafetensorError, OSError) as error:
        raise DataError(f"statistics {path} cannot be read ({error}); remove the file and run again") from error
    observers = sorted({name.rpartition("/")[0] for name in names})
    whole = set(names) == {f"{observer}/{name}" for observer in observers for name in NAMES}
    sound = whole and _digest(tensors) == expected
    require(sound, f"statistics {path} are damaged (their digest differs); remove the file and run again")
    return {o: Statistics(*(tensors[f"{o}/{name}"].to(device) for name in NAMES)) for o in observers}


def _digest(tensors: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 of names, shapes and bytes."""
    whole = hashlib.sha256()
    for name in sorted(tensors):
        whole.update(f"{name} {list(tensors[name].shape)} {tensors[name].dtype}\n".encode())
        whole.update(tensors[name].numpy().data)
    return whole.hexdigest()
