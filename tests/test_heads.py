"""New classifiers on pretrained weights: trained alone or with all other weights, and killed in between."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from dcpipe import networks, teacher, training, views
from dcpipe.training import Recipe
from dcpipe.types import DataError, ViewPolicy

CPU = torch.device("cpu")
CLASSES = ("red", "green", "blue")
SIZE, NAME = 8, "resnet10-w4"
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
POLICY = ViewPolicy(scale_min=0.5, seed=3)
SGD = Recipe(3, "sgd", 0.05, 5e-4)
FC = ("fc.weight", "fc.bias")


def toy(n: int = 48, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Noise with one bright channel, which is the class."""
    source = np.random.default_rng(seed)
    labels = source.integers(0, 3, n)
    images = source.integers(0, 150, (n, SIZE, SIZE, 3), dtype=np.uint8)
    images[np.arange(n), :, :, labels] += 100
    return images, labels, source.permutation(10 * n)[:n]


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """Weights for seven classes, with statistics of batch norm that are not those of a new network."""
    torch.manual_seed(11)
    network = networks.build(NAME, 7, SIZE)
    with torch.no_grad():
        network.train()(torch.rand(16, 3, SIZE, SIZE))
    save_file(network.state_dict(), tmp_path / "seven.safetensors")
    return tmp_path / "seven.safetensors"


def feed() -> teacher.Feed:
    return teacher.memory_feed(*toy(), 16, 0, CPU)


def train(weights: Path, head: Any, recipe: Recipe | None = SGD, **change: Any) -> tuple[nn.Module, list]:
    settings = {"policy": POLICY, "recipe": recipe, "classes": CLASSES, "size": SIZE, "mean": MEAN, "std": STD}
    settings |= {"seed": 0, "device": CPU, "head": head}
    return teacher.train(NAME, str(weights), feed(), **{**settings, **change})


def loaded(weights: Path) -> dict[str, torch.Tensor]:
    """The weights before training, with the new classifier."""
    return train(weights, "finetune", None)[0].state_dict()


def test_all_weights_but_the_classifiers_are_the_files(weights: Path) -> None:
    from safetensors.torch import load_file

    state, file = loaded(weights), load_file(weights)
    assert state["fc.weight"].shape == (3, 32) and file["fc.weight"].shape == (7, 32)
    assert all(torch.equal(value, file[key]) for key, value in state.items() if key not in FC)
    torch.manual_seed(0)
    assert torch.equal(state["fc.weight"], networks.build(NAME, 3, SIZE).state_dict()["fc.weight"]), "the seed's"


def test_without_a_head_the_classes_must_be_the_files(weights: Path) -> None:
    with pytest.raises(DataError) as error:
        train(weights, None)
    assert str(error.value) == (
        f"teacher weights '{weights}' do not fit 'resnet10-w4': 'fc.weight' needs [3, 32], found [7, 32] "
        "(2 such tensors); check the network's name; for other classes, set head to linear or finetune"
    )


def test_a_linear_head_is_what_gradient_descent_by_hand_gives(weights: Path) -> None:
    """Softmax regression on the vectors of the views in float64: momentum .9 (Nesterov), cosine schedule."""
    network, history = train(weights, "linear")
    before = loaded(weights)
    frozen, _ = train(weights, "finetune", None)
    weight, bias = before["fc.weight"].double().numpy(), before["fc.bias"].double().numpy()
    speed = [np.zeros_like(weight), np.zeros_like(bias)]
    for epoch in range(3):
        lr, losses = 0.05 * (1 + math.cos(math.pi * epoch / 3)) / 2, []
        for images, labels, ids in feed()(epoch):
            drawn = views.draw(POLICY, ids, np.full(len(ids), epoch), len(ids))
            inputs = views.normalise(views.crop(images, drawn, SIZE), MEAN, STD)
            vectors = networks.forward(frozen.eval(), inputs)[0].double().numpy()
            logits = vectors @ weight.T + bias
            shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
            losses.append(-np.log(shares[np.arange(len(labels)), labels]).mean())
            error = (shares - np.eye(3)[labels]) / len(labels)
            for place, (values, gradient) in enumerate(((weight, error.T @ vectors), (bias, error.sum(0)))):
                gradient = gradient + 5e-4 * values
                speed[place] = 0.9 * speed[place] + gradient
                values -= lr * (gradient + 0.9 * speed[place])
        assert history[epoch]["loss"] == pytest.approx(np.mean(losses), rel=1e-4)
    after = network.state_dict()
    np.testing.assert_allclose(after["fc.weight"].numpy(), weight, atol=1e-5)
    np.testing.assert_allclose(after["fc.bias"].numpy(), bias, atol=1e-5)
    assert np.abs(weight - before["fc.weight"].numpy()).max() > 0.01
    assert all(torch.equal(after[key], value) for key, value in before.items() if key not in FC), "statistics too"


