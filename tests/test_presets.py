"""Presets: every file is valid, says where it comes from and what it costs, and the paper's numbers are the paper's."""

from __future__ import annotations

import inspect
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from dcpipe import images, networks, packing, params, presets, protocols, selection, synthesis
from dcpipe.synthesis.observers import Observer
from dcpipe.types import DataError, LabelShape, Teacher

ROOT = Path(__file__).resolve().parent.parent

# SCORE (arXiv 2503.13935), supplement Table 4: alpha, beta, min scale, lr, weight decay, T, batch size.
# Values for IPC 1 and 100 are those of IPC 10 and 50.
TABLE_4 = {
    ("imagenet-1k", 10): (5, 1, 0.4, 0.001, 0.01, 20, 64),
    ("imagenet-1k", 50): (5, 1, 0.4, 0.001, 0.01, 20, 64),
    ("tiny-imagenet", 10): (5, 0.001, 0.3, 0.001, 0.01, 20, 50),
    ("tiny-imagenet", 50): (10, 0.001, 0.4, 0.001, 0.01, 20, 50),
    **{("imagewoof", ipc): (5, 0.1, 0.3, 0.001, 0.01, 20, 64) for ipc in (1, 10, 50, 100)},
    **{("imagenette", ipc): (0.1, 0.1, 0.2, 0.0005, 0.01, 10, 10) for ipc in (1, 10, 50, 100)},
}
# Uncompressed accuracy of ResNet-18: Tables 1 and 3, supplement Table 2.
PUBLISHED = {
    "imagenet-1k-ipc10": "54.6 ± 0.2",
    "imagenet-1k-ipc50": "63.0 ± 0.3",
    "tiny-imagenet-ipc10": "51.3 ± 0.2",
    "tiny-imagenet-ipc50": "58.4 ± 0.1",
    "imagewoof-ipc1": "17.9 ± 0.8",
    "imagewoof-ipc10": "45.1 ± 1.7",
    "imagewoof-ipc50": "74.1 ± 1.2",
    "imagewoof-ipc100": "75.1 ± 0.2",
    "imagenette-ipc1": "29.5 ± 0.7",
    "imagenette-ipc10": "71.6 ± 0.2",
    "imagenette-ipc50": "84.5 ± 0.2",
    "imagenette-ipc100": "86.6 ± 0.5",
}
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
EDC_EPOCHS = {"cifar10": 10, "cifar100": 50, "tiny-imagenet": 50, "imagenet-10": 20, "imagenet-1k": 0}
OWN = {"digits", "digits-edc", "cifar10-small", "cifar10-edc-small", "tiny-imagenet-50-small"}


@cache
def load(name: str) -> params.Params:
    return params.load(ROOT / "dcpipe" / "presets" / f"{name}.yaml")


def test_there_is_one_for_each_row() -> None:
    score = {f"{dataset}-ipc{ipc}" for dataset, ipc in TABLE_4}
    edc = {f"{dataset}-edc-ipc{ipc}" for dataset, ipc in EDC_ROWS}
    assert set(presets.names()) == {*OWN, *score, *edc}
    assert presets.names()[0] == "digits"


@pytest.mark.parametrize("name", presets.names())
def test_is_valid(name: str) -> None:
    content = load(name)
    options = content.images.options
    params.check_options("images.source", content.images.source, images.SOURCES, options)
    params.check_options("selection.method", content.selection.method, selection.SELECTORS, content.selection.options)
    params.check_options("synthesis.method", content.synthesis.method, synthesis.METHODS, content.synthesis.options)
    assert content.compression.ratio is not None
    assert content.compression.ratio > 0
    size = content.images.size
    for network in (content.evaluation.student, *(t.network for t in content.teacher.networks.values())):
        built(network, size)


@cache
def built(network: str, size: int) -> nn.Module:
    """For two classes, as heads are not what a preset can get wrong; without numbers, which take time to draw."""
    with torch.device("meta"):
        return networks.build(network, 2, size)


def test_release_names_are_distinct() -> None:
    released = [load(name).release.name for name in presets.names()]
    assert len(set(released)) == len(released)


@pytest.mark.parametrize("name", presets.names())
def test_header_names_source_accuracy_and_cost(name: str) -> None:
    told = presets.header(name)
    assert {"source", "published", "cost"} <= told.keys()
    if name in PUBLISHED:
        assert "arXiv 2503.13935" in told["source"]
        assert "estimate" in told["cost"]
        assert PUBLISHED[name] in told["published"]
        for word in ("eps2", "normalisation", "epochs", "views for R_C"):
            assert word in told["unstated"], word


