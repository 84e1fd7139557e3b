"""The training loop: schedules, averages, losses, and a resumed run that equals an unbroken one bit for bit."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from dcpipe import training
from dcpipe.training import Batch, Recipe
from dcpipe.types import DataError

CPU = torch.device("cpu")
EPOCHS = 4


class InterruptionError(Exception):
    """What a kill looks like from inside."""


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


# --- schedules ---


@pytest.mark.parametrize("zeta", [1.0, 1.5, 2.0])
def test_smoothing_is_its_formula_at_each_epoch(zeta: float) -> None:
    _, history = fit(Recipe(EPOCHS, lr=0.02, schedule="smoothing", zeta=zeta))
    expected = [0.02 * 0.5 * (1 + math.cos(math.pi * e / (zeta * EPOCHS))) for e in range(EPOCHS)]
    np.testing.assert_allclose([row["lr"] for row in history], expected, rtol=1e-12)
    assert [row["epoch"] for row in history] == list(range(EPOCHS))


def test_smoothing_ends_where_the_paper_says() -> None:
    assert training.smoothing(0, 10, 1.0) == 1.0
    assert training.smoothing(10, 10, 1.0) == pytest.approx(0.0, abs=1e-15)
    assert training.smoothing(10, 10, 2.0) == pytest.approx(0.5)


def test_constant_never_changes_the_rate() -> None:
    _, history = fit(Recipe(EPOCHS, lr=0.02, schedule="constant"))
    assert [row["lr"] for row in history] == [0.02] * EPOCHS


def test_the_optimiser_steps_with_the_scheduled_rate() -> None:
    """One step an epoch with a gradient of 1: the weight moves by lr(e) times the Nesterov step."""
    rates = []

    def one_step(epoch: int) -> Iterable[Batch]:
        yield torch.ones(1, 1), torch.zeros(1)

    network = nn.Linear(1, 1, bias=False)
    start = float(network.weight.detach())
    positions = [start]

    def watch(row: dict[str, float]) -> None:
        positions.append(float(network.weight.detach()))
        rates.append(row["lr"])

    recipe = Recipe(3, optimizer="sgd", lr=0.1, weight_decay=0.0)
    training.fit(network, one_step, lambda out, _: out.sum(), recipe, seed=0, device=CPU, report=watch)
    velocity, expected = 0.0, start
    for rate, position in zip(rates, positions[1:], strict=True):  # momentum 0.9
        velocity = 0.9 * velocity + 1.0
        expected -= rate * (1.0 + 0.9 * velocity)
        assert position == pytest.approx(expected, abs=1e-6)


# --- resuming ---


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_a_run_stopped_in_any_epoch_ends_as_an_unbroken_one(
    optimizer: str, ema: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DCPIPE_CHECKPOINT_SECONDS", "0")
    recipe = Recipe(EPOCHS, optimizer=optimizer, lr=0.05, ema=ema)
    whole, history = fit(recipe)
    for stop in range(EPOCHS):
        checkpoint = tmp_path / f"{stop}.pt"

        def kill(row: dict[str, float], stop: int = stop) -> None:
            if row["epoch"] == stop:
                raise InterruptionError

        with pytest.raises(InterruptionError):
            fit(recipe, checkpoint=checkpoint, report=kill)
        torch.rand(stop + 1)  # what happened in between must not matter
        asked: list[int] = []

        def spied(epoch: int, asked: list[int] = asked) -> Iterable[Batch]:
            asked.append(epoch)
            return batches(epoch)

        resumed, rows = fit(recipe, checkpoint=checkpoint, source=spied)
        assert_same_weights(resumed, whole)
        assert rows == history
        assert asked == list(range(stop, EPOCHS)), "finished epochs ran again"


def test_a_finished_checkpoint_trains_no_more(tmp_path: Path) -> None:
    checkpoint = tmp_path / "fit.pt"
    whole, history = fit(Recipe(EPOCHS), checkpoint=checkpoint)

    def never(epoch: int) -> Iterable[Batch]:
        raise AssertionError(f"epoch {epoch} ran again")

    again, rows = fit(Recipe(EPOCHS), checkpoint=checkpoint, source=never)
    assert_same_weights(again, whole)
    assert rows == history
    assert [path.name for path in tmp_path.iterdir()] == ["fit.pt"]


def test_checkpoints_wait_for_their_interval_but_the_last_one_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DCPIPE_CHECKPOINT_SECONDS", "1000")
    checkpoint = tmp_path / "fit.pt"
    there: list[bool] = []
    fit(Recipe(EPOCHS), checkpoint=checkpoint, report=lambda row: there.append(checkpoint.exists()))
    assert there == [False] * EPOCHS and checkpoint.exists()


def test_the_seed_decides_dropout_whatever_came_before() -> None:
    recipe = Recipe(2)
    first, _ = fit(recipe, seed=1)
    torch.rand(17)
    same, _ = fit(recipe, seed=1)
    other, _ = fit(recipe, seed=2)
    assert_same_weights(first, same)
    with pytest.raises(AssertionError):
        assert_same_weights(first, other)


@pytest.mark.parametrize("seed", [2**63 - 1, -(2**63)])
def test_any_64_bit_seed_is_a_seed(seed: int) -> None:
    fit(Recipe(1), seed=seed)


# --- the averaged weights ---


def test_the_average_is_the_slow_recurrence_in_float64() -> None:
    decay, network = 0.8, make_network()
    slow = {name: value.double().clone() for name, value in network.state_dict().items()}

    def spied(epoch: int) -> Iterable[Batch]:
        # A generator resumes after the step on the batch before: there the weights are read.
        for batch in batches(epoch):
            yield batch
            for name, value in network.state_dict().items():
                if value.is_floating_point():
                    slow[name] = decay * slow[name] + (1 - decay) * value.double()
                else:
                    slow[name] = value.double().clone()

    recipe = Recipe(3, lr=0.05, ema=decay)
    averaged, _ = training.fit(network, spied, training.cross_entropy, recipe, seed=1, device=CPU)
    assert averaged is not network
    for name, value in averaged.state_dict().items():
        torch.testing.assert_close(value.double(), slow[name], rtol=1e-5, atol=1e-6)
    assert not torch.allclose(averaged.state_dict()["0.weight"], network.state_dict()["0.weight"], atol=1e-4)


def test_without_an_average_the_network_itself_is_returned_ready_to_use() -> None:
    network = make_network()
    result, _ = training.fit(network, batches, training.cross_entropy, Recipe(1), seed=0, device=CPU)
    assert result is network and not result.training


# --- refusals ---


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"optimizer": "lion"}, "training: unknown optimizer 'lion'; choose one of adamw, sgd"),
        ({"schedule": "step"}, "training: unknown schedule 'step'; choose one of smoothing, constant"),
        ({"epochs": 0}, "training: epochs must be at least 1, got 0"),
        ({"ema": 1.0}, "training: ema must be in [0, 1), got 1.0"),
    ],
)
def test_a_recipe_refuses(change: dict[str, object], sentence: str) -> None:
    with pytest.raises(DataError) as error:
        Recipe(**{"epochs": 1, **change})
    assert str(error.value) == sentence


def test_a_loss_that_stops_being_finite_stops_the_run_before_a_checkpoint(tmp_path: Path) -> None:
    def loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return logits.sum() * float("nan")

    with pytest.raises(DataError) as error:
        training.fit(make_network(), batches, loss, Recipe(1, lr=0.5), seed=0, device=CPU, checkpoint=tmp_path / "c")
    assert str(error.value) == "training: the loss became nan in epoch 0; lower lr (0.5)"
    assert list(tmp_path.iterdir()) == []


def test_an_epoch_without_batches_is_refused() -> None:
    with pytest.raises(DataError, match=r"^training: an epoch held no batch; is the data empty\?$"):
        fit(Recipe(1), source=lambda epoch: [])


def test_a_gpu_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert training.pick_device("auto") == CPU
    with pytest.raises(DataError) as error:
        training.pick_device("cuda:1")
    assert str(error.value) == "device 'cuda:1' asked for, but no GPU is visible; use auto or cpu"
