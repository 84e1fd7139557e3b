"""The sections of `benchmarks/labels.py`, one file each, and what they share: a clock, made labels and images."""

from __future__ import annotations

import ctypes
import io
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from dcpipe.compression import Codec, packing
from dcpipe.images import decode, parquet
from dcpipe.types import ImageSet, IntArray, LabelPack, LabelShape, SoftLabels, ViewPolicy

RATIO = 30  # of fp16 labels to the file, everywhere


@dataclass(frozen=True)
class Setting:
    """What the command line chose."""

    device: torch.device
    quick: bool


def seconds(work: Callable[[], object], device: torch.device) -> float:
    """Wall time of one call, to the end of what it put on the device."""
    _wait(device)
    started = time.perf_counter()
    work()
    _wait(device)
    return time.perf_counter() - started


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def interleaved(
    works: Mapping[str, Callable[[], object]], rounds: int, device: torch.device, *, warm: bool = False
) -> dict[str, list[float]]:
    """Seconds of every work in every round, after one call of each that is not timed unless they are `warm` already.
    The works of a round follow each other, from another one on in each round, so that what slows the machine for a
    while slows all of them."""
    for work in [] if warm else works.values():
        work()
    times: dict[str, list[float]] = {name: [] for name in works}
    names = list(works)
    for turn in range(rounds):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            times[name].append(seconds(works[name], device))
    return times


def held_mib(peak: bool = False) -> float:
    """What this process holds in memory, or with `peak` the most since it was last asked without."""
    if not peak:
        ctypes.CDLL("libc.so.6").malloc_trim(0)  # what was freed would otherwise hide what is taken anew
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    [line] = [line for line in lines if line.startswith("VmHWM:" if peak else "VmRSS:")]
    return int(line.split()[1]) / 2**10


def median_ratio(above: Sequence[float], below: Sequence[float]) -> float:
    """The median over rounds of one work's time over another's."""
    return statistics.median(a / b for a, b in zip(above, below, strict=True))


def made_labels(images: int, n_views: int, classes: int, noise: float, seed: int) -> torch.Tensor:
    """f32 [n, K, c]: rank 5, outliers in one entry of fifty and dense noise."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(images, *shape, generator=generator)

    outliers = 8 * normal(n_views, classes) * (torch.rand(images, n_views, classes, generator=generator) < 0.02)
    return 3 * normal(n_views, 5) @ normal(5, classes) + outliers + noise * normal(n_views, classes)


@dataclass(frozen=True, eq=False)
class Photographs:
    """The first images of a set with the bytes of their files, and words for what they are."""

    images: ImageSet
    files: list[bytes]
    source: str


def photographs(n: int, size: int) -> Photographs:
    """n images of Tiny-ImageNet's 50 classes from the folder DCPIPE_TEST_DATA names (or `../shared/data`); where there
    is none smooth noise, whose JPEG files cost about what photographs do."""
    root = Path(os.environ.get("DCPIPE_TEST_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))
    folder = root / "tiny-imagenet-50"
    if folder.is_dir():
        split = parquet(path=str(folder))["train"]
        files = [data for data, _ in split.read(np.arange(n))]
        labels, classes, source = split.labels[:n], split.classes, "images of tiny-imagenet-50"
    else:
        generator = np.random.default_rng(0)
        files = [_smooth(generator, size) for _ in range(n)]
        classes = tuple(str(c) for c in range(50))
        labels, source = np.arange(n, dtype=np.int64) % len(classes), "smooth random images"
    pixels = np.stack([decode(data, size, f"number {row}") for row, data in enumerate(files)])
    return Photographs(ImageSet(pixels, labels, np.arange(n), classes), files, source)


def _smooth(generator: np.random.Generator, size: int) -> bytes:
    coarse = Image.fromarray(generator.integers(0, 256, (max(4, size // 8),) * 2 + (3,), dtype=np.uint8))
    buffer = io.BytesIO()
    coarse.resize((size, size), Image.Resampling.BICUBIC).save(buffer, format="JPEG")
    return buffer.getvalue()


def planned(name: str, shape: LabelShape, policy: ViewPolicy) -> Codec:
    """Codec `name` with settings that keep the whole file within its budget: the fp16 bytes over `RATIO`, all of them
    for `none`. Raises `DataError` where the codec cannot."""
    budget = shape.reference_bytes + 2**16 if name == "none" else shape.reference_bytes // RATIO
    return packing.plan(name, {}, shape, policy, budget)


def packed(name: str, labels: SoftLabels, device: torch.device) -> LabelPack:
    """The labels' pack, encoded as the stage does it. Raises `DataError` as `planned`."""
    codec = planned(name, LabelShape(*labels.logits.shape), labels.policy)
    with tempfile.TemporaryDirectory() as notes:
        return packing.pack(
            name, codec, labels, Path(notes), device, lambda encode, starts: [encode(start) for start in starts]
        )


def soft_labels(logits: torch.Tensor, policy: ViewPolicy, ids: IntArray) -> SoftLabels:
    """Logits [n, K, c] as the noun."""
    names = tuple(str(c) for c in range(logits.shape[2]))
    return SoftLabels(logits.to(torch.float16).numpy(), policy, ids, names, ("made",))
