"""The training loop: schedules, averages, losses, and a resumed run that equals an unbroken one bit for bit."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from dcpipe import training
from dcpipe.training import Batch, Recipe, schedules
from dcpipe.training.schedules import Moment
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


def test_constant_never_changes_the_rate() -> None:
    _, history = fit(Recipe(EPOCHS, lr=0.02, schedule="constant"))
    assert [row["lr"] for row in history] == [0.02] * EPOCHS


def slow_rates(schedule: str, n: int, zeta: float) -> list[float]:
    """Shares of the base rate by epoch, from the papers' formulas."""
    rates = []
    for e in range(n):
        if schedule == "linear":
            rates.append(1 - e / (zeta * n))
        elif e <= 5 * n / 6:
            rates.append((1 + math.cos(e * math.pi / (zeta * n))) / 2)
        else:
            rates.append((1 + math.cos(5 * math.pi / (zeta * 6))) / 2 * (6 * n - 6 * e) / (6 * n))
    return rates


@pytest.mark.parametrize("zeta", [1.0, 2.0, 3.0])
@pytest.mark.parametrize("n", [1, 4, 7, 12, 300])
@pytest.mark.parametrize("schedule", ["linear", "ssrs"])
def test_linear_and_ssrs_are_their_formulas_at_each_epoch(schedule: str, n: int, zeta: float) -> None:
    recipe = Recipe(n, lr=0.5, schedule=schedule, zeta=zeta)
    found = [recipe.rate(epoch, []) for epoch in range(n)]
    np.testing.assert_allclose(found, [0.5 * rate for rate in slow_rates(schedule, n, zeta)], rtol=1e-12)


def at(epoch: float, **options: Any) -> Moment:
    return Moment(epoch, 300, **options)  # type: ignore[arg-type]


def test_schedules_end_where_the_papers_say() -> None:
    assert [schedules.smoothing(at(0)), schedules.linear(at(0)), schedules.ssrs(at(0))] == [1, 1, 1]
    assert schedules.smoothing(at(300)) == pytest.approx(0.0, abs=1e-15)
    assert schedules.smoothing(at(300, zeta=2.0)) == pytest.approx(0.5)
    assert schedules.linear(at(300)) == 0.0 and schedules.linear(at(300, zeta=2.0)) == 0.5
    assert schedules.ssrs(at(300, zeta=2.0)) == 0.0


def test_ssrs_is_smoothing_up_to_five_sixths_and_then_starts_from_a_sixth_of_it() -> None:
    """The printed formula jumps: the second branch's factor (N - e) / N is 1/6 where it takes over."""
    for zeta in (1.0, 2.0):
        left, right = schedules.ssrs(at(250, zeta=zeta)), schedules.ssrs(at(250 + 1e-9, zeta=zeta))
        assert left == schedules.smoothing(at(250, zeta=zeta))
        assert right == pytest.approx(left / 6)
    assert (left, right) == (pytest.approx(0.6294, abs=1e-4), pytest.approx(0.1049, abs=1e-4))


@pytest.mark.parametrize("milestones", [(800, 900, 950), (0.8, 0.9, 0.95)])
def test_multistep_halves_at_each_milestone(milestones: tuple[float, ...]) -> None:
    """EDC's CIFAR-10: torch's MultiStepLR with milestones as epochs, or as fractions of them."""
    recipe = Recipe(1000, lr=1.0, schedule="multistep", milestones=milestones, decay_factor=0.5)
    found = [recipe.rate(epoch, []) for epoch in range(1000)]
    assert found == [1.0] * 800 + [0.5] * 100 + [0.25] * 50 + [0.125] * 50


def test_alrs_slows_down_where_the_loss_stands_still_by_both_measures() -> None:
    recipe = Recipe(7, lr=1.0, schedule="alrs", decay_factor=0.5)
    # |step| <= 0.02 and |step| / |new| <= 0.02:   no    yes    no: 1%, 0.05   yes    no: 5%, 0.005
    losses = [9.0, 5.0, 5.01, 5.06, 5.06, 0.1, 0.105]
    assert [recipe.rate(epoch, losses[:epoch]) for epoch in range(7)] == [1, 1, 1, 0.5, 0.5, 0.25, 0.25]
    assert recipe.rate(1, losses) == 1  # later losses are not looked at
    rng = np.random.default_rng(0)
    losses = list(np.cumsum(rng.normal(0, 0.02, 40)) + rng.choice([0.3, 3], 40))
    rates, rate = [1.0], 1.0
    for i in range(1, 40):
        step = abs(losses[i] - losses[i - 1])
        rate *= 0.5 if i and step / abs(losses[i]) <= 0.02 and step <= 0.02 else 1
        rates.append(rate)
    long = Recipe(41, lr=1.0, schedule="alrs", decay_factor=0.5)
    assert [long.rate(epoch + 1, losses) for epoch in range(40)] == rates and rate < 1


