"""Recipes: optimizers against their formulas, what decays, and what is refused."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest
import torch
from fitting import CPU, assert_same_weights, batches, fit, make_network
from torch import nn

from dcpipe import networks, training
from dcpipe.training import Batch, Recipe
from dcpipe.types import DataError


@pytest.mark.parametrize(("momentum", "nesterov"), [(0.0, False), (0.875, False), (0.875, True)])
def test_sgd_has_the_momentum_it_is_told(momentum: float, nesterov: bool) -> None:
    """Two steps in float64: v = m v + g + decay w, and w moves by v, or by g + decay w + m v with Nesterov."""
    network = make_network()
    weights = {name: value.detach().double().clone() for name, value in network.named_parameters()}
    velocity = {name: torch.zeros_like(value) for name, value in weights.items()}
    reference = make_network().double()
    recipe = Recipe(
        2, optimizer="sgd", lr=0.1, weight_decay=0.02, schedule="constant", momentum=momentum, nesterov=nesterov
    )
    single = torch.nn.Sequential(network[0], network[4])  # without dropout and batch norm
    plain = torch.nn.Sequential(reference[0], reference[4])

    def one(epoch: int) -> Iterable[Batch]:
        yield next(iter(batches(epoch)))

    training.fit(single, one, training.cross_entropy, recipe, seed=0, device=CPU)
    for epoch in range(2):
        inputs, labels = next(iter(batches(epoch)))
        plain.zero_grad()
        nn.functional.cross_entropy(plain(inputs.double()), labels).backward()
        for name, parameter in reference.named_parameters():
            if parameter.grad is None:
                continue
            slope = parameter.grad + 0.02 * weights[name]
            velocity[name] = momentum * velocity[name] + slope
            weights[name] = weights[name] - 0.1 * (slope + momentum * velocity[name] if nesterov else velocity[name])
            parameter.data = weights[name].clone()
    for name, value in network.named_parameters():
        torch.testing.assert_close(value.detach().double(), weights[name], rtol=1e-5, atol=1e-6)


def test_a_restart_forgets_the_momentum_at_every_milestone() -> None:
    """Steps in float64 with a new velocity in epochs 1 and 3 (a warm-up of one epoch, and milestones after it)."""
    recipe = Recipe(
        *(5, "sgd", 0.1, 0.0, "multistep"),
        milestones=(2, 0.5),
        decay_factor=1.0,
        nesterov=False,
        warmup=1,
        restart=True,
    )
    assert [epoch for epoch in range(5) if recipe.restarts(epoch)] == [3]
    recipe = replace(recipe, milestones=(2, 0.9), warmup=0)  # round(0.9 * 5) is 4
    assert [epoch for epoch in range(5) if recipe.restarts(epoch)] == [2, 4]
    assert not any(replace(recipe, restart=False).restarts(epoch) for epoch in range(5))
    found = []
    for chosen in (recipe, replace(recipe, restart=False)):
        network = nn.Linear(1, 1, bias=False)
        nn.init.zeros_(network.weight)
        one = lambda epoch: iter([(torch.ones(1, 1), None)])  # noqa: E731
        training.fit(network, one, lambda out, _: out.sum(), chosen, seed=0, device=CPU)
        found.append(float(network.weight.detach()))
    expected = []
    for restarts in ([2, 4], []):
        weight = velocity = 0.0
        for epoch in range(5):
            velocity = 0.9 * (0.0 if epoch in restarts else velocity) + 1.0
            weight -= 0.1 * velocity
        expected.append(weight)
    assert found == pytest.approx(expected, abs=1e-6) and expected[0] - expected[1] > 0.1


def test_alrs_of_the_code_keeps_the_rate_of_biases_and_norms() -> None:
    """With a loss that stands still, weights move by a tenth more slowly from the third epoch on."""
    network = make_network()
    before = {name: value.detach().clone() for name, value in network.named_parameters()}
    recipe = Recipe(*(3, "sgd", 1.0, 0.0, "alrs_code"), decay_factor=0.1, momentum=0.0, nesterov=False, decay="weights")

    def loss(out: torch.Tensor, _: Any) -> torch.Tensor:  # a gradient of 1 for every parameter, and a value of 1
        total = sum(parameter.sum() for parameter in network.parameters())
        return total - total.detach() + 1.0

    def one(epoch: int) -> Iterable[Batch]:
        yield torch.ones(2, 5), None

    _, history = training.fit(network, one, loss, recipe, seed=0, device=CPU)
    moved = {name: float((before[name] - value.detach()).mean()) for name, value in network.named_parameters()}
    assert [row["lr"] for row in history] == pytest.approx([1.0, 1.0, 0.1])
    assert moved == pytest.approx({name: 2.1 if name in {"0.weight", "4.weight"} else 3.0 for name in moved}, abs=1e-5)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("decay", ["all", "weights"])
def test_decay_shrinks_what_it_is_for(optimizer: str, decay: str) -> None:
    """With gradients of zero only the decay moves a parameter: w becomes (1 - lr decay) w."""
    network = make_network()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(1.0)
    recipe = Recipe(1, optimizer=optimizer, lr=0.1, weight_decay=0.5, schedule="constant", momentum=0.0, nesterov=False)

    def one(epoch: int) -> Iterable[Batch]:
        yield torch.ones(2, 5), None

    training.fit(network, one, lambda out, _: 0 * out.sum(), replace(recipe, decay=decay), seed=0, device=CPU)
    shrunk = {name for name, value in network.named_parameters() if torch.allclose(value, torch.tensor(0.95))}
    kept = {name for name, value in network.named_parameters() if torch.equal(value, torch.ones_like(value))}
    matrices = {"0.weight", "4.weight"}
    others = {"0.bias", "1.weight", "1.bias", "4.bias"}
    assert (shrunk, kept) == ((matrices | others, set()) if decay == "all" else (matrices, others))


def test_weights_that_decay_are_called_so() -> None:
    """As in the official code: a Swin transformer's tables of relative positions do not decay, its matrices do."""
    network = networks.build("swin_t", 3, 64)
    recipe = Recipe(1, decay="weights", weight_decay=0.1)
    decayed, others = training.grouped(network, recipe)
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    assert (decayed["weight_decay"], others["weight_decay"]) == (0.1, 0.0)
    assert len(names) == len(decayed["params"]) + len(others["params"])
    assert {names[id(p)].rpartition(".")[2] for p in decayed["params"]} == {"weight"}
    matrices = {names[id(p)].rpartition(".")[2] for p in others["params"] if p.dim() > 1}
    assert matrices == {"relative_position_bias_table"}