@pytest.mark.parametrize(("dataset", "ipc"), EDC_ROWS)
def test_header_of_edc_names_table_accuracy_and_cost(dataset: str, ipc: int) -> None:
    told = presets.header(f"{dataset}-edc-ipc{ipc}")
    assert "EDC (arXiv 2404.13733" in told["source"]
    assert f"IPC {ipc}, ResNet-18" in told["source"]
    assert EDC_TABLE_1[dataset][(1, 10, 50).index(ipc)] in told["published"]
    assert "estimate, not measured" in told["cost"]
    for word in ("this is the paper", "the code", "flatness", "codec", "minival"):
        assert word in told["unstated"], word


def test_header_joins_lines_until_another_comment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x.yaml").write_text(
        "# Title\n# source: a\n#   b\n# aside\n#   c\n# cost: 1\nimages:\n# published: no\n"
    )
    monkeypatch.setattr(presets, "_FOLDER", tmp_path)
    assert presets.header("x") == {"source": "a b", "cost": "1"}


@pytest.mark.parametrize(("dataset", "ipc"), TABLE_4)
def test_values_are_those_of_the_paper(dataset: str, ipc: int) -> None:
    content = load(f"{dataset}-ipc{ipc}")
    chosen, student = content.selection.options, content.evaluation
    assert content.softlabels.augmentation == content.features.augmentation
    assert content.softlabels.augmentation.scale_max == 1
    found = (
        chosen["alpha"],
        chosen["beta"],
        content.softlabels.augmentation.scale_min,
        student.lr,
        student.weight_decay,
        student.temperature,
        student.batch_size,
    )
    assert found == TABLE_4[dataset, ipc]
    assert (content.selection.ipc, content.softlabels.views, student.epochs) == (ipc, 300, 300)
    assert student.optimizer == "adamw"
    assert len(student.seeds) == 3
    assert content.features.label_rate.stored_views == content.softlabels.views


@pytest.mark.parametrize(("dataset", "ipc"), EDC_ROWS)
def test_values_of_edc_are_those_of_its_tables(dataset: str, ipc: int) -> None:
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
def test_protocol_of_edc_is_told_without_a_change(dataset: str, ipc: int) -> None:
    content = load(f"{dataset}-edc-ipc{ipc}")
    name = f"edc/{dataset}" + ("/ipc1" if (dataset, ipc) == ("tiny-imagenet", 1) else "")
    assert told(content) == name
    assert content.evaluation.student == ("resnet18" if content.images.size == 224 else "resnet18-small")


def test_reduced_protocol_tells_what_is_reduced() -> None:
    assert told(load("cifar10-edc-small")) == "edc/cifar10 with epochs 300; views differ"


@pytest.mark.parametrize(("dataset", "ipc"), EDC_ROWS)
def test_networks_of_edc_are_those_of_the_paper(dataset: str, ipc: int) -> None:
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


def observers_of_presets() -> list[tuple[str, int]]:
    """Every network that observes, with its image size."""
    matching = [load(name) for name in presets.names() if load(name).synthesis.method == "edc"]
    return sorted({(its.network, own.images.size) for own in matching for its in own.teacher.networks.values()})


@pytest.mark.parametrize(("network", "size"), observers_of_presets())
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


def class_count(dataset: str) -> int:
    return {"cifar10": 10, "cifar100": 100, "tiny-imagenet": 200, "imagenet-10": 10, "imagenet-1k": 1000}[dataset]


def effective(content: params.Params) -> dict[str, Any]:
    """The options of a synthesis, defaults included."""
    found = inspect.signature(synthesis.METHODS[content.synthesis.method]).parameters.values()
    return {p.name: p.default for p in found if p.kind is p.KEYWORD_ONLY} | content.synthesis.options


def told(content: params.Params) -> str:
    """The protocol as scores name it."""
    labels = content.softlabels
    return protocols.told(content.evaluation, {**labels.augmentation.model_dump(), "mix": labels.mix})


def test_the_default_is_the_repositorys_own() -> None:
    assert presets.text("digits") == (ROOT / "params.yaml").read_text(encoding="utf-8")


def test_unknown_preset_lists_the_known() -> None:
    with pytest.raises(
        DataError, match=r"^unknown preset 'digit'; choose one of digits, cifar10-edc-ipc1, cifar10-edc-ipc10"
    ):
        presets.text("digit")
