"""Tables of images and condensed sets: rows, splits, class names, and what smaller sizes are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from kinds import CLASSES, IDS, KINDS, LABELS, assert_same, image_set

from dcpipe import store
from dcpipe.store.images import image_rows, image_table
from dcpipe.types import DataError, EncodedImage


@pytest.mark.parametrize("by", ["images", "cells"])
def test_a_set_carries_what_its_smaller_sizes_are(by: Any, tmp_path: Path) -> None:
    """Only where they are not its first images, as in all sets before there was a choice: digests stay."""
    folder = tmp_path / "folder"
    folder.mkdir()
    meta = store.save_set(folder, replace(image_set(), by=by))
    assert meta == {"classes": ["cat", "dog"], "grid": 2} | ({"by": "cells"} if by == "cells" else {})
    store.publish(folder, tmp_path / "out", "synthesis", meta, {})
    assert_same(store.load_set(tmp_path / "out"), replace(image_set(), by=by))


def test_splits_are_read_and_others_are_refused(tmp_path: Path) -> None:
    KINDS["images"].publish(tmp_path)
    source = store.open_artifact(tmp_path / "out", "images")
    table = store.table_of(source, "train")
    assert (table.ids.tolist(), table.labels.tolist()) == (IDS.tolist(), LABELS.tolist())
    assert table.ids.dtype == table.labels.dtype == np.int64
    assert [part.name for part in table.parts] == ["part-0.parquet", "part-1.parquet"]
    with pytest.raises(DataError) as error:
        store.table_of(source, "test")
    assert str(error.value) == f"{tmp_path / 'out'} has no split 'test'; it has minival, train"
    empty = store.table_of(source, "minival")
    assert len(empty) == 0 and empty.parts == () and empty.labels.dtype == np.int64


def test_rows_keep_their_bytes_names_and_labels(tmp_path: Path) -> None:
    rows = [EncodedImage(7, b"one", "a/one.jpg", 1), EncodedImage(3, b"two", "b/two.png", 0)]
    store.write_part(tmp_path / "part.parquet", rows, CLASSES)
    found = pq.read_table(tmp_path / "part.parquet").to_pylist()
    assert [EncodedImage(row["id"], row["image"]["bytes"], row["image"]["path"], row["label"]) for row in found] == rows


def test_the_groups_of_tables_are_small_and_images_have_no_statistics(tmp_path: Path) -> None:
    rows = [EncodedImage(i, b"%04d" % i, f"{i}.png", 0) for i in range(70)]
    store.write_part(tmp_path / "part.parquet", rows, CLASSES)
    meta = pq.read_metadata(tmp_path / "part.parquet")
    groups = [meta.row_group(group) for group in range(meta.num_row_groups)]
    assert [group.num_rows for group in groups] == [32, 32, 6]
    kept = {group.column(c).path_in_schema: group.column(c).is_stats_set for group in groups for c in range(4)}
    assert kept == {"id": True, "image.bytes": False, "image.path": False, "label": True}


@pytest.mark.parametrize(("each", "expected"), [(1 << 14, 32), (1 << 15, 16), (110_000, 4), (1 << 20, 1)])
def test_groups_of_large_images_have_fewer_rows(tmp_path: Path, each: int, expected: int) -> None:
    rows = [EncodedImage(i, bytes(each), f"{i}.png", 0) for i in range(40)]
    store.write_part(tmp_path / "part.parquet", rows, CLASSES)
    meta = pq.read_metadata(tmp_path / "part.parquet")
    assert meta.row_group(0).num_rows == expected


def test_sets_keep_their_bytes(tmp_path: Path) -> None:
    """Their digests are those of releases: groups of 256, with statistics."""
    store.save_set(tmp_path, image_set())
    rows = image_table(image_rows(image_set()), CLASSES)
    pq.write_table(rows, tmp_path / "before", compression="NONE", row_group_size=256, use_dictionary=False)
    assert (tmp_path / "images.parquet").read_bytes() == (tmp_path / "before").read_bytes()


def test_a_row_that_is_no_image_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    meta = store.save_set(folder, image_set())
    rows = pq.read_table(folder / "images.parquet")["image"].to_pylist()
    broken = [
        EncodedImage(int(i), row["bytes"][: 20 if place == 2 else None], row["path"], int(label))
        for place, (i, row, label) in enumerate(zip(IDS, rows, LABELS, strict=True))
    ]
    store.write_part(folder / "images.parquet", broken, CLASSES)
    store.publish(folder, tmp_path / "out", "synthesis", meta, {})
    with pytest.raises(DataError) as error:
        store.load_set(tmp_path / "out")
    assert str(error.value).startswith(f"corrupt image {tmp_path / 'out' / 'images.parquet'}: row 2 (8.png): ")
    assert str(error.value).endswith("; pull it again")
