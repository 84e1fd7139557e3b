"""Students: the losses of protocols against slow references, and the effect of seeds, averages and resuming."""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from releases import CLASSES, SIZE, Parts, parts
from torch import nn

from dcpipe import networks, views
from dcpipe.config import params
from dcpipe.dataset import CondensedDataset
from dcpipe.dataset.targets import HardLabels, OnlineLabels
from dcpipe.evaluation import contenders, whole_images
from dcpipe.evaluation.students import Protocol, protocol_of, train_student, training_losses
from dcpipe.random import permutation
from dcpipe.shards import progress
from dcpipe.training import Recipe
from dcpipe.types import DataError, Mix, ViewPolicy

CPU = torch.device("cpu")
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
TEMPERATURE = 4.0
PROTOCOL = Protocol("score", "convnet-d1-w4", Recipe(4, lr=0.01), 5, TEMPERATURE)


@cache
def some() -> Parts:
    return parts()


def soft() -> CondensedDataset:
    pack = some().pack
    assert pack is not None
    return CondensedDataset.from_pack(some().images, pack, temperature=TEMPERATURE)


def hard(policy: ViewPolicy) -> CondensedDataset:
    images = some().images
    return CondensedDataset(images, HardLabels(images.labels, len(CLASSES), CPU), policy, temperature=TEMPERATURE)


def train(
    dataset: CondensedDataset, protocol: Protocol = PROTOCOL, *, seed: int = 0, **options: object
) -> tuple[nn.Module, list[dict[str, float]]]:
    return train_student(
        dataset, protocol, n_classes=len(CLASSES), mean=MEAN, std=STD, seed=seed, device=CPU, **options
    )


def same(first: nn.Module, second: nn.Module) -> bool:
    ours, theirs = first.state_dict(), second.state_dict()
    return all(torch.equal(value, theirs[name]) for name, value in ours.items())


