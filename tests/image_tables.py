"""Image tables on disk, made of pixels, labels and ids that the tests choose."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dcpipe import store
from dcpipe.store.encoding import encode_png
from dcpipe.types import EncodedImage, ImageTable


def write_table(
    folder: Path,
    pixels: np.ndarray,
    labels: np.ndarray,
    ids: np.ndarray,
    part_rows: int,
    classes: tuple[str, ...],
) -> ImageTable:
    """Images u8 [n, s, s, 3] as a table of parts of `part_rows`."""
    names = []
    for start in range(0, len(ids), part_rows):
        rows = [
            EncodedImage(int(ids[row]), encode_png(pixels[row]), f"{row}.png", int(labels[row]))
            for row in range(start, min(start + part_rows, len(ids)))
        ]
        names.append(folder / f"part-{start}.parquet")
        store.write_part(names[-1], rows, classes)
    size = pixels.shape[1]
    return ImageTable(tuple(names), part_rows, ids, labels, classes, size, (0.4, 0.5, 0.6), (0.2, 0.25, 0.3))
