"""One slimmed set of the study of sizes: its row, and what an earlier kill may have left."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import tiny

from dcpipe import store
from dcpipe.studies import slimmed_cells
from dcpipe.studies.slimmed_cells import Slimmed
from dcpipe.types import ImageSet

NO_CONTEXT = cast(Any, None)  # only training needs one


def images_of(n: int, seed: int = 0) -> ImageSet:
    pixels = np.random.default_rng(seed).integers(0, 256, (2 * n, 16, 16, 3)).astype(np.uint8)
    return ImageSet(pixels, np.tile(np.arange(2), n), np.arange(2 * n), ("a", "b"))


def slimmed(folder: Path, images: ImageSet, size: int) -> Slimmed:
    folder.mkdir(exist_ok=True)
    params = tiny.run_of("studies").params
    return slimmed_cells.slimmed(NO_CONTEXT, "lfs", images, size, params, store.Notes(folder))


def test_files_that_a_killed_run_was_measuring_do_not_count(tmp_path: Path) -> None:
    images = images_of(6)
    fresh = slimmed(tmp_path / "fresh", images, 3)
    left = tmp_path / "left"
    left.mkdir()
    store.Notes(left).within("measured").image_file(images_of(1))
    again = slimmed(left, images, 3)
    assert again.row == fresh.row and np.array_equal(again.made.images.images, fresh.made.images.images)
    assert list(left.iterdir()) == []


def test_the_row_of_a_set_that_notes_keep_is_the_same_again(tmp_path: Path) -> None:
    images = images_of(8)
    found = slimmed(tmp_path, images, 2)
    back = slimmed_cells.of_saved(slimmed_cells.saved(found), images)
    assert back.row == found.row and tuple(back.row) == slimmed_cells.COLUMNS
    assert np.array_equal(back.made.images.images, found.made.images.images) and back.made.seconds > 0
    off = back.made.images.images.astype(float) - images.images
    assert abs(float(np.sqrt(np.square(off).mean())) - back.row["error"]) < 1e-3
    assert 0 < back.row["tail"] <= back.row["coded"] and back.row["bytes"] <= back.row["budget"]