@pytest.mark.parametrize("schedule", ["smoothing", "constant", "linear", "ssrs", "multistep", "alrs"])
def test_a_warm_up_rises_to_a_schedule_of_the_epochs_left(schedule: str) -> None:
    losses = [5.0, 5.0, 5.0, 4.0, 3.0, 3.0, 3.0, 2.0, 2.0, 1.0]
    options = {"lr": 2.0, "schedule": schedule, "milestones": (2, 0.75), "zeta": 1.5}
    warm = Recipe(10, warmup=4, **options)
    found = [warm.rate(epoch, losses[:epoch]) for epoch in range(10)]
    assert found[:4] == pytest.approx([2 * (0.01 + 0.99 * epoch / 4) for epoch in range(4)])
    later = Recipe(6, **options)
    assert found[4:] == [later.rate(epoch, losses[4 : 4 + epoch]) for epoch in range(6)]


def still(epoch: int) -> Iterable[Batch]:
    """The same two batches whatever the epoch: without dropout the loss changes only as weights do."""
    return [next(iter(batches(0))), next(iter(batches(1)))]


def steady(recipe: Recipe, **options: Any) -> tuple[nn.Module, list[dict[str, float]]]:
    """A training whose losses fall a little in each epoch."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))
    return training.fit(network, still, training.cross_entropy, recipe, seed=1, device=CPU, **options)


def test_every_schedule_trains_at_rates_of_its_own() -> None:
    seen = {}
    for schedule in schedules.SCHEDULES:
        recipe = Recipe(13, lr=1e-3, schedule=schedule, zeta=2.0, milestones=(0.5,))
        _, history = steady(recipe)
        losses = [row["loss"] for row in history]
        assert [row["lr"] for row in history] == [recipe.rate(epoch, losses[:epoch]) for epoch in range(13)]
        seen[schedule] = [row["lr"] for row in history]
    assert len({tuple(rates) for rates in seen.values()}) == len(seen) == 6


# --- optimisers ---


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


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("momentum", [0.0, 0.875])
def test_sgd_has_the_momentum_it_is_told(momentum: float, nesterov: bool) -> None:
    """Two steps in float64: v = m v + g + decay w, and w moves by v, or by g + decay w + m v with Nesterov."""
    if nesterov and momentum == 0:
        return
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


@pytest.mark.parametrize(
    "change",
    [
        {"momentum": 0.5},
        {"nesterov": False},
        {"decay": "weights"},
        {"warmup": 1},
        {"schedule": "multistep", "milestones": (2,)},
        {"schedule": "multistep", "milestones": (2,), "decay_factor": 0.1},
    ],
)
def test_every_option_changes_the_network(change: dict[str, Any]) -> None:
    first, _ = fit(Recipe(3, optimizer="sgd", lr=0.1, weight_decay=0.1))
    other, _ = fit(Recipe(3, optimizer="sgd", lr=0.1, weight_decay=0.1, **change))
    with pytest.raises(AssertionError):
        assert_same_weights(first, other)


# --- resuming ---


RECIPES = [
    *(Recipe(EPOCHS, optimizer=name, lr=0.05, ema=ema) for name in ("adamw", "sgd") for ema in (0.0, 0.9)),
    Recipe(EPOCHS, lr=0.01, schedule="multistep", milestones=(2, 0.75), decay="weights"),
    Recipe(EPOCHS, lr=0.01, schedule="ssrs", optimizer="sgd", momentum=0.5, nesterov=False, warmup=2),
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

        def spied(epoch: int, asked: list[int] = asked) -> Iterable[Batch]:
            asked.append(epoch)
            return batches(epoch)

        resumed, rows = fit(recipe, checkpoint=checkpoint, source=spied)
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

    def spied(epoch: int) -> Iterable[Batch]:
        # A generator resumes after the step on the batch before: there the weights are read.
        for batch in batches(epoch):
            yield batch
            for name, value in network.named_parameters():
                slow[name] = decay * slow[name] + (1 - decay) * value.detach().double()

    recipe = Recipe(3, lr=0.05, ema=decay)
    averaged, _ = training.fit(network, spied, training.cross_entropy, recipe, seed=1, device=CPU)
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


# --- refusals ---


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"optimizer": "lion"}, "training: unknown optimizer 'lion'; choose one of adamw, sgd"),
        (
            {"schedule": "step"},
            "training: unknown schedule 'step'; choose one of smoothing, constant, linear, ssrs, multistep, alrs",
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
    with pytest.raises(DataError, match=r"^evaluation: the split holds no images$"):
        training.confusion(nn.Identity(), [], 4, torch.device("cpu"))
