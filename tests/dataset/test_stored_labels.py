"""Labels that are read from their store: the targets of codec `none`, to the bit, with few views in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from condensed import CPU, N, image_set, policy_of
from hypothesis import given, settings
from hypothesis import strategies as st

from dcpipe import store
from dcpipe.compression import CODECS
from dcpipe.dataset import CondensedDataset, stored_labels
from dcpipe.dataset.stored_labels import StoredLabels, views_at_once
from dcpipe.dataset.targets import PackLabels
from dcpipe.types import DataError, IntArray, LabelPack, LabelShape, Mix

VIEWS = 12
CLASSES = 3
VIEW_BYTES = 2 * N * CLASSES


def logits() -> np.ndarray[Any, np.dtype[np.float16]]:
    return np.random.default_rng(7).normal(0, 4, (N, VIEWS, CLASSES)).astype(np.float16)


@pytest.fixture(scope="module")
def array(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A store whose chunks have all 12 views of an image."""
    path = tmp_path_factory.mktemp("labels") / "labels.zarr"
    blocks = store.create_blocks(path, (N, VIEWS, CLASSES), "float16")
    for block in blocks.missing():
        blocks.write(block, logits()[blocks.span(block)])
    return store.open_blocks(path)


def packed(mix: Mix = "none") -> PackLabels:
    shape = LabelShape(N, VIEWS, CLASSES)
    codec = CODECS["none"].plan(shape, shape.reference_bytes)
    return PackLabels(LabelPack("none", codec.settings, {"logits": logits()}, shape, policy_of(mix), ids()), CPU)


def ids() -> IntArray:
    return image_set().ids


class Recorded:
    """An array in chunks of 4 views that knows what was read of it."""

    chunks = (2, 4, CLASSES)

    def __init__(self) -> None:
        self.values, self.reads = logits(), list[tuple[int, int]]()
        self.shape, self.dtype = self.values.shape, self.values.dtype

    def __getitem__(self, index: Any) -> Any:
        self.reads.append((index[1].start, index[1].stop))
        return self.values[index]


@pytest.mark.parametrize("mix", ["none", "cutmix_images", "cutmix_labels"])
@pytest.mark.parametrize("temperature", [None, 1.0, 20.0])
@pytest.mark.parametrize("at_once", [1, 3, 12])
def test_an_epoch_has_the_targets_of_the_pack(
    array: Any, mix: Mix, temperature: float | None, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored_labels, "READ_BYTES", at_once * VIEW_BYTES)
    own, other = (
        CondensedDataset(image_set(), labels, policy_of(mix), temperature=temperature)
        for labels in (StoredLabels(array, CPU), packed(mix))
    )
    assert isinstance(own.labels, StoredLabels) and own.labels.at_once == at_once
    for epoch in (0, 1, 5, 11, 12, 30, 2):
        own.set_epoch(epoch)
        other.set_epoch(epoch)
        assert np.array_equal(own.rows, other.rows) and np.array_equal(own.views, other.views)
        items = np.random.default_rng(epoch).permutation(N)
        for mine, theirs in zip(own.batch(items), other.batch(items), strict=True):
            assert torch.equal(mine, theirs)


@settings(max_examples=20)
@given(pairs=st.lists(st.tuples(st.integers(0, N - 1), st.integers(0, VIEWS - 1)), max_size=20))
def test_any_views_of_any_images_are_found(array: Any, pairs: list[tuple[int, int]]) -> None:
    rows, numbers = (np.array([pair[at] for pair in pairs], dtype=np.int64) for at in (0, 1))
    labels: Any = StoredLabels(array, CPU)
    found = labels.targets(rows, numbers, None, None, None)
    assert found.dtype == torch.float32
    assert np.array_equal(found.numpy(), logits()[rows, numbers].astype(np.float32).reshape(-1, CLASSES))


def test_every_label_is_read_once_a_round_and_before_it_is_needed() -> None:
    array = Recorded()
    labels: Any = StoredLabels(array, CPU)
    assert labels.at_once == 4
    for epoch in range(VIEWS):
        rows, stored = labels.plan(epoch)
        labels.targets(rows, stored, None, None, 1.0)
        assert len(labels._read) == 2, "what is used, and what comes next"
        labels._reader.submit(int).result()
        ahead = min(epoch // 4 * 4 + 8, 12)
        assert array.reads[: ahead // 4] == [(start, start + 4) for start in range(0, ahead, 4)]
    assert array.reads == [(0, 4), (4, 8), (8, 12), (0, 4)], "the last read is for the next round"


def test_views_at_once_fit_chunks_and_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    assert views_at_once(LabelShape(50_000, 300, 1000), 15) == 15
    assert views_at_once(LabelShape(200_000, 300, 1000), 15) == 5
    assert views_at_once(LabelShape(100_000, 300, 1000), 15) == 5, "10 fit, but would cross the border of a chunk"
    assert views_at_once(LabelShape(10**7, 300, 1000), 16) == 1
    assert store.chunk_views((50_000, 300, 1000), "float16") == 15


def test_labels_of_another_type_are_refused() -> None:
    with pytest.raises(DataError, match="stored labels: logits must be fp16, got float32"):
        StoredLabels(np.zeros((2, 3, 4), dtype=np.float32), CPU)


def test_a_store_that_cannot_be_read_is_not_silent(tmp_path: Path) -> None:
    class Broken(Recorded):
        def __getitem__(self, index: Any) -> Any:
            raise OSError("the disk is gone")

    labels: Any = StoredLabels(Broken(), CPU)
    rows, stored = labels.plan(0)
    with pytest.raises(OSError, match="the disk is gone"):
        labels.targets(rows, stored, None, None, 1.0)
