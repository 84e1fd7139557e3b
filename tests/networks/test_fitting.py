"""Networks against sizes of images, without a number being computed."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from dcpipe import networks
from dcpipe.networks.fitting import check_size, check_weights
from dcpipe.types import DataError, Teacher


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("convnet-d3-w128", 8),
        ("resnet10-w16", 8),
        ("resnet18-w64", 224),
        ("resnet10-ap", 16),
        ("wrn-16-2", 4),
        ("resnet18-small", 32),
        ("alexnet-small", 32),
        ("vit_b_16", 224),
        ("inception_v3", 299),
        ("timm/resnet10t", 64),
        ("timm/vit_tiny_patch16_224", 32),
    ],
)
def test_networks_that_fit(name: str, size: int) -> None:
    check_size(name, size)


@pytest.mark.parametrize(
    ("name", "size", "reason"),
    [
        ("convnet-d4-w8", 8, "network 'convnet-d4-w8' halves images 4 times; for 8 pixels choose a depth of at most 3"),
        (
            "resnet10-ap",
            8,
            "network 'resnet10-ap' halves images 3 times and normalises maps of 2 x 2 pixels or more, so",
        ),
        ("wrn-9-1", 8, "network 'wrn-9-1': depth must be 6n + 4 with n at least 1, such as 10, 16, 22, 28 or 40"),
        ("vit_b_16", 32, "network 'vit_b_16' does not take images of 32 pixels (Wrong image height! Expected 224"),
        ("inception_v3", 32, "network 'inception_v3' does not take images of 32 pixels (Calculated padded input size"),
        ("alexnet-small", 4, "network 'alexnet-small' does not take images of 4 pixels ("),
        ("vgg11_bn-small", 16, "network 'vgg11_bn-small' does not take images of 16 pixels ("),
        ("convnet", 32, "unknown network 'convnet'; use one of convnet-dN-wN, resnet10-wN, "),
        ("timm/resnet9000", 32, "network 'timm/resnet9000': timm has no model 'resnet9000'; close names: "),
    ],
)
def test_networks_that_do_not(name: str, size: int, reason: str) -> None:
    for refuse in (check_size, lambda name, size: networks.build(name, 10, size)):
        with pytest.raises(DataError) as error:
            refuse(name, size)
        assert str(error.value).startswith(reason)


@pytest.mark.parametrize("size", range(1, 21))
@pytest.mark.parametrize(
    "name", ["convnet-d1-w2", "convnet-d3-w2", "resnet10-w2", "resnet18-w1", "resnet10-ap-w2", "wrn-10-1"]
)
def test_networks_that_are_not_run_refuse_by_themselves_what_they_cannot_take(name: str, size: int) -> None:
    try:
        check_size(name, size)
    except DataError:
        with pytest.raises(DataError):
            networks.build(name, 2, size)
    else:
        assert networks.build(name, 2, size).eval()(torch.zeros(2, 3, size, size)).shape == (2, 2)


class Choosy(nn.Module):
    """Looks at a number to choose what to do."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3, 2)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """[m, 3, s, s] to [m, 2]."""
        means = inputs.mean((2, 3))
        made: torch.Tensor = self.head(means if means.sum().item() > 0 else -means)
        return made


def test_a_network_that_needs_numbers_is_let_through(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(networks.BUILDERS, "choosy", lambda name, n, size: Choosy() if name == "choosy" else None)
    check_size("choosy", 8)


def test_no_memory_is_taken_and_no_number_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[nn.Module] = []
    build = networks.BUILDERS["resnetN-wN"]

    def spied(name: str, n_classes: int, size: int) -> nn.Module | None:
        network = build(name, n_classes, size)
        made.extend([network] if network is not None else [])
        return network

    monkeypatch.setitem(networks.BUILDERS, "resnetN-wN", spied)
    before = torch.random.get_rng_state()
    check_size("resnet18-w2048", 32)
    assert all(weight.is_meta for weight in made[0].parameters())
    assert torch.equal(torch.random.get_rng_state(), before)


def teacher(network: str, weights: dict[str, torch.Tensor], n_classes: int = 3, size: int = 8) -> Teacher:
    classes = tuple(map(str, range(n_classes)))
    return Teacher(network, weights, classes, (0.5, 0.5, 0.5), (0.2, 0.2, 0.2), size, {})


@pytest.mark.parametrize("name", ["convnet-d1-w4", "resnet10-w4", "wrn-10-1", "resnet10-ap-w4", "mobilenet_v2-small"])
def test_weights_of_the_network_itself_fit(name: str) -> None:
    check_weights(teacher(name, networks.build(name, 3, 16).state_dict(), size=16))


def test_weights_of_another_network_are_named() -> None:
    weights = networks.build("convnet-d1-w4", 3, 8).state_dict()
    for network, classes, sentence in (
        ("convnet-d1-w5", 3, "'0.bias' has shape [4], expected [5] (5 such tensors)"),
        ("convnet-d1-w4", 4, "'5.bias' has shape [3], expected [4] (2 such tensors)"),
        ("resnet10-w4", 3, "'0.bias' has shape [4], expected none"),
    ):
        with pytest.raises(DataError) as error:
            check_weights(teacher(network, weights, classes))
        assert f"teacher {network!r}: its weights are of another network: {sentence}" in str(error.value)


@pytest.mark.parametrize("name", ["convnet-d1-w90000", "resnet18-w90000", "wrn-16-90000", "resnet10-ap-w90000"])
def test_a_wide_network_is_refused_without_its_memory(name: str) -> None:
    """Some of these would take terabytes."""
    with pytest.raises(DataError, match="its weights are of another network"):
        check_weights(teacher(name, {"a": torch.zeros(2)}, size=32))


@pytest.mark.parametrize(
    "name", ["wrn-1006-1", "convnet-d1001-w1", "convnet-d1-w100001", f"resnet18-w{'9' * 5000}", "wrn-16-1000000"]
)
def test_names_that_ask_for_too_much_are_refused_at_once(name: str) -> None:
    with pytest.raises(
        DataError, match="is larger than any network; numbers in its name may be at most 100,000, depths"
    ):
        check_weights(teacher(name, {}))


def test_weights_of_a_network_that_needs_numbers_are_checked_too(monkeypatch: pytest.MonkeyPatch) -> None:
    class Counting(Choosy):
        def __init__(self) -> None:
            super().__init__()
            assert torch.ones(2).sum().item() == 2  # raises on the meta device

    monkeypatch.setitem(networks.BUILDERS, "counting", lambda name, n, size: Counting() if name == "counting" else None)
    check_weights(teacher("counting", Counting().state_dict(), 2))
    with pytest.raises(DataError, match="its weights are of another network"):
        check_weights(teacher("counting", {}, 2))
