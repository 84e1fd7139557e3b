"""`CondensedLoader`: each item once per epoch, in even batches, divided among the processes that train together."""

from __future__ import annotations

import math

import pytest
import torch
from condensed import ALL, N, dataset_of, image_set
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from dcpipe.dataset import CondensedLoader
from dcpipe.random import permutation
from dcpipe.types import MIXES, DataError, Mix


@settings(deadline=None, max_examples=10)
@given(batch_size=st.integers(1, N + 3), seed=st.integers(0, 5))
def test_the_loader_gives_each_item_once_per_epoch_with_its_label(batch_size: int, seed: int) -> None:
    dataset = dataset_of("none")
    loader = CondensedLoader(dataset, batch_size, seed=seed, finish=lambda inputs: inputs * 2 - 1)
    orders = []
    for epoch in (0, 1):
        pieces = list(loader.batches(epoch))
        assert dataset.epoch == epoch and len(pieces) == len(loader)
        sizes = [len(inputs) for inputs, _ in pieces]
        assert max(sizes) <= batch_size and max(sizes) - min(sizes) <= 1
        inputs, targets = dataset.batch(ALL)
        seen, said = (torch.cat(parts) for parts in zip(*pieces, strict=True))
        distance = (seen[:, None] - (inputs * 2 - 1)[None]).abs().flatten(2).amax(dim=2)
        order = distance.argmin(dim=1)
        assert sorted(order.tolist()) == list(range(N)) and float(distance.amin(dim=1).max()) < 1e-5
        torch.testing.assert_close(said, targets[order], rtol=0, atol=1e-6)
        orders.append(order.tolist())
    assert orders[0] != orders[1]


@pytest.mark.parametrize("mix", MIXES)
def test_the_loader_and_any_data_loader_give_the_same_pairs(mix: Mix) -> None:
    dataset = dataset_of(mix)
    loader = CondensedLoader(dataset, 4, shuffle=False)
    for epoch in (0, 3):
        loader.set_epoch(epoch)
        fast = [torch.cat(parts) for parts in zip(*loader, strict=True)]
        slow = [torch.cat(parts) for parts in zip(*DataLoader(dataset, batch_size=3), strict=True)]
        for one, other in zip(fast, slow, strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-6)


@pytest.mark.parametrize("mix", MIXES)
def test_class_numbers_are_added_if_requested(mix: Mix) -> None:
    dataset = dataset_of(mix)
    loader = CondensedLoader(dataset, 4, seed=3, finish=lambda inputs: 2 * inputs)
    for epoch in (0, 2):
        plain, both = list(loader.batches(epoch)), list(loader.with_hard(epoch))
        order = permutation(3, epoch, N)
        for (inputs, targets), (same_inputs, (soft, hard)) in zip(plain, both, strict=True):
            assert torch.equal(inputs, same_inputs) and torch.equal(targets, soft) and hard.dtype == torch.int64
        hards = torch.cat([hard for _, (_, hard) in both]).tolist()
        assert hards == image_set().labels[order].tolist()  # of the image itself, whatever was pasted in


@settings(deadline=None, max_examples=20)
@given(batch_size=st.integers(1, N), world=st.integers(1, 4), seed=st.integers(0, 3))
def test_processes_share_an_epoch(batch_size: int, world: int, seed: int) -> None:
    dataset = dataset_of("none")
    asked: list[int] = []
    items = dataset.items
    dataset.items = lambda order: asked.extend(order.tolist()) or items(order)  # type: ignore[method-assign]
    share = N // world
    for rank in range(world):
        loader = CondensedLoader(dataset, batch_size, seed=seed, rank=rank, world=world)
        sizes = [len(inputs) for inputs, _ in loader.batches(2)]
        # No more steps than the share needs: batches would be smaller than requested.
        assert len(sizes) == len(loader) == math.ceil(share / batch_size)
        assert max(sizes) <= batch_size and sum(sizes) == share
    assert len(set(asked)) == len(asked) == share * world


def test_the_loader_refuses_what_cannot_be() -> None:
    dataset = dataset_of("none")
    for options, sentence in (
        ({"batch_size": 0}, "condensed loader: batch_size is 0; give 1 or more"),
        ({"batch_size": 2, "rank": 2, "world": 2}, "condensed loader: rank is 2 of 2 processes; give 0..1"),
        (
            {"batch_size": 2, "world": 99},
            f"condensed loader: world is 99, but there are only {N} items; use fewer processes",
        ),
    ):
        with pytest.raises(DataError) as error:
            CondensedLoader(dataset, **options)  # type: ignore[arg-type]
        assert str(error.value) == sentence
