"""Precision: which format a name asks for on which device, and that training runs in it."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import pytest
import torch
from fitting import CPU, batches, make_network
from torch import nn

from dcpipe import training
from dcpipe.precision import autocast
from dcpipe.training import Batch, Recipe
from dcpipe.types import DataError, Precision


@pytest.mark.parametrize(
    ("precision", "device", "half"),
    [
        *(("auto", "cpu", False), ("auto", "cuda", True), ("auto", "mps", False)),
        *(("float32", "cpu", False), ("float32", "cuda", False)),
        *(("bfloat16", "cpu", True), ("bfloat16", "cuda:1", True)),
    ],
)
def test_a_name_asks_for_a_format(
    monkeypatch: pytest.MonkeyPatch, precision: Precision, device: str, half: bool
) -> None:
    asked: list[tuple[Any, ...]] = []
    monkeypatch.setattr(torch, "autocast", lambda kind, dtype, enabled: asked.append((kind, dtype, enabled)))
    autocast(precision, torch.device(device))
    assert asked == [(device.split(":")[0], torch.bfloat16, half)]


class Watched(nn.Linear):
    """A layer that notes the format of what it computes."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        outputs = super().forward(inputs)
        self.seen = outputs.dtype
        return outputs


@pytest.mark.parametrize(
    ("precision", "dtype"), [("auto", torch.float32), ("float32", torch.float32), ("bfloat16", torch.bfloat16)]
)
def test_networks_train_in_the_format_and_weights_stay_in_float32(precision: Precision, dtype: torch.dtype) -> None:
    """Against the steps of SGD written out under torch's own autocast: the same weights to the bit."""
    torch.manual_seed(0)
    network = nn.Sequential(Watched(5, 8), nn.ReLU(), nn.Linear(8, 3))
    slow = copy.deepcopy(network)
    recipe = Recipe(1, "sgd", 0.1, 0.0, "constant", momentum=0.0, nesterov=False, precision=precision)
    training.fit(network, batches, training.cross_entropy, recipe, seed=0, device=CPU)
    assert network[0].seen == dtype
    for inputs, labels in batches(0):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
            loss = nn.functional.cross_entropy(slow(inputs), labels)
        gradients = torch.autograd.grad(loss, list(slow.parameters()))
        with torch.no_grad():
            for parameter, gradient in zip(slow.parameters(), gradients, strict=True):
                parameter -= 0.1 * gradient
    for ours, theirs in zip(network.parameters(), slow.parameters(), strict=True):
        assert ours.dtype == torch.float32
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-7)


def test_formats_differ_a_little() -> None:
    def one(epoch: int) -> Iterable[Batch]:
        return batches(epoch)

    weights = []
    for precision in ("float32", "bfloat16"):
        recipe = Recipe(2, lr=0.01, precision=precision)  # type: ignore[arg-type]
        network, _ = training.fit(make_network(), one, training.cross_entropy, recipe, seed=0, device=CPU)
        weights.append(torch.cat([p.detach().flatten() for p in network.parameters()]))
    far = float((weights[0] - weights[1]).abs().max())
    assert 1e-6 < far < 0.1


def test_another_name_is_refused() -> None:
    with pytest.raises(DataError) as error:
        Recipe(1, precision="float16")  # type: ignore[arg-type]
    assert str(error.value) == "training: unknown precision 'float16'; choose one of auto, float32, bfloat16"
