"""Names to networks: shapes, stems, and what an unknown name is told."""

from __future__ import annotations

import pytest
import torch
from building import out_of

from dcpipe import networks
from dcpipe.types import DataError

FORMS = (
    "convnet-dN-wN, resnet10-wN, resnet18-wN, resnet10-ap, wrn-D-K, resnet18-small, resnet50-small, resnet101-small, "
    "mobilenet_v2-small, mobilenet_v2_x0_5-small, shufflenet_v2_x0_5-small, efficientnet_b0-small, densenet121-small, "
    "densenet121-k12-small, alexnet-small, "
    "a torchvision model name, or timm/NAME"
)


@pytest.mark.parametrize("name", ["resnet18", "squeezenet1_1", "googlenet"])
def test_torchvision_names(name: str) -> None:
    network = networks.build(name, 3, 64)
    assert out_of(network, 64) == (2, 3)


def test_timm_names() -> None:
    pytest.importorskip("timm")
    network = networks.build("timm/resnet10t", 4, 32)
    assert out_of(network, 32) == (2, 4)
    assert networks.head(network).out_features == 4


def test_initial_weights_follow_the_seed() -> None:
    weights = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        weights.append(networks.head(networks.build("resnet18-small", 3, 32)).weight.detach())
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize(
    ("name", "size", "sentence"),
    [
        (
            "convnet-d4-w8",
            8,
            "network 'convnet-d4-w8' halves images 4 times; for 8 pixels choose a depth of at most 3",
        ),
        ("convnet-d0-w8", 8, "network 'convnet-d0-w8': depth and width must be at least 1"),
        ("convnet-d1-w0", 8, "network 'convnet-d1-w0': depth and width must be at least 1"),
        ("resnet10-w0", 8, "network 'resnet10-w0': width must be at least 1"),
        ("wrn-16-0", 8, "network 'wrn-16-0': width must be at least 1"),
        (
            "wrn-18-2",
            8,
            "network 'wrn-18-2': depth must be 6n + 4 with n at least 1, such as 10, 16, 22, 28 or 40",
        ),
        ("wrn-4-2", 8, "network 'wrn-4-2': depth must be 6n + 4 with n at least 1, such as 10, 16, 22, 28 or 40"),
        (
            "zzzz",
            8,
            f"unknown network 'zzzz'; use one of {FORMS}",
        ),
        (
            "resnet_18-small",
            8,
            f"unknown network 'resnet_18-small'; use one of {FORMS}; close names: resnet18-small, "
            "resnet101-small, resnet50-small, densenet121-small",
        ),
    ],
)
def test_refused_names(name: str, size: int, sentence: str) -> None:
    with pytest.raises(DataError) as error:
        networks.build(name, 3, size)
    assert str(error.value) == sentence


def test_an_unknown_timm_name_lists_close_ones() -> None:
    pytest.importorskip("timm")
    with pytest.raises(DataError) as error:
        networks.build("timm/resnet10", 3, 32)
    sentence = str(error.value)
    assert sentence.startswith("network 'timm/resnet10': timm has no model 'resnet10'; close names: ")
    assert "resnet10t" in sentence.split("close names: ")[1].split(", ")


def test_a_missing_timm_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "timm", None)
    with pytest.raises(DataError) as error:
        networks.build("timm/resnet10t", 3, 32)
    assert str(error.value) == "network 'timm/resnet10t' needs the timm package; install dcpipe[timm]"