def test_a_finetuned_network_is_trained_as_a_whole(weights: Path) -> None:
    before = loaded(weights)
    network, _ = train(weights, "finetune")
    after = network.state_dict()
    assert all(not torch.equal(after[key], value) for key, value in before.items()), "statistics too"
    assert not network.training


@pytest.mark.parametrize(("head", "least"), [("linear", 55), ("finetune", 85)])
def test_it_learns_classes_that_a_glance_tells_apart(head: str, least: int, weights: Path) -> None:
    """The weights are random, so the vectors are of little use by themselves. Chance is 33 %."""
    network, history = train(weights, head, Recipe(10, lr=0.02))
    images, labels, _ = toy(90, seed=1)
    batches = teacher.plain_batches(iter([(images, labels)]), MEAN, STD, 30, CPU)
    assert training.accuracy(network, batches, CPU) > least
    assert history[-1]["loss"] < history[0]["loss"]
    again, rows = train(weights, head, Recipe(10, lr=0.02))
    assert rows == history
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in network.state_dict().items())


@pytest.mark.parametrize("head", ["linear", "finetune"])
@pytest.mark.parametrize("stop", [0, 1])
def test_killed_and_resumed_it_ends_as_unbroken(
    head: str, stop: int, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DCPIPE_CHECKPOINT_SECONDS", "0")
    whole, history = train(weights, head)
    checkpoint = tmp_path / "checkpoint.pt"

    class KilledError(Exception):
        pass

    def kill(row: dict[str, float]) -> None:
        if row["epoch"] == stop + 1:  # the checkpoint of epoch `stop` is written
            raise KilledError

    with pytest.raises(KilledError):
        train(weights, head, checkpoint=checkpoint, report=kill)
    rows: list[dict[str, float]] = []
    resumed, told = train(weights, head, checkpoint=checkpoint, report=rows.append)
    assert told == history and [row["epoch"] for row in rows] == list(range(stop + 1, 3))
    assert all(torch.equal(value, resumed.state_dict()[key]) for key, value in whole.state_dict().items())
    saved = torch.load(checkpoint, weights_only=True)["network"]
    assert (set(saved) == {"weight", "bias"}) == (head == "linear"), "frozen weights are not saved again and again"


def test_averaged_classifiers_are_the_result(weights: Path) -> None:
    plain, averaged = (train(weights, "linear", Recipe(3, "sgd", 0.05, ema=ema))[0].state_dict() for ema in (0.0, 0.9))
    assert not torch.equal(plain["fc.weight"], averaged["fc.weight"])


def test_images_are_enlarged_while_the_head_is_trained(weights: Path) -> None:
    plain, _ = train(weights, "linear")
    large, _ = train(weights, "linear", input_size=16)
    assert not torch.allclose(plain.state_dict()["fc.weight"], large.state_dict()["fc.weight"], atol=1e-3)
    noun = teacher.make(NAME, large, CLASSES, MEAN, STD, SIZE, {"minival": 90.0}, trained_here=True, input_size=16)
    inputs = torch.rand(5, 3, SIZE, SIZE)
    assert (noun.size, noun.input_size, noun.network_size) == (SIZE, 16, 16)
    assert torch.equal(networks.from_teacher(noun, CPU)(inputs), large.eval()(inputs).detach())


class Scaled(nn.Module):
    """Its logits are not those of its last linear layer."""

    def __init__(self, n_classes: int) -> None:
        super().__init__()
        self.fc = nn.Linear(3 * SIZE * SIZE, n_classes)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return 3 * self.fc(inputs.flatten(1))


def test_a_network_that_does_not_end_in_a_linear_layer_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(networks.BUILDERS, "scaled", lambda name, n, size: Scaled(n) if name == "scaled" else None)
    save_file(Scaled(7).state_dict(), tmp_path / "w.safetensors")
    settings = {"policy": POLICY, "recipe": SGD, "classes": CLASSES, "size": SIZE, "mean": MEAN, "std": STD}
    with pytest.raises(DataError) as error:
        teacher.train("scaled", str(tmp_path / "w.safetensors"), feed(), **settings, seed=0, device=CPU, head="linear")
    assert str(error.value) == (
        "network Scaled does not end in one linear layer, so head linear cannot train it alone; use head finetune"
    )
