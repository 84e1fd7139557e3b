"""Networks by name, and their features, logits and weights, against what is computed by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from dcpipe import networks, views
from dcpipe.types import DataError, Teacher

CLASSES = ("a", "b", "c")
NAME = "convnet-d1-w2"
MEAN, STD = (0.1, 0.2, 0.3), (0.5, 0.6, 0.7)


def teacher_of(network: nn.Module, **change: object) -> Teacher:
    given = {"network": NAME, "weights": network.state_dict(), "classes": CLASSES, "mean": MEAN, "std": STD}
    return Teacher(**{**given, "size": 4, "accuracy": {}, **change})


def inputs_of(n: int = 5, seed: int = 0) -> torch.Tensor:
    return torch.rand(n, 3, 4, 4, generator=torch.Generator().manual_seed(seed))


def test_vectors_are_what_enters_the_head() -> None:
    network = networks.build(NAME, 3, 4).eval()
    inputs = inputs_of()
    vectors, logits = networks.forward(network, inputs)
    with torch.no_grad():
        expected = network[:-1](inputs)  # all but the linear layer
        torch.testing.assert_close(logits, network(inputs))
    torch.testing.assert_close(vectors, expected)
    weight, bias = network[-1].weight, network[-1].bias
    by_hand = torch.stack(
        [torch.stack([(w * v).sum() + b for w, b in zip(weight, bias, strict=True)]) for v in vectors]
    )
    torch.testing.assert_close(logits, by_hand.detach(), rtol=1e-4, atol=1e-5)
    assert not vectors.requires_grad and not logits.requires_grad


def test_reading_features_leaves_no_hook() -> None:
    network = networks.build(NAME, 3, 4)
    networks.forward(network, inputs_of())
    with pytest.raises(RuntimeError):
        networks.forward(network, torch.zeros(1, 3, 9, 9))
    assert len(networks.head(network)._forward_pre_hooks) == 0


def test_the_head_is_the_last_linear_layer() -> None:
    network = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    assert networks.head(network) is network[2]
    with pytest.raises(DataError) as error:
        networks.head(nn.Sequential(nn.Conv2d(3, 3, 1)))
    assert str(error.value) == (
        "network Sequential has no linear layer to read features from; choose one that ends in one"
    )


def test_teachers_are_asked_with_their_own_normalisation_and_averaged() -> None:
    torch.manual_seed(0)
    first, second = networks.build(NAME, 3, 4).eval(), networks.build(NAME, 3, 4).eval()
    nouns = [teacher_of(first), teacher_of(second, mean=(0.5, 0.5, 0.5), std=(1.0, 2.0, 3.0))]
    inputs = inputs_of()
    with torch.no_grad():
        each = [
            net(views.normalise(inputs, noun.mean, noun.std)) for net, noun in zip([first, second], nouns, strict=True)
        ]
    assert not torch.allclose(each[0], each[1])
    torch.testing.assert_close(networks.mean_logits([first, second], nouns, inputs), (each[0] + each[1]) / 2)
    torch.testing.assert_close(networks.mean_logits([first], nouns[:1], inputs), each[0])


def test_a_teacher_becomes_its_network_again() -> None:
    network = networks.build(NAME, 3, 4).eval()
    again = networks.from_teacher(teacher_of(network), torch.device("cpu"))
    assert torch.equal(again(inputs_of()), network(inputs_of()).detach())
    assert not again.training and not any(p.requires_grad for p in again.parameters())


def test_teachers_must_fit_the_images() -> None:
    noun = teacher_of(networks.build(NAME, 3, 4))
    networks.check_teachers({"x": noun}, CLASSES, 4)
    with pytest.raises(DataError) as error:
        networks.check_teachers({"x": noun}, CLASSES, 8)
    assert str(error.value) == "teacher 'x' was trained at 4 pixels, but images have 8; train it again"
    with pytest.raises(DataError) as error:
        networks.check_teachers({"x": noun}, ("a", "c", "b"), 4)
    assert str(error.value) == (
        "teacher 'x' and images: class 1 is 'b' on one side and 'c' on the other; use one class order"
    )


# --- pretrained weights ---


@pytest.mark.parametrize("kind", ["safetensors", "pth", "pt", "nested"])
def test_weights_load_from_each_kind_of_file(kind: str, tmp_path: Path) -> None:
    source, target = networks.build(NAME, 3, 4), networks.build(NAME, 3, 4)
    state = source.state_dict()
    path = tmp_path / ("w.pth" if kind == "nested" else f"w.{kind}")
    if kind == "safetensors":
        save_file(state, path)
    elif kind == "nested":
        wrapped = {f"module.{key}": value for key, value in state.items()}
        torch.save({"state_dict": wrapped, "epoch": 3}, path)
    else:
        torch.save({**state, "unused": torch.zeros(1)}, path)
    networks.load_weights(target, NAME, str(path))
    assert all(torch.equal(target.state_dict()[key], value) for key, value in state.items())


def refusal(weights: Path | str, n_classes: int = 3) -> str:
    network = networks.build(NAME, n_classes, 4)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    with pytest.raises(DataError) as error:
        networks.load_weights(network, NAME, str(weights))
    assert all(torch.equal(network.state_dict()[key], value) for key, value in before.items())
    return str(error.value)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "no.safetensors"
    assert refusal(path) == f"teacher weights '{path}' not found; give an existing file"


def test_tensors_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_file(networks.build(NAME, 3, 4).state_dict(), path)
    assert refusal(path, n_classes=4) == (
        f"teacher weights '{path}' do not fit 'convnet-d1-w2': '5.weight' has shape [3, 8], expected [4, 8] "
        "(tensors that do not fit: 2); check the network's name and the number of classes"
    )
    save_file({"0.weight": torch.zeros(2, 3, 3, 3)}, path)
    assert refusal(path) == (
        f"teacher weights '{path}' do not fit 'convnet-d1-w2': '0.bias' is missing, expected [2] "
        "(tensors that do not fit: 5); check the network's name and the number of classes"
    )


@pytest.mark.parametrize("name", ["w.safetensors", "w.pth"])
def test_a_damaged_file_is_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(b"not weights")
    sentence = refusal(path)
    assert sentence.startswith(f"teacher weights '{path}' cannot be read (")
    assert sentence.endswith("); give a .safetensors file, or a .pth file of tensors only")


def test_a_file_that_would_run_code_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    torch.save({"state_dict": Path}, path)
    assert "cannot be read" in refusal(path)


@pytest.mark.parametrize("weights", ["ResNet18_Weights.NONE_SUCH", "NoSuch_Weights.V1", "nonsense", "a.b.c"])
def test_an_unknown_torchvision_enum_is_refused(weights: str) -> None:
    assert refusal(weights) == (
        f"teacher weights {weights!r} are neither a .safetensors/.pth file nor a torchvision weights enum "
        "for 'convnet-d1-w2'"
    )


def test_torchvision_enums_state_the_pixels_they_expect() -> None:
    mean, std = networks.expected_pixels("ResNet18_Weights.IMAGENET1K_V1") or ([], [])
    assert mean == [0.485, 0.456, 0.406] and std == [0.229, 0.224, 0.225]
    for weights in (None, "w.pth", "w.safetensors", "nonsense", "NoSuch_Weights.V1", "ResNet18_Weights.NONE_SUCH"):
        assert networks.expected_pixels(weights) is None


FORMS = (
    "convnet-dN-wN, resnet10-wN, resnet18-wN, resnet10-ap, wrn-D-K, resnet18-small, resnet50-small, resnet101-small, "
    "mobilenet_v2-small, mobilenet_v2_x0_5-small, shufflenet_v2_x0_5-small, efficientnet_b0-small, densenet121-small, "
    "densenet121-k12-small, alexnet-small, "
    "a torchvision model name, or timm/NAME"
)


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
