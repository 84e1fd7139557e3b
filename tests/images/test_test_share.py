"""Sets without a test split: every source that has one option `test_share` divides train by it, and loses nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tar_shards import write_shard

from dcpipe import images
from dcpipe.images.base import Located, LocatedSubset
from dcpipe.images.listing import list_source
from dcpipe.store.encoding import encode_png
from dcpipe.types import DataError

pytestmark = pytest.mark.usefixtures("scratch")
SIZES = {"a": 10, "b": 5, "c": 1}
LABELS = [label for label, n in enumerate(SIZES.values()) for _ in range(n)]


def picture(number: int) -> bytes:
    return encode_png(np.full((4, 4, 3), number, np.uint8))


def folder(root: Path) -> dict[str, Any]:
    for number, label in enumerate(LABELS):
        path = root / list(SIZES)[label] / f"{number:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture(number))
    return {"train": "."}


def parquet(root: Path) -> dict[str, Any]:
    root.mkdir()
    rows = {
        "image": [{"bytes": picture(number), "path": f"{number}"} for number in range(len(LABELS))],
        "label": LABELS,
    }
    pq.write_table(pa.table(rows), root / "train-00000-of-00001.parquet")
    return {"classes": list(SIZES)}


def tars(root: Path) -> dict[str, Any]:
    members = [(f"{number:02d}.png", picture(number)) for number in range(len(LABELS))]
    members += [(f"{number:02d}.cls", str(label).encode()) for number, label in enumerate(LABELS)]
    write_shard(root / "train-000000.tar", members)
    return {"classes": list(SIZES)}


WRITERS = {"imagefolder": folder, "parquet": parquet, "webdataset": tars}
Opened = Callable[..., dict[str, images.Source]]


@pytest.fixture(params=list(WRITERS))
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Opened:
    """Opens a set without test images, with the options given."""
    root = tmp_path / "set"
    options = {"path": str(root), **WRITERS[request.param](root)}
    return lambda **more: images.SOURCES[request.param](**options, **more)


def numbers(split: images.Source) -> list[int]:
    """What images of a split are."""
    encoded = split.read(np.arange(len(split.labels)))
    return [int(images.decode(data, 4, name)[0, 0, 0]) for data, name in encoded]


def test_a_share_of_every_class_is_test_and_nothing_is_lost(opened: Opened) -> None:
    splits = opened(test_share=0.3)
    train, test = numbers(splits["train"]), numbers(splits["test"])
    assert sorted(train + test) == list(range(len(LABELS))) and train == sorted(train)
    for split, found in (("train", train), ("test", test)):
        assert splits[split].labels.tolist() == [LABELS[number] for number in found]
    # 3 of 10; 1.5 of 5, rounded up; of one image none, because train keeps one
    assert np.bincount(splits["test"].labels, minlength=3).tolist() == [3, 2, 0]
    assert splits["train"].classes == splits["test"].classes == tuple(SIZES)
    assert numbers(opened(test_share=0.3)["test"]) == test
    assert numbers(opened(test_share=0.3, seed=1)["test"]) != test


def test_images_are_found_again_where_they_are(opened: Opened) -> None:
    splits = opened(test_share=0.3)
    for split in splits.values():
        assert isinstance(split, Located) and isinstance(split, LocatedSubset)
        rows = np.arange(len(split.labels))
        assert split.where(rows) == split.whole.where(split.rows) and split.elsewhere == split.whole.elsewhere


def test_a_share_that_gives_nothing_is_refused(opened: Opened) -> None:
    with pytest.raises(DataError, match=r"set: test_share 0\.01 gives no image of any class to test; raise images\."):
        opened(test_share=0.01)


@pytest.mark.parametrize("source", list(WRITERS))
def test_without_it_the_message_names_it(source: str, tmp_path: Path) -> None:
    options = {"path": str(tmp_path / "set"), **WRITERS[source](tmp_path / "set")}
    with pytest.raises(DataError, match=r"where test images are missing, set images\.options\.test_share: 0\.2"):
        images.SOURCES[source](**options)


@pytest.mark.parametrize("source", list(WRITERS))
def test_only_train_is_listed(source: str, tmp_path: Path) -> None:
    options = {"path": str(tmp_path / "set"), **WRITERS[source](tmp_path / "set"), "test_share": 0.3}
    listing = list_source(images.SOURCES[source], options)
    assert listing is not None and listing.files == sum(1 for path in (tmp_path / "set").rglob("*") if path.is_file())
