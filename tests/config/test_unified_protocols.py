"""`rd3` and `hard`, the same for all data sets: their optimiser is Adam, and they differ in the labels alone."""

from __future__ import annotations

import copy

import pytest
import torch

from dcpipe.config.protocols import PROTOCOLS, Settings, describe
from dcpipe.training import OPTIMIZERS, Recipe
from dcpipe.training.recipe import grouped

NAMES = ("rd3", "rd3/other-students", "hard")


def settings(name: str) -> dict[str, object]:
    return Settings(protocol=name).model_dump(exclude={"protocol"})  # type: ignore[call-arg]  # a protocol fills them


def test_hard_labels_train_as_rd3_does_but_for_the_labels() -> None:
    """So that the difference of both scores is what the labels contribute."""
    assert {key for key, value in settings("hard").items() if settings("rd3")[key] != value} == {"temperature"}
    assert {**(PROTOCOLS["rd3"].views or {}), "mix": "none"} == {"scale_min": 0.08, "mix": "none"}
    assert PROTOCOLS["hard"].views == {}  # crops of at least 0.08 and flips are plain views


def test_students_differ_by_zeta_alone() -> None:
    """ResNet-18 has 1, others 2."""
    first, other = settings("rd3"), settings("rd3/other-students")
    assert {key: (first[key], other[key]) for key in first if first[key] != other[key]} == {"zeta": (1.0, 2.0)}


@pytest.mark.parametrize("name", NAMES)
def test_the_optimiser_is_adam(name: str) -> None:
    torch.manual_seed(0)
    network = torch.nn.Linear(3, 2)
    other, found = copy.deepcopy(network), settings(name)
    recipe = Recipe(epochs=400, optimizer="adamw", lr=1e-3, weight_decay=float(str(found["weight_decay"])))
    theirs = torch.optim.Adam(network.parameters(), lr=1e-3)
    ours = OPTIMIZERS["adamw"](grouped(other, recipe), recipe)
    for step in range(3):
        for one, optimizer in ((network, theirs), (other, ours)):
            optimizer.zero_grad()
            one(torch.full((1, 3), 1.0 + step)).square().sum().backward()
            optimizer.step()
    assert torch.equal(network.weight, other.weight) and torch.equal(network.bias, other.bias)


@pytest.mark.parametrize(
    ("name", "views", "differ"),
    [
        ("rd3", {"mix": "cutmix_images"}, False),
        ("rd3", {"mix": "none"}, True),
        ("rd3", {"mix": "cutmix_images", "shuffle": 2}, True),  # RDED's, which RD3 does not name
        ("hard", {"mix": "none"}, False),
        ("hard", {"mix": "cutmix_labels"}, True),
    ],
)
def test_other_views_are_in_the_name(name: str, views: dict[str, object], differ: bool) -> None:
    found = Settings(protocol=name)  # type: ignore[call-arg]
    assert describe(found, views) == name + ("; views differ" if differ else "")