@pytest.mark.parametrize(
    "change",
    [
        {"momentum": 0.5},
        {"nesterov": False},
        {"decay": "weights"},
        {"warmup": 1},
        {"schedule": "multistep", "milestones": (2,)},
        {"schedule": "multistep", "milestones": (2,), "decay_factor": 0.1},
        {"schedule": "alrs_code"},
    ],
)
def test_every_option_changes_the_network(change: dict[str, Any]) -> None:
    first, _ = fit(Recipe(3, optimizer="sgd", lr=0.1, weight_decay=0.1))
    other, _ = fit(Recipe(3, optimizer="sgd", lr=0.1, weight_decay=0.1, **change))
    with pytest.raises(AssertionError):
        assert_same_weights(first, other)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"optimizer": "lion"}, "training: unknown optimizer 'lion'; choose one of adamw, sgd"),
        (
            {"schedule": "step"},
            "training: unknown schedule 'step'; choose one of smoothing, constant, linear, ssrs, multistep, alrs, "
            "alrs_code",
        ),
        ({"decay": "none"}, "training: unknown decay 'none'; choose one of all, weights"),
        ({"momentum": 1.0}, "training: momentum must be in [0, 1), got 1.0"),
        (
            {"optimizer": "sgd", "momentum": 0.0},
            "training: nesterov needs a momentum above 0; set nesterov false or raise momentum",
        ),
        ({"warmup": 1}, "training: warmup must be in 0..0 of 1 epochs, got 1"),
        ({"decay_factor": 0.0}, "training: decay_factor must be in (0, 1], got 0.0"),
        (
            {"schedule": "linear", "zeta": 0.5},
            "training: schedule linear needs zeta of at least 1, got 0.5: the rate would fall below 0",
        ),
        (
            {"schedule": "multistep"},
            "training: schedule multistep needs milestones, found none; give epochs or fractions of them, as in "
            "[0.8, 0.9]",
        ),
        (
            {"restart": True},
            "training: restart needs schedule multistep, found smoothing; set restart false, or choose multistep and "
            "give milestones",
        ),
        *(
            (
                {"schedule": "multistep", "milestones": (0.5, place)},
                f"training: milestone {place} is neither an epoch (an integer from 1) nor a fraction in (0, 1)",
            )
            for place in (0, 1.0, 1.5)
        ),
        ({"epochs": 0}, "training: epochs must be at least 1, got 0"),
        ({"ema": 1.0}, "training: ema must be in [0, 1), got 1.0"),
    ],
)
def test_a_recipe_refuses(change: dict[str, object], sentence: str) -> None:
    with pytest.raises(DataError) as error:
        Recipe(**{"epochs": 1, **change})
    assert str(error.value) == sentence
