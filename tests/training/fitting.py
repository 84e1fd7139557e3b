"""A small training that the tests of the loop and of recipes share."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

from dcpipe import training
from dcpipe.training import Batch, Recipe

CPU = torch.device("cpu")


def make_network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 3))


def batches(epoch: int) -> Iterable[Batch]:
    """Three batches that are a function of the epoch."""
    generator = torch.Generator().manual_seed(epoch)
    for _ in range(3):
        inputs = torch.randn(6, 5, generator=generator)
        yield inputs, torch.randint(0, 3, (6,), generator=generator)


def fit(
    recipe: Recipe,
    *,
    seed: int = 1,
    source: Callable[[int], Iterable[Batch]] = batches,
    **options: object,
) -> tuple[nn.Module, list[dict[str, float]]]:
    return training.fit(make_network(), source, training.cross_entropy, recipe, seed=seed, device=CPU, **options)


def assert_same_weights(first: nn.Module, second: nn.Module) -> None:
    ours, theirs = first.state_dict(), second.state_dict()
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []


def still(epoch: int) -> Iterable[Batch]:
    """The same two batches whatever the epoch: without dropout the loss changes only as weights do."""
    return [next(iter(batches(0))), next(iter(batches(1)))]


def steady(recipe: Recipe, **options: Any) -> tuple[nn.Module, list[dict[str, float]]]:
    """A training whose losses fall a little in each epoch."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))
    return training.fit(network, still, training.cross_entropy, recipe, seed=1, device=CPU, **options)
