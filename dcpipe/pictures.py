"""Pictures where people would rather look than read: image grids as PNG bytes."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from dcpipe.types import ImageSet


def grid(images: ImageSet, max_classes: int = 10, max_columns: int = 10, tile: int = 64) -> bytes:
    """One row a class, one column an image in pick order, as PNG; each tile `tile` pixels, at most the given counts."""
    wanted = range(min(max_classes, len(images.classes)))
    rows = [np.flatnonzero(images.labels == label)[:max_columns] for label in wanted]
    width = max(1, max(len(row) for row in rows))
    gap = 2
    sheet = Image.new("RGB", (width * (tile + gap) + gap, len(rows) * (tile + gap) + gap), "white")
    for y, row in enumerate(rows):
        for x, index in enumerate(row):
            picture = Image.fromarray(images.images[index]).resize((tile, tile), Image.Resampling.NEAREST)
            sheet.paste(picture, (gap + x * (tile + gap), gap + y * (tile + gap)))
    buffer = io.BytesIO()
    sheet.save(buffer, format="PNG")
    return buffer.getvalue()
