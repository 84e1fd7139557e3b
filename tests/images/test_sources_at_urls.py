"""Every source that reads files, at the URLs of several services: the same images, and few bytes for a few of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
from fsspec import AbstractFileSystem
from image_sources import CLASSES, GROUP, SOURCES, labels_of, pixels_of, write_set
from object_store import Bucket

from dcpipe import images
from dcpipe.images import list_source
from dcpipe.store.encoding import encode_png
from dcpipe.types import DataError

pytestmark = pytest.mark.usefixtures("scratch")
SIDE = 40  # images of about 5 kB, so that headers and footers are small beside them


def check_images(splits: dict[str, images.Source], size: int) -> None:
    for name, split in splits.items():
        assert split.classes == CLASSES and split.labels.tolist() == labels_of(name).tolist()
        found = [images.decode(data, size, at) for data, at in split.read(np.arange(len(split.labels)))]
        np.testing.assert_array_equal(found, pixels_of(name, size))


def n_bytes(bucket: Bucket) -> int:
    """The bytes of all ranges that were asked for."""
    spans = [span.removeprefix("bytes=").split("-") for method, _, span in bucket.requests if method == "GET" and span]
    return sum(int(last) - int(first) + 1 for first, last in spans)


@pytest.mark.parametrize("source", SOURCES)
def test_a_bucket_is_asked_for_what_is_needed(source: str, bucket: Bucket, tmp_path: Path) -> None:
    options = write_set(tmp_path, source, SIDE)
    url = bucket.put_folder(tmp_path, f"few-{source}")
    whole = sum(path.stat().st_size for path in tmp_path.rglob("*") if path.suffix in (".png", ".tar", ".parquet"))
    bucket.requests.clear()
    train = images.SOURCES[source](path=url, **options)["train"]
    assert n_bytes(bucket) <= (0 if source == "imagefolder" else whole)
    bucket.requests.clear()
    images.SOURCES[source](path=url, **options)
    # An archive is gone through once. Of a table, pyarrow reads the 64 kB at its end for the footer, and the labels.
    assert n_bytes(bucket) <= len(list(tmp_path.glob("*.parquet"))) * (2**16 + 1000)
    rows = np.array([1, 2, 17, 30])
    wanted = {row: len(encode_png(pixels_of("train", SIDE)[row])) for row in range(40)}
    groups = {(row < 19, (row if row < 19 else row - 19) // GROUP) for row in rows}
    bucket.requests.clear()
    for (data, name), row in zip(train.read(rows), rows, strict=True):
        np.testing.assert_array_equal(images.decode(data, SIDE, name), pixels_of("train", SIDE)[row])
    if source == "parquet":
        assert n_bytes(bucket) <= 1.05 * len(groups) * GROUP * max(wanted.values())
    else:
        # Neighbours in an archive are read at once, with the header and the rest of a block between them.
        assert len(bucket.requests) == (4 if source == "imagefolder" else 3)
        assert 0 <= n_bytes(bucket) - sum(wanted[int(row)] for row in rows) < 1024
    check_images({"train": train}, SIDE)


@pytest.mark.parametrize("source", ["parquet", "webdataset"])
def test_files_on_a_web_server_are_named(source: str, bucket: Bucket, tmp_path: Path) -> None:
    options, suffix = write_set(tmp_path, source), {"parquet": "parquet", "webdataset": "tar"}[source]
    for path in tmp_path.glob(f"*.{suffix}"):
        bucket.put(f"web-{source}/{path.name}", path.read_bytes(), public=True)
    options |= {"path": bucket.http(f"{bucket.url}/web-{source}")}
    named = {"train": f"train-{{0..1}}.{suffix}", "test": f"test-{{0,1}}.{suffix}"}
    check_images(images.SOURCES[source](**options, **named), 6)
    listed = list_source(images.SOURCES[source], {**options, **named})
    assert listed is not None and listed.files == 4
    with pytest.raises(DataError, match="is on a web server, which has no list of files, so the split 'train' can"):
        images.SOURCES[source](**options)


def test_a_folder_on_a_web_server_is_refused() -> None:
    for work in (images.SOURCES["imagefolder"], lambda **options: list_source(images.SOURCES["imagefolder"], options)):
        with pytest.raises(DataError, match=r"https://host/set is on a web server, which has no list of files; pu"):
            work(path="https://host/set")


class Hub(AbstractFileSystem):
    """The names of a service that is not reachable from tests, for files below a folder of this machine."""

    protocol, root, cachable = "hf", Path(), False

    def info(self, path: str, **options: Any) -> dict[str, Any]:
        found = self.root / path
        kind = "directory" if found.is_dir() else "file"
        return {"name": path, "size": found.stat().st_size, "type": kind, "blob_id": f"id of {path}"}

    def ls(self, path: str, detail: bool = True, **options: Any) -> list[Any]:
        folder = self.root / path
        names = [f"{path}/{entry.name}" for entry in folder.iterdir()] if folder.is_dir() else [path]
        return [self.info(name) for name in names] if detail else names

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **options: Any) -> bytes:
        return (self.root / path).read_bytes()[start:end]


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(Hub, "root", tmp_path)
    before = fsspec.get_filesystem_class("hf")
    fsspec.register_implementation("hf", Hub, clobber=True)
    yield tmp_path
    fsspec.register_implementation("hf", before, clobber=True)


@pytest.mark.parametrize("source", SOURCES)
def test_a_repository_of_hugging_face_is_a_folder(source: str, hub: Path) -> None:
    options = write_set(hub / "datasets/somebody/set@v1/data", source)
    url = "hf://datasets/somebody/set@v1" + ("/data" if source == "imagefolder" else "")
    check_images(images.SOURCES[source](path=url, **options), 6)
    listed = list_source(images.SOURCES[source], {"path": url, **options})
    assert listed is not None and listed.files == (52 if source == "imagefolder" else 4)


def test_folders_in_a_bucket_are_refused_as_here(bucket: Bucket, tmp_path: Path) -> None:
    options = write_set(tmp_path, "imagefolder")
    url = bucket.put_folder(tmp_path, "refused")
    for changes, sentence in (
        (
            {"test": "val"},
            "image folder s3://bucket/refused/val not found; s3://bucket/refused contains test, trai",
        ),
        ({"classes": ["ant"]}, "class folder s3://bucket/refused/train/bee is not on the class list; add or move it"),
        ({"classes": ["ant", "bee", "emu"]}, "class folder s3://bucket/refused/train/emu not found; create it or take"),
        ({"path": "s3://bucket/no"}, "image folder s3://bucket/no/train not found; s3://bucket/no contains no folders"),
    ):
        with pytest.raises(DataError) as error:
            images.SOURCES["imagefolder"](**{"path": url, **options, **changes})
        assert sentence in str(error.value)
    bucket.put("refused/classes.json", '["bee", "ant"]')
    splits = images.SOURCES["imagefolder"](path=url, **options, classes=f"{url}/classes.json")
    assert splits["train"].labels.tolist() == [0] * 20 + [1] * 20 and splits["train"].classes == ("bee", "ant")
    with pytest.raises(DataError, match=r"s3://bucket/no has no train-\*\.parquet \(found no Parquet files\); correct"):
        images.SOURCES["parquet"](path="s3://bucket/no")
