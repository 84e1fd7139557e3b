"""DATM's rows: the values of its official code."""

from __future__ import annotations

from typing import Any

import pytest
from loaded import described, effective, load, note

from dcpipe.config.presets.composing import families

# Bound of start epochs at first and in the end, and iterations in between; rates of images, labels and step size; the
# largest loss.
DATM_VALUES: dict[int, tuple[Any, ...]] = {
    1: (None, 4, 1000, 100.0, 5.0, 1e-7, 1.1),
    10: (10, 20, 1000, 100.0, 2.0, 1e-5, 1.0),
    50: (20, 40, 2000, 1000.0, 2.0, 1e-5, 1.0),
}


def test_there_is_one_for_each_row() -> None:
    assert families()["datm"].rows.keys() == {f"cifar10-datm-ipc{ipc}" for ipc in DATM_VALUES}


@pytest.mark.parametrize("ipc", DATM_VALUES)
def test_values_are_those_of_its_code(ipc: int) -> None:
    content = load(f"cifar10-datm-ipc{ipc}")
    found = effective(content)
    keys = ("grow_from", "start_below", "grow_for", "lr", "lr_labels", "lr_rate", "skip_above")
    assert tuple(found[key] for key in keys) == DATM_VALUES[ipc] and content.selection.ipc == ipc
    shared = {
        "iterations": 10000,
        "steps": 80,
        "span": 2,
        "start_from": 0,
        "rate": 0.01,
        "momentum": 0.5,
        "batch": None,
    }
    experts = {"experts": 100, "expert_epochs": 100, "expert_lr": 0.01, "expert_batch": 256, "initial": "predicted"}
    assert {key: found[key] for key in shared | experts} == shared | experts
    assert (found["network"], found["strategy"]) == ("convnet-d3-w128", content.softlabels.augmentation.siamese)


@pytest.mark.parametrize("ipc", DATM_VALUES)
def test_students_learn_from_the_learned_labels_at_the_learned_rate(ipc: int) -> None:
    content = load(f"cifar10-datm-ipc{ipc}")
    assert (content.softlabels.method, content.compression.codec) == ("learned", "mean_label")
    assert described(content) == "dcbench/cifar10/dsa with lr learned" and content.evaluation.temperature == 1.0
    assert (content.evaluation.epochs, content.evaluation.student) == (1000, "convnet-d3-w128")
    assert note(f"cifar10-datm-ipc{ipc}", "published").startswith("none without ZCA")
