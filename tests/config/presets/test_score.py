"""SCORE's rows: the paper's numbers."""

from __future__ import annotations

import pytest
from loaded import load, note

from dcpipe.config.presets.composing import families

# SCORE (arXiv 2503.13935), supplement Table 4: alpha, beta, min scale, lr, weight decay, T, batch size.
# Values for IPC 1 and 5 are those of IPC 10, for IPC 30 and 100 those of IPC 50.
TABLE_4 = {
    ("imagenet-1k", 5): (5, 1, 0.4, 0.001, 0.01, 20, 64),
    ("imagenet-1k", 30): (5, 1, 0.4, 0.001, 0.01, 20, 64),
    ("imagenet-1k", 10): (5, 1, 0.4, 0.001, 0.01, 20, 64),
    ("imagenet-1k", 50): (5, 1, 0.4, 0.001, 0.01, 20, 64),
    ("tiny-imagenet", 10): (5, 0.001, 0.3, 0.001, 0.01, 20, 50),
    ("tiny-imagenet", 50): (10, 0.001, 0.4, 0.001, 0.01, 20, 50),
    **{("imagewoof", ipc): (5, 0.1, 0.3, 0.001, 0.01, 20, 64) for ipc in (1, 10, 50, 100)},
    **{("imagenette", ipc): (0.1, 0.1, 0.2, 0.0005, 0.01, 10, 10) for ipc in (1, 10, 50, 100)},
}
# Uncompressed accuracy of ResNet-18: Tables 1, 3 and 4, supplement Table 2.
PUBLISHED = {
    "imagenet-1k-ipc5": "39.4 (Table 4",
    "imagenet-1k-ipc30": "61.3 (Table 4",
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


def test_there_is_one_for_each_row() -> None:
    assert families()["score"].rows.keys() == {f"{dataset}-ipc{ipc}" for dataset, ipc in TABLE_4} == PUBLISHED.keys()


@pytest.mark.parametrize("name", PUBLISHED)
def test_source_accuracy_and_cost_are_stated(name: str) -> None:
    assert "arXiv 2503.13935" in note(name, "source")
    assert "estimate" in note(name, "cost")
    assert PUBLISHED[name] in note(name, "published")
    for word in ("eps2", "normalisation", "epochs", "views for R_C"):
        assert word in note(name, "unstated"), word


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


@pytest.mark.parametrize(
    ("ipc", "others"),
    [(5, (41.8, 48.9, 36.9, 46.1, 31.2, 42.8, 33.1)), (30, (66.8, 67.3, 59.6, 63.1, 64.5, 68.1, 54.8))],
)
def test_sets_of_table_4_state_the_accuracy_of_every_network(ipc: int, others: tuple[float, ...]) -> None:
    published = note(f"imagenet-1k-ipc{ipc}", "published")
    names = (
        "ResNet-50",
        "ResNet-101",
        "MobileNet-V2",
        "EfficientNet-B0",
        "Swin-Tiny",
        "ConvNext-Tiny",
        "ShuffleNet-V2",
    )
    for name, accuracy in zip(names, others, strict=True):
        assert f"{name} {accuracy}" in published
    assert "at 10x" not in published and "IPC" in note(f"imagenet-1k-ipc{ipc}", "source")
