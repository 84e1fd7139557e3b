"""The training loop: scheduled rates, averages, accuracy, and a resumed run that equals an unbroken one bit for bit."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import torch
from fitting import CPU, assert_same_weights, batches, fit, make_network, steady, still
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from dcpipe import training
from dcpipe.training import Batch, Recipe, loop, schedules
from dcpipe.training.loop import checkpoint_pause
from dcpipe.types import DataError

EPOCHS = 4


class InterruptionError(Exception):
    """What a kill looks like from inside."""


def test_every_schedule_trains_at_rates_of_its_own() -> None:
    seen = {}
    for schedule in schedules.SCHEDULES:
        recipe = Recipe(13, lr=1e-3, schedule=schedule, zeta=2.0, milestones=(0.5,))
        _, history = steady(recipe)
        losses = [row["loss"] for row in history]
        assert [row["epoch"] for row in history] == list(range(13))
        assert [row["lr"] for row in history] == [recipe.rate(epoch, losses[:epoch]) for epoch in range(13)]
        seen[schedule] = [row["lr"] for row in history]
    alike = seen.pop("alrs_code")  # `alrs` but for the bounds
    assert alike == seen["alrs"]
    assert len({tuple(rates) for rates in seen.values()}) == len(seen) == 6


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


RECIPES = [
    *(Recipe(EPOCHS, optimizer=name, lr=0.05, ema=ema) for name in ("adamw", "sgd") for ema in (0.0, 0.9)),
    Recipe(EPOCHS, lr=0.01, schedule="multistep", milestones=(2, 0.75), decay="weights"),
    Recipe(EPOCHS, lr=0.01, schedule="ssrs", optimizer="sgd", momentum=0.5, nesterov=False, warmup=2),
    Recipe(EPOCHS, lr=0.05, schedule="multistep", optimizer="sgd", milestones=(2, 3), restart=True),
]


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: f"{recipe.schedule}-{recipe.optimizer}-{recipe.ema}")
def test_a_run_stopped_in_any_epoch_ends_as_an_unbroken_one(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DCPIPE_CHECKPOINT_SECONDS", "0")
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

        def recording(epoch: int, asked: list[int] = asked) -> Iterable[Batch]:
            asked.append(epoch)
            return batches(epoch)

        resumed, rows = fit(recipe, checkpoint=checkpoint, source=recording)
        assert_same_weights(resumed, whole)
        assert rows == history
        assert asked == list(range(stop, EPOCHS)), "finished epochs ran again"


@pytest.mark.parametrize("stop", [2, 4])
def test_a_resumed_run_goes_on_at_the_rates_that_its_losses_have_earned(
    stop: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DCPIPE_CHECKPOINT_SECONDS", "0")
    recipe = Recipe(6, lr=2e-3, schedule="alrs", decay_factor=0.5)
    whole, history = steady(recipe)
    rates = [row["lr"] for row in history]
    assert rates[stop] < rates[0] and rates[-1] < rates[stop - 1], "the rate must fall before the stop and after it"

    def kill(row: dict[str, float]) -> None:
        if row["epoch"] == stop:
            raise InterruptionError

    checkpoint = tmp_path / "fit.pt"
    with pytest.raises(InterruptionError):
        steady(recipe, checkpoint=checkpoint, report=kill)
    resumed, rows = steady(recipe, checkpoint=checkpoint)
    assert_same_weights(resumed, whole)
    assert rows == history


def test_a_long_epoch_is_heard_of_before_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """And says nothing in a short one. Weights and history are the same."""
    rows: list[dict[str, float]] = []
    plain, history = steady(Recipe(2), report=rows.append)
    assert rows == history
    monkeypatch.setattr(loop, "REPORT_SECONDS", -1.0)
    rows.clear()
    heard, again = steady(Recipe(2), report=rows.append)
    assert_same_weights(heard, plain)
    assert again == history and [row for row in rows if "batch" not in row] == history
    steps = len(list(still(0)))
    assert [(row["epoch"], row["batch"]) for row in rows if "batch" in row] == [
        (epoch, batch + 1) for epoch in range(2) for batch in range(steps)
    ]
    last = [row["loss"] for row in rows if row.get("batch") == steps]
    assert last == [row["loss"] for row in history]


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


def test_the_average_is_the_slow_recurrence_in_float64_with_the_running_statistics_of_the_network() -> None:
    decay, network = 0.8, make_network()
    slow = {name: value.detach().double().clone() for name, value in network.named_parameters()}

    def recording(epoch: int) -> Iterable[Batch]:
        # A generator resumes after the step on the batch before: there the weights are read.
        for batch in batches(epoch):
            yield batch
            for name, value in network.named_parameters():
                slow[name] = decay * slow[name] + (1 - decay) * value.detach().double()

    recipe = Recipe(3, lr=0.05, ema=decay)
    averaged, _ = training.fit(network, recording, training.cross_entropy, recipe, seed=1, device=CPU)
    assert averaged is not network
    for name, value in averaged.named_parameters():
        torch.testing.assert_close(value.double(), slow[name], rtol=1e-5, atol=1e-6)
    assert not torch.allclose(averaged.state_dict()["0.weight"], network.state_dict()["0.weight"], atol=1e-4)
    online, start = dict(network.named_buffers()), dict(make_network().named_buffers())
    assert {name.split(".")[1] for name in online} == {"running_mean", "running_var", "num_batches_tracked"}
    for name, value in averaged.named_buffers():
        assert torch.equal(value, online[name]) and not torch.equal(value, start[name])


def test_without_an_average_the_network_itself_is_returned_ready_to_use() -> None:
    network = make_network()
    result, _ = training.fit(network, batches, training.cross_entropy, Recipe(1), seed=0, device=CPU)
    assert result is network and not result.training


def test_a_loss_that_stops_being_finite_stops_the_run_before_a_checkpoint(tmp_path: Path) -> None:
    def loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return logits.sum() * float("nan")

    with pytest.raises(DataError) as error:
        training.fit(make_network(), batches, loss, Recipe(1, lr=0.5), seed=0, device=CPU, checkpoint=tmp_path / "c")
    assert str(error.value) == "training: the loss became nan in epoch 0; lower lr, which is 0.5"
    assert list(tmp_path.iterdir()) == []


def test_an_epoch_without_batches_is_refused() -> None:
    with pytest.raises(DataError, match=r"^training: an epoch had no batches; check that the data is not empty$"):
        fit(Recipe(1), source=lambda epoch: [])


def test_a_gpu_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert training.pick_device("auto") == CPU
    with pytest.raises(DataError) as error:
        training.pick_device("cuda:1")
    assert str(error.value) == "device 'cuda:1' was requested, but no GPU is visible; use auto or cpu"


def test_a_gpu_of_a_number_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert training.pick_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(DataError, match=r"^device 'cuda:2' was requested, but 2 GPUs are visible; use a lower number$"):
        training.pick_device("cuda:2")


@pytest.mark.parametrize("name", ["", "gpu", "CPU", "cpu ", "meta", "cuda:-1"])
def test_a_name_that_is_no_device_is_refused(name: str) -> None:
    with pytest.raises(DataError, match=rf"^device '{name}' is unknown; use auto, cpu, cuda, cuda:N or mps \("):
        training.pick_device(name)


@pytest.mark.parametrize("written", ["", "soon", "-1", "nan"])
def test_the_pause_between_checkpoints_is_a_number(written: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DCPIPE_CHECKPOINT_SECONDS", written)
    with pytest.raises(DataError, match=rf"^DCPIPE_CHECKPOINT_SECONDS is '{written}'; give a number of seconds, or"):
        checkpoint_pause()


# --- accuracy ---


@settings(deadline=None, max_examples=30)
@given(sizes=st.lists(st.integers(1, 7), min_size=1, max_size=5), seed=st.integers(0, 10**6))
def test_accuracy_counts_images_not_batches(sizes: list[int], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    data = [(torch.randn(n, 3, generator=generator), torch.randint(0, 3, (n,), generator=generator)) for n in sizes]
    right = sum(
        int(row.argmax()) == int(label) for rows, labels in data for row, label in zip(rows, labels, strict=True)
    )
    assert training.accuracy(nn.Identity(), data, CPU) == 100.0 * right / sum(sizes)


def test_accuracy_measures_in_evaluation_mode_and_refuses_nothing() -> None:
    network = nn.Sequential(nn.Dropout(0.99)).train()
    inputs = torch.eye(3)
    assert training.accuracy(network, [(inputs, torch.arange(3))], CPU) == 100.0
    with pytest.raises(DataError, match=r"^evaluation: the split has no images; choose one that has some$"):
        training.accuracy(network, [], CPU)


def test_the_confusion_matrix_counts_every_image_once() -> None:
    generator = torch.Generator().manual_seed(0)
    outputs, labels = torch.randn(50, 4, generator=generator), torch.randint(0, 4, (50,), generator=generator)
    batches = [(outputs[:7], labels[:7]), (outputs[7:], labels[7:])]
    counts = training.confusion(nn.Identity(), batches, 4, torch.device("cpu"))
    expected = np.zeros((4, 4), dtype=np.int64)
    for row, label in zip(outputs.argmax(1).tolist(), labels.tolist(), strict=True):
        expected[label, row] += 1
    assert counts.tolist() == expected.tolist()
    assert training.accuracy_of(counts) == training.accuracy(nn.Identity(), batches, torch.device("cpu"))
    with pytest.raises(DataError, match=r"^evaluation: the split has no images; choose one that has some$"):
        training.confusion(nn.Identity(), [], 4, torch.device("cpu"))
