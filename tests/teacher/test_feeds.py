"""How processes share the images of an epoch: together they see what one process sees."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from image_tables import write_table

from dcpipe import teacher
from dcpipe.teacher import feeds
from dcpipe.training import Group
from dcpipe.types import DataError, ImageTable

CPU = torch.device("cpu")
N = 61


@pytest.fixture
def table(tmp_path: Path) -> ImageTable:
    source = np.random.default_rng(0)
    pixels = source.integers(0, 255, (N, 4, 4, 3), dtype=np.uint8)
    return write_table(tmp_path, pixels, source.integers(0, 3, N), source.permutation(10 * N)[:N], 8, ("a", "b", "c"))


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(("world", "batch_size"), [(2, 8), (3, 11), (5, 61)])
def test_shares_together_are_the_batches_of_one_process(
    table: ImageTable, streamed: bool, world: int, batch_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same images, in the same batches and the same order."""
    monkeypatch.setattr(feeds, "MEMORY_BYTES", 0 if streamed else 10**9)
    alone = teacher.feed_of(table, batch_size, 7, CPU)
    shares = [teacher.feed_of(table, batch_size, 7, CPU, Group(rank, world)) for rank in range(world)]
    for epoch in (0, 3):
        whole, sizes = list(alone(epoch)), teacher.batch_sizes(table, batch_size)
        assert [len(ids) for _, _, ids in whole] == sizes and sum(sizes) == N
        for batch, *parts in zip(whole, *(share(epoch) for share in shares), strict=True):
            assert torch.equal(torch.cat([pixels for pixels, _, _ in parts]), batch[0])
            for field in (1, 2):
                assert np.concatenate([part[field] for part in parts]).tolist() == batch[field].tolist()


def test_nothing_is_read_before_the_first_epoch(table: ImageTable) -> None:
    feed = teacher.feed_of(table, 8, 0, CPU)
    for part in table.parts:
        part.unlink()
    with pytest.raises((DataError, OSError)):
        next(feed(0))


def test_more_processes_than_images_in_a_batch_are_refused(table: ImageTable, monkeypatch: pytest.MonkeyPatch) -> None:
    teacher.check_shares(table, 61, 61)
    teacher.check_shares(table, 1, 1)
    with pytest.raises(DataError) as error:
        teacher.check_shares(table, 8, 8)
    assert str(error.value) == (
        "teacher.training.batch_size is 8, and the smallest batch of an epoch has 7 images, too few for 8 processes; "
        "use at most 7 processes (DCPIPE_PROCESSES), or change batch_size"
    )
    monkeypatch.setattr(feeds, "MEMORY_BYTES", 0)  # a streamed epoch ends with what is left
    with pytest.raises(DataError, match="the smallest batch of an epoch has 1 images, too few for 2 processes; use at"):
        teacher.check_shares(table, 12, 2)