def fresh(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return networks.build(PROTOCOL.student, len(CLASSES), SIZE)


def test_hard_labels_train_with_cross_entropy() -> None:
    """A training written out again, with torch's own cross-entropy of class numbers."""
    policy = ViewPolicy(scale_min=0.4, seed=3)
    network, history = train(hard(policy), seed=2)
    images, labels = some().images, torch.from_numpy(some().images.labels)
    reference = fresh(2)
    optimizer = torch.optim.AdamW(reference.parameters(), weight_decay=0.01)
    n, losses = len(images), []
    for epoch in range(4):
        for group in optimizer.param_groups:
            group["lr"] = 0.01 * (1 + np.cos(np.pi * epoch / 4)) / 2
        steps = []
        for rows in np.array_split(permutation(2, epoch, n), 3):  # 12 images in batches of at most 5
            numbers = np.full(len(rows), epoch)
            pixels, _ = views.render(torch.from_numpy(images.images), policy, images.ids, rows, numbers, SIZE)
            inputs = (pixels - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
            loss = F.cross_entropy(reference(inputs), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            steps.append(loss.item())
        losses.append(np.mean(steps))
    np.testing.assert_allclose([row["loss"] for row in history], losses, rtol=1e-4)
    for name, value in reference.state_dict().items():
        torch.testing.assert_close(network.state_dict()[name], value, rtol=1e-3, atol=1e-5)


def test_soft_labels_train_with_the_divergence_at_the_temperature() -> None:
    """One step over the whole set: KL(softmax(stored / T) || softmax(student / T)) T^2 in float64."""
    whole = replace(PROTOCOL, recipe=Recipe(1, lr=1e-3), batch_size=12)
    network, history = train(soft(), whole, seed=1)
    images, pack = some().images, some().pack
    assert pack is not None
    rows, zeros = np.arange(12), np.zeros(12, dtype=np.int64)
    pixels, _ = views.render(torch.from_numpy(images.images), pack.policy, images.ids, rows, zeros, SIZE)
    start = fresh(1)
    with torch.no_grad():
        said = start(views.normalise(pixels, MEAN, STD)).double().numpy()
    p, q = (np.exp(logits / TEMPERATURE) for logits in (pack.arrays["logits"][:, 0].astype(np.float64), said))
    p, q = p / p.sum(axis=1, keepdims=True), q / q.sum(axis=1, keepdims=True)
    expected = TEMPERATURE**2 * (p * np.log(p / q)).sum(axis=1).mean()
    assert history[0]["loss"] == pytest.approx(expected, rel=1e-4)
    assert not same(network, start)


def test_the_student_learns_its_labels() -> None:
    whole_images = hard(ViewPolicy(scale_min=1.0, flip=0.0))
    network, history = train(whole_images, replace(PROTOCOL, recipe=Recipe(30, lr=0.05)))
    assert history[-1]["loss"] < 0.3 < np.log(3) < history[0]["loss"]
    inputs, targets = whole_images.batch(np.arange(12))
    assert torch.equal(network(views.normalise(inputs, MEAN, STD)).argmax(1), targets.argmax(1))


def test_a_seed_names_a_student_to_the_bit() -> None:
    first, second = train(soft(), seed=3), train(soft(), seed=3)
    assert same(first[0], second[0]) and first[1] == second[1]
    other = train(soft(), seed=4)
    assert not same(first[0], other[0]) and first[1] != other[1]


def test_the_seed_decides_the_order_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """With equal initial weights, students of two seeds still differ."""
    start = fresh(0)
    monkeypatch.setattr("dcpipe.evaluation.students.networks.build", lambda name, n_classes, size: copy.deepcopy(start))
    assert not same(train(soft(), seed=0)[0], train(soft(), seed=1)[0])


class KilledError(Exception):
    """Simulates the kill of a run."""


@pytest.mark.parametrize("ema", [0.0, 0.8])
@pytest.mark.parametrize("stop", [0, 2])
def test_a_killed_student_ends_as_an_uninterrupted_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ema: float, stop: int
) -> None:
    monkeypatch.setenv("DCPIPE_CHECKPOINT_SECONDS", "0")
    protocol = replace(PROTOCOL, recipe=Recipe(4, lr=0.01, ema=ema))
    unbroken, history = train(soft(), protocol)
    path = tmp_path / "student.pt"

    def kill(row: dict[str, float]) -> None:
        if row["epoch"] == stop + 1:
            raise KilledError

    with pytest.raises(KilledError):
        train(soft(), protocol, checkpoint=path, report=kill)
    assert len(torch.load(path, weights_only=True)["history"]) == stop + 1
    told: list[dict[str, float]] = []
    resumed, rows = train(soft(), protocol, checkpoint=path, report=told.append)
    assert same(unbroken, resumed) and rows == history
    assert [row["epoch"] for row in told] == list(range(stop + 1, 4))


def test_an_average_is_another_student() -> None:
    plain, rows = train(soft())
    averaged, same_rows = train(soft(), replace(PROTOCOL, recipe=Recipe(4, lr=0.01, ema=0.9)))
    assert not same(plain, averaged)
    assert rows == same_rows  # the average does not change the training
    assert not plain.training and not averaged.training


# --- the loss ---

WHOLE = replace(PROTOCOL, recipe=Recipe(1, lr=1e-3), batch_size=12)


def raw(mix: Mix = "none") -> CondensedDataset:
    pack = parts(policy=ViewPolicy(scale_min=0.4, seed=3, mix=mix)).pack
    assert pack is not None
    return CondensedDataset.from_pack(some().images, pack, temperature=None)


@pytest.mark.parametrize("mix", ["none", "cutmix_images", "cutmix_labels"])
def test_squared_errors_use_raw_logits_and_the_classes_of_the_images(mix: Mix) -> None:
    """One step over the whole set, in float64: mean (student - teacher)^2 + gamma CE with the un-mixed label."""
    dataset = raw(mix)
    _, history = train(dataset, replace(WHOLE, loss="mse_gt", gamma=0.3), seed=1)
    dataset.set_epoch(0)
    inputs, targets = dataset.batch(np.arange(12))
    with torch.no_grad():
        said = fresh(1)(views.normalise(inputs, MEAN, STD)).double().numpy()
    squares = ((said - targets.double().numpy()) ** 2).mean()
    own = said[np.arange(12), some().images.labels]
    expected = squares + 0.3 * (np.log(np.exp(said).sum(axis=1)) - own).mean()
    assert history[0]["loss"] == pytest.approx(expected, rel=1e-4)


def test_student_and_teacher_see_the_same_pixels() -> None:
    """A student that is its own teacher has nothing to learn from views the two share, mixed ones too."""
    pixels = []
    teacher = some().teacher
    labels = OnlineLabels([teacher], 12, CPU)
    labels.networks[0].register_forward_pre_hook(lambda _, args: pixels.append(args[0]))
    dataset = CondensedDataset(some().images, labels, ViewPolicy(mix="cutmix_images"), temperature=None)
    dataset.set_epoch(5)
    inputs, targets = dataset.batch(np.arange(12))
    student = networks.from_teacher(teacher, CPU)
    assert torch.equal(pixels[0], views.normalise(inputs, teacher.mean, teacher.std))
    torch.testing.assert_close(student(pixels[0]), targets)


@pytest.mark.parametrize("loss", ["kl_plain", "kl_ce", "mse_gt"])
def test_hard_labels_train_with_cross_entropy_whatever_the_loss(loss: str) -> None:
    policy = ViewPolicy(scale_min=0.4, mix="cutmix_images")
    gamma = 0.0 if loss == "kl_plain" else 0.1
    protocol = replace(PROTOCOL, loss=loss, gamma=gamma)
    assert protocol.target_temperature(hard(policy).labels) == TEMPERATURE
    network, history = train(hard(policy), protocol)
    reference, rows = train(hard(policy))
    assert same(network, reference) and history == rows


CHANGES = [
    {"loss": "kl_plain"},
    {"loss": "kl_ce", "gamma": 0.5},
    {"loss": "kl_ce", "gamma": 0.1},
    {"loss": "mse_gt"},
    {"loss": "mse_gt", "gamma": 0.5},
]


def test_every_loss_and_weight_makes_another_student() -> None:
    sgd = Recipe(2, optimizer="sgd", lr=0.01)  # AdamW hardly sees a factor of the loss
    protocols = [replace(PROTOCOL, recipe=sgd, **change) for change in ({}, *CHANGES)]
    students = [train(raw() if one.loss == "mse_gt" else soft(), one)[0] for one in protocols]
    for index, student in enumerate(students):
        assert not any(same(student, other) for other in students[:index])


def test_a_student_of_logits_resumes_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DCPIPE_CHECKPOINT_SECONDS", "0")
    recipe = Recipe(4, lr=0.01, schedule="multistep", milestones=(0.5,), ema=0.5, decay="weights", warmup=1)
    protocol = replace(PROTOCOL, recipe=recipe, loss="mse_gt", gamma=0.1)
    unbroken, history = train(raw(), protocol)

    def kill(row: dict[str, float]) -> None:
        if row["epoch"] == 2:
            raise KilledError

    with pytest.raises(KilledError):
        train(raw(), protocol, checkpoint=tmp_path / "student.pt", report=kill)
    resumed, rows = train(raw(), protocol, checkpoint=tmp_path / "student.pt")
    assert same(unbroken, resumed) and rows == history


def test_targets_that_do_not_fit_the_loss_are_refused() -> None:
    with pytest.raises(DataError) as error:
        train(soft(), replace(PROTOCOL, loss="mse_gt"))
    assert str(error.value) == (
        "evaluation: the dataset gives probabilities at T = 4, but loss 'mse_gt' of protocol 'score' takes raw logits; "
        "make the dataset with temperature=None"
    )
    with pytest.raises(DataError) as error:
        train(raw())
    assert str(error.value) == (
        "evaluation: the dataset gives raw logits, but loss 'kl' of protocol 'score' takes probabilities at T = 4; "
        "make the dataset with temperature=4.0"
    )
    with pytest.raises(DataError, match=r"^evaluation: unknown loss 'ce'; choose one of kl, kl_plain, kl_ce, mse_gt$"):
        replace(PROTOCOL, loss="ce")


@pytest.mark.parametrize("kind", ["pack", "hard"])
def test_the_flow_asks_labels_for_what_the_loss_takes(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Students learn from packed labels and from hard labels under a protocol with raw logits."""
    images, pack = some().images, some().pack
    assert pack is not None
    reports: list[progress.Step] = []
    contender = contenders.hard_contender("own", f"score, {kind}", images, pack.policy, 0, CPU)
    contender = contender.with_pack(pack, CPU) if kind == "pack" else contender
    table: Any = SimpleNamespace(size=SIZE, classes=CLASSES, mean=MEAN, std=STD)
    monkeypatch.setattr(whole_images, "read_kept", lambda test, folder: iter([(images.images, images.labels)]))
    protocol = replace(PROTOCOL, loss="mse_gt", gamma=0.1)
    with progress.reporting_to(reports.append):
        result = contenders.score(
            contender,
            protocol,
            table,
            table,
            3,
            device=CPU,
            folder=tmp_path,
        )
    dataset = hard(pack.policy) if kind == "hard" else raw()
    network, history = train(dataset, protocol, seed=3)
    pixels = torch.from_numpy(images.images).permute(0, 3, 1, 2) / 255.0
    right = network(views.normalise(pixels, MEAN, STD)).argmax(1) == torch.from_numpy(images.labels)
    accuracy = pytest.approx(100 * float(right.float().mean()))
    assert result == {"accuracy": accuracy, "history": [*history[:-1], {**history[-1], "accuracy": accuracy}]}
    title = f"student score, {kind} 3"
    assert [(step.title, step.done, step.total) for step in reports] == [(title, epoch, 4) for epoch in range(5)]
    assert [dict(step.values) for step in reports[1:]] == [
        {key: row[key] for key in ("loss", "lr", "accuracy") if key in row} for row in result["history"]
    ]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("epochs", "best_of", "tested"),
    [(8, 1, [8]), (8, 4, [2, 4, 6, 8]), (10, 4, [2, 5, 7, 10]), (3, 3, [1, 2, 3])],
)
def test_a_student_is_tested_evenly_and_at_the_end(epochs: int, best_of: int, tested: list[int]) -> None:
    protocol = replace(PROTOCOL, recipe=Recipe(epochs, lr=0.01), best_of=best_of)
    seen: list[nn.Module] = []

    def test(network: nn.Module) -> float:
        seen.append(copy.deepcopy(network))
        return float(len(seen))

    student, history = train(hard(ViewPolicy()), protocol, test=test)
    assert {int(row["epoch"]) + 1: row["accuracy"] for row in history if "accuracy" in row} == {
        epoch: test + 1.0 for test, epoch in enumerate(tested)
    }
    assert same(seen[-1], student), "the last test is of the student that is returned"
    assert same(train(hard(ViewPolicy()), replace(protocol, best_of=1))[0], student), "tests change nothing"


def test_the_name_of_a_protocol_says_if_the_best_test_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The accuracy is the best one in the course of training, also before a kill, and the protocol's name says so."""
    images = some().images
    found = iter([40.0, 70.0, 60.0, 50.0])
    monkeypatch.setattr(contenders.training, "accuracy", lambda *_: next(found))
    monkeypatch.setattr(whole_images, "read_kept", lambda test, folder: iter([]))
    monkeypatch.setenv("DCPIPE_CHECKPOINT_SECONDS", "0")
    contender = contenders.hard_contender("own", "mdc", images, ViewPolicy(), 0, CPU)
    table: Any = SimpleNamespace(size=SIZE, classes=CLASSES, mean=MEAN, std=STD)
    protocol = replace(PROTOCOL, best_of=4)
    result = contenders.score(contender, protocol, table, table, 3, device=CPU, folder=tmp_path)
    assert result["accuracy"] == 70.0 and [row["accuracy"] for row in result["history"]] == [40.0, 70.0, 60.0, 50.0]
    block = params.EvaluationBlock.model_validate({"protocol": "idc/cifar10", "student": "convnet-d1-w4", "best_of": 4})
    assert protocol_of(block).name == "idc/cifar10; best of 4 tests on test"
    assert protocol_of(block).best_of == 4
    assert protocol_of(block.model_copy(update={"best_of": 1})).name == "idc/cifar10"
    with pytest.raises(DataError, match=r"^evaluation: best_of is 0; give 1 or more tests$"):
        replace(PROTOCOL, best_of=0)


@pytest.mark.parametrize("loss", ["kl", "mse_gt"])
def test_the_parts_of_the_training_loss_add_up_to_its_mean_over_the_set(loss: str) -> None:
    """Over all items of epoch 0 at once, whatever was drawn before."""
    protocol = replace(PROTOCOL, loss=loss, gamma=0.1 if loss == "mse_gt" else 0.0, batch_size=4)
    pack = some().pack
    assert pack is not None
    whole = CondensedDataset.from_pack(some().images, pack, temperature=TEMPERATURE if loss == "kl" else None)
    torch.manual_seed(0)
    network = networks.build(protocol.student, len(CLASSES), SIZE).eval()
    inputs, targets = whole.batch(np.arange(len(whole)))
    logits, hard = network(views.normalise(inputs, MEAN, STD)), whole.hard(np.arange(len(whole)))
    if loss == "kl":
        now, goal = (logits / TEMPERATURE).log_softmax(1), targets
        expected = TEMPERATURE**2 * (goal * (goal.log() - now)).sum(1).mean()
    else:
        expected = (logits - targets).square().mean() + 0.1 * F.cross_entropy(logits, hard)
    whole.set_epoch(3)
    parts = list(training_losses(network, whole, protocol, mean=MEAN, std=STD))
    assert len(parts) == -(-len(whole) // 4) > 1
    assert sum(part.item() for part in parts) == pytest.approx(expected.item(), rel=1e-4)
