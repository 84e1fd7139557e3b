"""Images that were not copied: a change of one is noticed when it is read."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from image_sources import SOURCES, TRAIN, labels_of, pixels_of, write_set
from object_store import Bucket

from dcpipe import images, store
from dcpipe.images.index import located, placed, read_encoded
from dcpipe.store.encoding import encode_png
from dcpipe.types import DataError, Elsewhere, EncodedImage, ImageTable

PART = 16


def index_of(root: Path | str, folder: Path, source: str, options: dict[str, Any]) -> ImageTable:
    """The train split as an index in `folder`."""
    split = images.SOURCES[source](path=str(root), **options)["train"]
    elsewhere, parts = located(split, source).elsewhere, []
    for start in range(0, TRAIN, PART):
        rows = np.arange(start, min(start + PART, TRAIN))
        encoded = [
            EncodedImage(int(row), data, name, int(split.labels[row]))
            for row, (data, name) in zip(rows, split.read(rows), strict=True)
        ]
        parts.append(folder / f"part-{start}.parquet")
        store.write_index(parts[-1], placed(split, rows, encoded, source))
    grey = (0.5, 0.5, 0.5)
    return ImageTable(
        tuple(parts), PART, np.arange(TRAIN), labels_of("train"), split.classes, 6, grey, grey, elsewhere=elsewhere
    )


@pytest.fixture(params=SOURCES)
def indexed(request: pytest.FixtureRequest, tmp_path: Path, scratch: Path) -> ImageTable:
    options = write_set(tmp_path / "set", request.param)
    return index_of(tmp_path / "set", tmp_path, request.param, options)


def test_rows_of_an_index_are_the_images(indexed: ImageTable) -> None:
    np.testing.assert_array_equal(images.read_all(indexed), pixels_of("train"))
    rows = np.array([39, 0, 17, 17, 20])
    np.testing.assert_array_equal(images.read_rows(indexed, rows), pixels_of("train")[rows])
    assert read_encoded(indexed, 2, np.array([], dtype=np.int64)) == []


def change(path: Path, old: bytes, new: bytes) -> None:
    content = path.read_bytes()
    assert content.count(old) == 1 and len(old) == len(new)
    path.write_bytes(content.replace(old, new))


def test_a_changed_image_is_noticed_and_no_other_is_refused(indexed: ImageTable, tmp_path: Path) -> None:
    """As many bytes in the same place, which are an intact image."""
    old = encode_png(pixels_of("train")[7])
    new = bytearray(old)
    new[-1] ^= 1  # the checksum of the last chunk, which decoders pass over
    for path in (path for path in (tmp_path / "set").rglob("*") if path.is_file() and old in path.read_bytes()):
        change(path, old, bytes(new))
    others = np.array([row for row in range(TRAIN) if row != 7])
    np.testing.assert_array_equal(images.read_rows(indexed, others), pixels_of("train")[others])
    with pytest.raises(DataError) as error:
        images.read_rows(indexed, np.array([6, 7]))
    sentence = str(error.value)
    assert " (id 7) in " in sentence and str(tmp_path / "set") in sentence
    assert sentence.endswith("; restore it, or run `dvc repro` to read the source again")


def test_a_file_that_is_gone_or_shorter_is_named(indexed: ImageTable, tmp_path: Path) -> None:
    files = sorted(path for path in (tmp_path / "set").rglob("*") if path.is_file())
    for file in files:
        file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(DataError, match=r"has changed since|ends before byte [\d,]+, where|cannot be read as Parquet"):
        images.read_part(indexed, 0)
    for file in files:
        file.unlink()
    with pytest.raises(DataError, match=r"(00\.png|train-0\.\w+).* cannot be read( as Parquet)? \(.*No such file"):
        images.read_part(indexed, 0)


def test_a_table_with_fewer_rows_is_named(tmp_path: Path, scratch: Path) -> None:
    table = index_of(tmp_path / "set", tmp_path, "parquet", write_set(tmp_path / "set", "parquet"))
    (tmp_path / "set/train-0.parquet").write_bytes((tmp_path / "set/test-0.parquet").read_bytes())
    with pytest.raises(DataError, match=r"train-0\.parquet has 5 rows, but not row 15; restore it, or run again"):
        images.read_part(table, 0)


def test_what_an_index_reads_from_a_bucket(tmp_path: Path, bucket: Bucket, scratch: Path) -> None:
    """Of archives and folders, the bytes of the images that are wanted, and hardly anything else."""
    rows = np.array([3, 18, 19, 20, 39])
    wanted = [len(encode_png(image)) for image in pixels_of("train")[rows]]
    for source in ("imagefolder", "webdataset"):
        options = write_set(tmp_path / source, source)
        url = bucket.put_folder(tmp_path / source, f"index-{source}")
        table = index_of(url, tmp_path, source, options)
        bucket.requests.clear()
        np.testing.assert_array_equal(images.read_rows(table, rows), pixels_of("train")[rows])
        asked = [size_of(span) for _, _, span in bucket.requests]
        # Two of the images are neighbours in an archive, with a header and the rest of a block between them.
        assert (len(asked), sum(asked) - sum(wanted) < 1024) == ({"imagefolder": 5, "webdataset": 4}[source], True)


@pytest.mark.parametrize("source", ["parquet", "webdataset"])
def test_an_index_may_point_to_a_web_server(source: str, tmp_path: Path, bucket: Bucket, scratch: Path) -> None:
    options, suffix = write_set(tmp_path / "set", source), {"parquet": "parquet", "webdataset": "tar"}[source]
    for path in (tmp_path / "set").glob(f"*.{suffix}"):
        bucket.put(f"web index/{path.name}", path.read_bytes(), public=True)
    root = bucket.http(f"{bucket.url}/web%20index")
    named = {"train": f"train-{{0..1}}.{suffix}", "test": f"test-{{0..1}}.{suffix}"}
    table = index_of(root, tmp_path, source, {**options, **named})
    np.testing.assert_array_equal(images.read_all(table), pixels_of("train"))
    bucket.put(f"web index/train-1.{suffix}", b"changed", public=True)
    with pytest.raises(DataError, match=rf"web%20index/train-1\.{suffix}"):
        images.read_rows(table, np.array([39]))


def size_of(span: str) -> int:
    """The bytes of a Range header."""
    first, last = span.removeprefix("bytes=").split("-")
    return int(last) - int(first) + 1


def test_names_that_no_index_can_hold_are_refused(tmp_path: Path, scratch: Path) -> None:
    options = write_set(tmp_path / "set", "imagefolder")
    image = tmp_path / "set/train/ant/00.png"
    image.rename(image.with_name(os.fsdecode(b"0\xe9.png")))
    with pytest.raises(DataError, match=r"the name of train/ant/0\\xe9\.png is not UTF-8; rename it, or set images"):
        index_of(tmp_path / "set", tmp_path, "imagefolder", options)


def test_where_an_index_is_read_from(tmp_path: Path) -> None:
    split = images.SOURCES["parquet"](path=str(tmp_path / "set"), **write_set(tmp_path / "set", "parquet"))["test"]
    assert located(split, "parquet").elsewhere == Elsewhere(str(tmp_path / "set"), "image")
