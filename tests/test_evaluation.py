"""Students: the protocol's losses against slow references, and that seeds, averages and resuming do what they say."""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from releases import CLASSES, SIZE, Parts, parts
from torch import nn

from dcpipe import networks, views
from dcpipe.dataset import CondensedDataset, HardLabels
from dcpipe.evaluation import Protocol, train_student
from dcpipe.training import Recipe
from dcpipe.types import ViewPolicy

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
        for rows in np.array_split(views.permutation(2, epoch, n), 3):  # 12 images in batches of at most 5
            numbers = np.full(len(rows), epoch)
            pixels, _ = views.look(torch.from_numpy(images.images), policy, images.ids, rows, numbers, SIZE)
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
    pixels, _ = views.look(torch.from_numpy(images.images), pack.policy, images.ids, rows, zeros, SIZE)
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
    monkeypatch.setattr("dcpipe.evaluation.networks.build", lambda name, n_classes, size: copy.deepcopy(start))
    assert not same(train(soft(), seed=0)[0], train(soft(), seed=1)[0])


class KilledError(Exception):
    """What a kill looks like from inside."""


@pytest.mark.parametrize("ema", [0.0, 0.8])
@pytest.mark.parametrize("stop", [0, 2])
def test_a_student_killed_on_the_way_ends_as_an_unbroken_one(
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
    assert rows == same_rows  # the average watches; it does not change the training
    assert not plain.training and not averaged.training
