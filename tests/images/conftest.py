"""Sources in memory and tables on disk, made of pixels the tests choose."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import pytest
from PIL import Image

from dcpipe import images, store
from dcpipe.types import ImageTable


@dataclass(frozen=True, eq=False)
class Listed:
    """A source that is a list."""

    classes: tuple[str, ...]
    labels: np.ndarray
    items: list[tuple[bytes, str]]

    def read(self, rows):
        return [self.items[row] for row in rows]


def encode(pixels, kind="PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(buffer, format=kind, **options)
    return buffer.getvalue()


@pytest.fixture
def png():
    return encode


@pytest.fixture
def read_all():
    """All images of a source, as it gives them."""
    return lambda source: source.read(np.arange(len(source.labels)))


@pytest.fixture
def make_source():
    """(n, size, classes, seed) -> a source of n random PNG images and their pixels."""

    def make(n=40, size=6, classes=4, seed=0):
        pixels = np.random.default_rng(seed).integers(0, 256, (n, size, size, 3), dtype=np.uint8)
        names = tuple(f"class {c}" for c in range(classes))
        items = [(encode(image), f"{row}.png") for row, image in enumerate(pixels)]
        return Listed(names, np.arange(n) % classes, items), pixels

    return make


@pytest.fixture
def make_table(tmp_path):
    """(source, size, part rows) -> the table that the images stage would write, ids shifted by 1,000."""

    def make(source, size=6, part_rows=16) -> ImageTable:
        parts, reports = [], []
        ids = np.arange(len(source.labels)) + 1000
        for start in range(0, len(ids), part_rows):
            rows = np.arange(start, min(start + part_rows, len(ids)))
            encoded, report = images.inspect_part(source, rows, source.classes, size, ids[rows])
            parts.append(tmp_path / f"part-{len(parts):05d}.parquet")
            store.write_part(parts[-1], encoded, source.classes)
            reports.append(report)
        mean, std = images.merge_reports(reports)
        return ImageTable(tuple(parts), part_rows, ids, source.labels, source.classes, size, mean, std)

    return make
