"""Claim: checking an image (decode, fingerprint, statistics) takes at most 1.6 times the processor time of decoding it
with Pillow; threads then spread that over the cores that are idle.

Run `python benchmarks/images.py [--images N]`. Both sides see the same bytes in the same run, alternating; `speed` is
the ratio of wall times (above 1: ours is faster), `work` that of processor times, each of the best of three. The loop
does the least that any reader does: open, to RGB, to an array. `speed` means little on a busy machine; `work` does.
"""

from __future__ import annotations

import argparse
import io
import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from PIL import Image

from dcpipe import images
from dcpipe.types import IntArray

# (side of the file, side it is decoded to, file format, images a unit of work)
CASES = ((32, 32, "PNG", 2048), (64, 64, "JPEG", 2048), (500, 224, "JPEG", 128))


@dataclass(frozen=True, eq=False)
class Listed:
    """A source in memory."""

    classes: tuple[str, ...]
    labels: IntArray
    items: list[tuple[bytes, str]]

    def read(self, rows: IntArray) -> list[tuple[bytes, str]]:
        return [self.items[row] for row in rows]


def make(side: int, kind: str, n: int) -> Listed:
    """n smooth random images: noise at an eighth of the side, enlarged, compresses like photographs do."""
    generator = np.random.default_rng(0)
    items = []
    for row in range(n):
        coarse = Image.fromarray(generator.integers(0, 256, (max(4, side // 8),) * 2 + (3,), dtype=np.uint8))
        buffer = io.BytesIO()
        coarse.resize((side, side), Image.Resampling.BICUBIC).save(buffer, format=kind)
        items.append((buffer.getvalue(), str(row)))
    return Listed(("one",), np.zeros(n, dtype=np.int64), items)


def loop(source: Listed, size: int) -> None:
    """One thread: open, to RGB, resize where needed, to an array."""
    for data, _ in source.items:
        image = Image.open(io.BytesIO(data)).convert("RGB")
        np.asarray(image if image.size == (size, size) else image.resize((size, size), Image.Resampling.BICUBIC))


def seconds(work: Callable[[], object]) -> tuple[float, float]:
    """(wall, processor) time of one call."""
    wall, busy = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - busy


def main() -> None:
    """Print images a second of both sides and their ratio, for each case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, help="images per case (default: each case's own)")
    chosen = parser.parse_args().images
    print(f"{platform.machine()}, {os.cpu_count()} cores, Pillow {Image.__version__}")
    print(f"{'file':>12} {'to':>5} {'inspect/s':>10} {'loop/s':>10} {'speed':>6} {'work':>6}")
    for side, size, kind, own in CASES:
        n = chosen or own
        source, rows = make(side, kind, n), np.arange(n)
        inspect = partial(images.inspect_part, source, rows, source.classes, size, rows)
        pairs = [(seconds(inspect), seconds(partial(loop, source, size))) for _ in range(3)]
        times = np.array(pairs).min(axis=0)  # [ours or theirs, wall or processor]
        ours, theirs = times[0, 0], times[1, 0]
        ratios = f"{theirs / ours:>6.2f} {times[0, 1] / times[1, 1]:>6.2f}"
        print(f"{kind:>7} {side:>4} {size:>5} {n / ours:>10,.0f} {n / theirs:>10,.0f} {ratios}")


if __name__ == "__main__":
    main()
