"""EDC's rows: the paper's numbers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from loaded import built, class_count, described, effective, load, note

from dcpipe import networks
from dcpipe.compression import packing
from dcpipe.config import presets
from dcpipe.config.presets.composing import families
from dcpipe.synthesis.observers import Observer
from dcpipe.types import LabelShape, Teacher

# EDC (arXiv 2404.13733), Tables 6 to 10: iterations, images in a batch of recovery (None: all), what it starts from;
# epochs of students, their batch size, schedule and RandAugment. Tiny-ImageNet has 1,000 epochs at IPC 1.
EDC_TABLES: dict[str, tuple[Any, ...]] = {
    "cifar10": (75, None, "real", 1000, 25, "multistep", 2),
    "cifar100": (2000, 100, "real", 1000, 50, "smoothing", 2),
    "tiny-imagenet": (2000, 100, "real", 300, 100, "smoothing", 2),
    "imagenet-10": (2000, 100, "rded", 1000, 50, "smoothing", 2),
    "imagenet-1k": (2000, 80, "rded", 300, 100, "smoothing", 0),
}
# Its Table 1, ResNet-18, at IPC 1, 10 and 50.
EDC_TABLE_1 = {
    "cifar10": ("32.6 ± 0.1", "79.1 ± 0.3", "87.0 ± 0.1"),
    "cifar100": ("39.7 ± 0.1", "63.7 ± 0.3", "68.6 ± 0.2"),
    "tiny-imagenet": ("39.2 ± 0.4", "51.2 ± 0.5", "56.5 ± 0.2"),
    "imagenet-10": ("45.2 ± 0.2", "63.4 ± 0.2", "82.2 ± 0.1"),
    "imagenet-1k": ("12.8 ± 0.1", "48.6 ± 0.3", "58.0 ± 0.2"),
}
EDC_ROWS = [(dataset, ipc) for dataset in EDC_TABLE_1 for ipc in (1, 10, 50)]
# Sec. A.2, in our names. EfficientNet-V2 is EfficientNet-B0 in its Table 12 and its code.
CIFAR = [
    *("resnet18-small", "convnet-d3-w128", "mobilenet_v2_x0_5-small", "wrn-16-2", "shufflenet_v2_x0_5-small"),
    *("convnet-d1-w128", "convnet-d2-w128", "convnet-d3-w32"),
]
EDC_NETWORKS = {
    "cifar10": CIFAR,
    "cifar100": CIFAR,
    "tiny-imagenet": [
        *("resnet18-small", "mobilenet_v2_x0_5-small", "shufflenet_v2_x0_5-small", "efficientnet_b0-small")
    ],
    "imagenet-10": ["resnet18", "mobilenet_v2", "shufflenet_v2_x0_5", "efficientnet_b0"],
    "imagenet-1k": ["resnet18", "mobilenet_v2", "efficientnet_b0", "shufflenet_v2_x0_5", "alexnet"],
}
EDC_SIZES = {"cifar10": 32, "cifar100": 32, "tiny-imagenet": 64, "imagenet-10": 224, "imagenet-1k": 224}
MORE_OBSERVERS = [("convnet-d2-w64", 8), ("resnet10-w16", 8), ("resnet10-w16", 32)]  # of presets of our own
EDC_EPOCHS = {"cifar10": 10, "cifar100": 50, "tiny-imagenet": 50, "imagenet-10": 20, "imagenet-1k": 0}


def test_there_is_one_for_each_row() -> None:
    assert families()["edc"].rows.keys() == {f"{dataset}-edc-ipc{ipc}" for dataset, ipc in EDC_ROWS}


@pytest.mark.parametrize(("dataset", "ipc"), EDC_ROWS)
def test_table_accuracy_and_cost_are_stated(dataset: str, ipc: int) -> None:
    name = f"{dataset}-edc-ipc{ipc}"
    assert "EDC (arXiv 2404.13733" in note(name, "source")
    assert f"IPC {ipc}, ResNet-18" in note(name, "source")
    assert EDC_TABLE_1[dataset][(1, 10, 50).index(ipc)] in note(name, "published")
    assert "estimate, not measured" in note(name, "cost")
    for word in ("this is the paper", "the code", "flatness", "codec", "minival"):
        assert word in note(name, "unstated"), word


def test_one_image_per_class_has_a_warning() -> None:
    """Of class variances that include those between images."""
    assert {ipc for dataset, ipc in EDC_ROWS if "variance: within" in note(f"{dataset}-edc-ipc{ipc}", "unstated")} == {
        1
    }
    assert all("variance: within" in note(f"{dataset}-edc-ipc1", "unstated") for dataset in EDC_TABLES)


@pytest.mark.parametrize(("dataset", "ipc"), EDC_ROWS)
def test_values_are_those_of_its_tables(dataset: str, ipc: int) -> None:
    content, classes = load(f"{dataset}-edc-ipc{ipc}"), class_count(dataset)
    iterations, batch, initial, epochs, batch_size, schedule, randaugment = EDC_TABLES[dataset]
    if (dataset, ipc) == ("tiny-imagenet", 1):
        epochs = 1000
    recovery, student, labels = effective(content), content.evaluation, content.softlabels
    assert (recovery["iterations"], recovery["initial"]) == (iterations, initial)
    assert recovery["batch_size"] == (ipc * classes if batch is None else batch)
    assert recovery["factor"] == (2 if initial == "rded" else 1)
    assert [recovery[key] for key in ("lr", "alpha", "decay", "temperature")] == [0.05, 0.5, 0.99, 4.0]
    assert (student.epochs, student.batch_size, student.schedule) == (epochs, batch_size, schedule)
    assert (student.optimizer, student.lr, student.ema) == ("adamw", 0.001, 0.99)
    assert schedule == "multistep" or student.zeta == 2
    assert labels.augmentation.randaugment == randaugment
    assert labels.views == epochs  # labels of fresh views at every epoch, as of teachers online
    assert (content.selection.method, content.selection.ipc, len(student.seeds)) == ("random", ipc, 3)


@pytest.mark.parametrize(("dataset", "ipc"), EDC_ROWS)
def test_protocol_is_named_without_a_change(dataset: str, ipc: int) -> None:
    content = load(f"{dataset}-edc-ipc{ipc}")
    name = f"edc/{dataset}" + ("/ipc1" if (dataset, ipc) == ("tiny-imagenet", 1) else "")
    assert described(content) == name
    assert content.evaluation.student == ("resnet18" if content.images.size == 224 else "resnet18-small")


def test_reduced_protocol_tells_what_is_reduced() -> None:
    assert described(load("cifar10-edc-small")) == "edc/cifar10 with epochs 300; views differ"


@pytest.mark.parametrize(("dataset", "ipc"), EDC_ROWS)
def test_networks_are_those_of_the_paper(dataset: str, ipc: int) -> None:
    content = load(f"{dataset}-edc-ipc{ipc}")
    its = content.teacher.networks
    assert [network.network for network in its.values()] == EDC_NETWORKS[dataset]
    assert content.teacher.training.epochs == EDC_EPOCHS[dataset]
    large = dataset == "imagenet-1k"
    assert all((network.weights is not None) == large for network in its.values())
    # On ImageNet-1K the EfficientNet takes part in recovery only.
    assert content.softlabels.teachers == [name for name in its if not (large and name == "efficientnet-b0")]
    assert "observers" not in content.synthesis.options


def test_pretrained_weights_have_names_of_torchvision() -> None:
    for name, network in load("imagenet-1k-edc-ipc10").teacher.networks.items():
        assert network.weights is not None
        assert networks.expected_pixels(network.weights) is not None, name


OBSERVERS = sorted({(network, EDC_SIZES[dataset]) for dataset in EDC_NETWORKS for network in EDC_NETWORKS[dataset]})


def test_the_observers_are_those_of_the_presets() -> None:
    # Written down above, as loading every preset takes seconds in each process that only looks for tests.
    matching = [load(name) for name in presets.names() if load(name).synthesis.method == "edc"]
    own = {(its.network, own.images.size) for own in matching for its in own.teacher.networks.values()}
    assert own == {*OBSERVERS, *MORE_OBSERVERS}


@pytest.mark.parametrize(("network", "size"), [*OBSERVERS, *MORE_OBSERVERS])
def test_networks_can_observe(network: str, size: int) -> None:
    weights = {key: torch.zeros_like(its, device="cpu") for key, its in built(network, size).state_dict().items()}
    teacher = Teacher(network, weights, ("a", "b"), (0.5, 0.5, 0.5), (0.25, 0.25, 0.25), size, {})
    assert Observer(network, teacher, torch.device("cpu")).entries > 0


@pytest.mark.parametrize("name", [f"{dataset}-edc-ipc{ipc}" for dataset, ipc in EDC_ROWS] + ["cifar10-edc-small"])
def test_the_codec_reaches_the_budget(name: str) -> None:
    content, classes = load(name), class_count(name.split("-edc")[0])
    labels, block = content.softlabels, content.compression
    shape = LabelShape(content.selection.ipc * classes, labels.views, classes)
    assert block.ratio is not None
    policy = labels.augmentation.policy(labels.seed, labels.mix)
    packing.plan(block.codec, block.options, shape, policy, int(shape.reference_bytes / block.ratio))
