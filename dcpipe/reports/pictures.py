"""Grids of images as PNG bytes."""

from __future__ import annotations

import io
from collections.abc import Mapping

import numpy as np
from PIL import Image, ImageDraw

from dcpipe.types import ImageSet

TILE = 64  # side of an image in pixels
GALLERY_CLASSES = 10


def grid(images: ImageSet, max_classes: int = 10, max_columns: int = 10) -> bytes:
    """One row per class and one column per image in pick order, at most `max_classes` x `max_columns`, as PNG."""
    wanted = range(min(max_classes, len(images.classes)))
    rows = [np.flatnonzero(images.labels == label)[:max_columns] for label in wanted]
    width = max(1, max(len(row) for row in rows))
    gap, tile = 2, TILE
    sheet = Image.new("RGB", (width * (tile + gap) + gap, len(rows) * (tile + gap) + gap), "white")
    for y, row in enumerate(rows):
        for x, index in enumerate(row):
            picture = Image.fromarray(images.images[index]).resize((tile, tile), Image.Resampling.NEAREST)
            sheet.paste(picture, (gap + x * (tile + gap), gap + y * (tile + gap)))
    buffer = io.BytesIO()
    sheet.save(buffer, format="PNG")
    return buffer.getvalue()


def gallery(sets: Mapping[str, ImageSet]) -> bytes:
    """One row per set with its name at the left and the first image of each class, as PNG."""
    gap, tile, margin = 2, TILE, 8 * max(map(len, sets), default=0)
    classes = min(GALLERY_CLASSES, max((len(images.classes) for images in sets.values()), default=0))
    sheet = Image.new("RGB", (margin + classes * (tile + gap) + gap, len(sets) * (tile + gap) + gap), "white")
    pen = ImageDraw.Draw(sheet)
    for y, (name, images) in enumerate(sets.items()):
        top = gap + y * (tile + gap)
        pen.text((gap, top + tile // 2 - 6), name, fill="black")
        for label in range(min(classes, len(images.classes))):
            [first, *_] = np.flatnonzero(images.labels == label)
            picture = Image.fromarray(images.images[first]).resize((tile, tile), Image.Resampling.NEAREST)
            sheet.paste(picture, (margin + gap + label * (tile + gap), top))
    buffer = io.BytesIO()
    sheet.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()
