"""The families' networks for small images: sizes of their stages, parameters, values, and one block by hand."""

from __future__ import annotations

import io

import pytest
import torch
from building import normed, out_of
from torch import nn

from dcpipe import networks

NAMES = [
    "wrn-10-1",
    "wrn-16-2",
    "mobilenet_v2_x0_5-small",
    "shufflenet_v2_x0_5-small",
    "efficientnet_b0-small",
    "densenet121-k12-small",
    "alexnet-small",
    "vgg11_bn-small",
]

# name -> stages (submodules) and the side of what each makes of 32 pixels
STAGES: dict[str, dict[str, int]] = {
    "wrn-16-2": {"conv1": 32, "group1": 32, "group2": 16, "group3": 8},
    # stem at stride 2; of 17 blocks each stage's last: 1, 2, 3, 4, 3, 3 and 1 blocks at strides 1, 1, 2, 2, 1, 2, 1
    "mobilenet_v2_x0_5-small": {
        f"features.{i}": s
        for i, s in zip([0, 1, 3, 6, 10, 13, 16, 17, 18], [16] * 3 + [8] + [4] * 2 + [2] * 3, strict=True)
    },
    "shufflenet_v2_x0_5-small": {"conv1": 32, "maxpool": 32, "stage2": 16, "stage3": 8, "stage4": 4, "conv5": 4},
    "efficientnet_b0-small": {f"features.{i}": s for i, s in enumerate([32, 32, 16, 8, 4, 4, 2, 2, 2])},
    "densenet121-k12-small": {"features.pool0": 32}
    | {f"features.denseblock{i + 1}": s for i, s in enumerate([32, 16, 8, 4])}
    | {f"features.transition{i + 1}": s for i, s in enumerate([16, 8, 4])},
    "alexnet-small": {"0": 32, "2": 16, "3": 16, "5": 8, "6": 8, "8": 8, "10": 8, "12": 4, "13": 4},
    "vgg11_bn-small": {f"0.{i}": s for i, s in zip([2, 3, 7, 14, 21, 28], [32, 16, 8, 4, 2, 1], strict=True)},
}

# Channels that come into each block of `densenet121-k12-small`, and its layers: blocks add 12 a layer, what is between
# them halves.
DENSE = [(24, 6), (48, 12), (96, 24), (192, 16)]

