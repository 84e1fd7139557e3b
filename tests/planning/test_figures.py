"""Figures of networks: against those of built ones, and by hand."""

from __future__ import annotations

import pytest
import torch
from slow_observers import teacher_of

from dcpipe import networks
from dcpipe.planning.figures import figures
from dcpipe.synthesis.observers import Observer


def test_a_convnet_by_hand() -> None:
    """Two blocks of convolution 3 x 3 (with bias), norm, relu and pooling, and a classifier."""
    found = figures("convnet-d2-w8", 10, 8)
    products = 64 * 8 * 3 * 9 + 16 * 8 * 8 * 9 + 10 * (2 * 2 * 8)
    assert found.flops == 2 * products and found.features == 32


def test_resnet18_has_its_published_operations() -> None:
    """1.81 GMACs at 224 pixels, 11.69 million parameters."""
    found = figures("resnet18", 1000, 224)
    assert found.flops / 2 == pytest.approx(1.814e9, rel=0.001)
    assert found.weights / 4 == pytest.approx(11.69e6, rel=0.002) and found.features == 512


@pytest.mark.parametrize(("name", "size"), [("resnet10-w4", 16), ("convnet-d2-w3", 16)])
def test_weights_outputs_and_entries_are_those_of_the_built_network(name: str, size: int) -> None:
    found = figures(name, 3, size)
    teacher = teacher_of(name, size)
    assert found.weights == sum(weight.nbytes for weight in teacher.weights.values())
    assert found.entries == Observer("a", teacher, torch.device("cpu")).entries
    network, outputs = networks.build(name, 3, size), []
    for module in network.modules():
        if not list(module.children()):
            module.register_forward_hook(lambda m, a, result: outputs.append(result.nbytes))
    network(torch.zeros(1, 3, size, size)) if "convnet" in name else network.eval()(torch.zeros(1, 3, size, size))
    assert (found.outputs, found.largest) == (sum(outputs), max(outputs))
    assert found.training(10) == 10 * found.outputs + 4 * found.weights


def test_a_network_that_needs_numbers_is_run_with_them(monkeypatch: pytest.MonkeyPatch) -> None:
    class Choosy(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = torch.nn.Linear(12, 2)

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return self.head(inputs.flatten(1)) if float(inputs.sum()) == 0 else inputs

    monkeypatch.setitem(networks.BUILDERS, "choosy", lambda name, c, s: Choosy() if name == "choosy" else None)
    assert figures("choosy", 2, 2).flops == 2 * 12 * 2