# With 10 classes; where another source or sum is at hand, it is given.
PARAMETERS = {
    "wrn-16-2": 691_674,  # 0.7 M in the paper's table 5
    "wrn-40-2": 2_243_546,  # 2.2 M there
    "mobilenet_v2_x0_5-small": 697_258,
    "shufflenet_v2_x0_5-small": 1_366_792 - 1025 * 990 - 24 * 3 * 8,  # torchvision's, fewer classes, 1x1 stem
    "efficientnet_b0-small": 5_288_548 - 1281 * 990,  # torchvision's with fewer classes
    # torchvision's with fewer classes, the 3x3 stem, and no norm after it; the other one's layers, counted one by one
    "densenet121-small": 7_978_856 - 1025 * 990 - 64 * 3 * (49 - 9) - 2 * 64,
    "densenet121-k12-small": sum(
        [24 * 3 * 9]
        + [2 * c + c * 48 + 2 * 48 + 48 * 12 * 9 for start, n in DENSE for c in range(start, start + 12 * n, 12)]
        + [2 * c + c * c // 2 for c in (96, 192, 384)]
        + [2 * 384 + 385 * 10]
    ),
    "alexnet-small": 9728 + 614_592 + 442_624 + 442_560 + 331_968 + 30_730,
    # torchvision's with fewer classes, without its first two linear layers, and a head of 512 channels
    "vgg11_bn-small": 132_868_840 - 4097 * 1000 - 4097 * 4096 - 25_089 * 4096 + 513 * 10,
}


@pytest.mark.parametrize(("name", "count"), PARAMETERS.items())
def test_parameter_counts(name: str, count: int) -> None:
    assert sum(p.numel() for p in networks.build(name, 10, 32).parameters()) == count


@pytest.mark.parametrize("name", STAGES)
@pytest.mark.parametrize("size", [32, 64])
def test_sides_of_the_stages(name: str, size: int) -> None:
    network = networks.build(name, 3, size).eval()
    sides: dict[str, tuple[int, int]] = {}

    def note(stage: str) -> None:
        network.get_submodule(stage).register_forward_hook(lambda *said: sides.update({stage: said[2].shape[2:]}))

    for stage in STAGES[name]:
        note(stage)
    with torch.no_grad():
        network(torch.zeros(1, 3, size, size))
    expected = {stage: (side * size // 32,) * 2 for stage, side in STAGES[name].items()}
    if name == "alexnet-small":
        expected["13"] = (4, 4)  # averaged to what the linear layer was made for
    assert sides == expected


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [32, 64])
def test_logits_are_finite_and_weights_come_back(name: str, size: int) -> None:
    torch.manual_seed(size)
    network, inputs = networks.build(name, 7, size), torch.rand(2, 3, size, size)
    assert network.training
    learning = network(inputs)
    assert learning.shape == (2, 7) and bool(learning.isfinite().all()) and float(learning.detach().std()) > 0
    learning.sum().backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in network.parameters())
    file = io.BytesIO()
    torch.save(network.state_dict(), file)
    file.seek(0)
    again = networks.build(name, 7, size)
    again.load_state_dict(torch.load(file, weights_only=True))
    vectors, logits = networks.forward(again.eval(), inputs)
    with torch.no_grad():
        assert bool(logits.isfinite().all()) and torch.equal(logits, network.eval()(inputs))
    head = networks.head(again)
    assert head.out_features == 7 and vectors.shape == (2, head.in_features)
    torch.testing.assert_close(head(vectors).detach(), logits)


def test_what_the_classifier_reads() -> None:
    widths = {"wrn-16-2": 128, "mobilenet_v2_x0_5-small": 1280, "shufflenet_v2_x0_5-small": 1024}
    widths |= {"efficientnet_b0-small": 1280, "alexnet-small": 192 * 16, "vgg11_bn-small": 512}
    widths |= {"densenet121-small": 1024, "densenet121-k12-small": 384}
    assert {name: networks.head(networks.build(name, 2, 32)).in_features for name in widths} == widths


def test_mobilenet_has_half_the_channels_and_no_dropout() -> None:
    network = networks.build("mobilenet_v2_x0_5-small", 2, 32)
    widths = [network.get_submodule(f"features.{i}.conv")[-2].out_channels for i in (1, 3, 6, 10, 13, 16, 17)]
    assert widths == [8, 12, 16, 32, 48, 80, 160]
    assert all(module.p == 0 for module in network.modules() if isinstance(module, nn.Dropout))


def test_shufflenet_has_4_8_4_blocks() -> None:
    network = networks.build("shufflenet_v2_x0_5-small", 2, 32)
    assert [len(network.get_submodule(f"stage{i}")) for i in (2, 3, 4)] == [4, 8, 4]


# --- the DenseNet in plain functions and float64: Huang et al., Sec. 3 ---


def test_densenet_has_121_layers() -> None:
    network = networks.build("densenet121-k12-small", 2, 32)
    assert sum(isinstance(module, nn.Conv2d | nn.Linear) for module in network.modules()) == 121


def test_densenet_by_hand() -> None:
    """Every layer reads all maps of its block so far; norm and ReLU come before each convolution; stem without them."""
    torch.manual_seed(0)
    network, inputs = networks.build("densenet121-k12-small", 3, 16).double(), torch.randn(2, 3, 16, 16).double()
    weights = network.state_dict()
    maps = nn.functional.conv2d(inputs, weights["features.conv0.weight"], padding=1)
    for block, (_, layers) in enumerate(DENSE, 1):
        for layer in range(1, layers + 1):
            place = f"features.denseblock{block}.denselayer{layer}"
            narrow = nn.functional.conv2d(normed(maps), weights[f"{place}.conv1.weight"])
            grown = nn.functional.conv2d(normed(narrow), weights[f"{place}.conv2.weight"], padding=1)
            maps = torch.cat([maps, grown], 1)
        if block < 4:
            halved = nn.functional.conv2d(normed(maps), weights[f"features.transition{block}.conv.weight"])
            m, c, side, _ = halved.shape
            maps = halved.reshape(m, c, side // 2, 2, side // 2, 2).mean((3, 5))
    expected = normed(maps).mean((2, 3)) @ weights["classifier.weight"].T + weights["classifier.bias"]
    torch.testing.assert_close(network(inputs).detach(), expected)


@pytest.mark.parametrize(
    "name", ["resnet18-small", "resnet50-small", "resnet101-small", "mobilenet_v2-small", "efficientnet_b0-small"]
)
def test_small_stems_keep_32_pixels(name: str) -> None:
    network = networks.build(name, 7, 32)
    sizes: list[int] = []
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda _, __, out: sizes.append(out.shape[-1]))
    assert out_of(network, 32) == (2, 7)
    assert sizes[0] == 32, "the stem halves the image"
    # resnets: stem and two blocks; mobilenet: until its third stage; efficientnet: the stem and one convolution
    early, last = {"mobilenet_v2-small": (8, 4), "efficientnet_b0-small": (2, 2)}.get(name, (5, 4))
    assert sizes[:early] == [32] * early
    assert min(side for side in sizes if side > 1) == last  # 1: efficientnet's squeeze and excitation
