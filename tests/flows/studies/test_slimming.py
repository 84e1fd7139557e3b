"""Slimming in a tiny workspace: rows worked out again, a killed study that goes on, and workspaces without batch
norm."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from tiny import table
from variant_studies import PARAMS, counting, run_of, run_study

from dcpipe import networks, store
from dcpipe.evaluation import contenders
from dcpipe.images import read_parts
from dcpipe.networks import slimming as surgery
from dcpipe.studies import slimming
from dcpipe.types import DataError, NotApplicableError
from dcpipe.views import normalise

FOLDER = Path("data/study/slimming")
ROWS = ["none", "statistics", "condensed", "condensed, hard labels", "random", "random, hard labels"]
STUDY: dict[str, Any] = {"ratios": [0.6, 0.0], "seeds": [0, 1, 5], "rate": 0.5}


@pytest.fixture
def desk(with_set: Path) -> Path:
    tiny.write_studies(slimming=STUDY)
    return with_set


def accuracy_of(network: torch.nn.Module, teacher: Any) -> float:
    """On the test images, one after another."""
    test = store.table_of(store.open_artifact(Path("data/images"), "images"), "test")
    correct = count = 0
    for pixels, labels in read_parts(test):
        inputs = torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2).float() / 255
        answers = network(normalise(inputs, teacher.mean, teacher.std)).argmax(1).numpy()
        correct, count = correct + int((answers == labels).sum()), count + len(labels)
    return 100 * correct / count


def test_a_study_that_was_stopped_goes_on_and_its_rows_are_worked_out(
    desk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: dict[str, int] = {}
    with monkeypatch.context() as patch:
        patch.setattr(contenders, "train_student", counting(calls, contenders.train_student, dies_at=5))
        with pytest.raises(KeyboardInterrupt):
            run_study("slimming")
    with monkeypatch.context() as patch:
        patch.setattr(contenders, "train_student", counting(calls, contenders.train_student))
        run_study("slimming")
    assert calls == {"train_student": 5 + 4 * 2 * 3 - 4}, "four were done before the interruption"
    summary = {(row["trained_on"], row["ratio"]): row for row in table(FOLDER / "summary.csv")}
    assert list(summary) == [(name, ratio) for ratio in ("0.0", "0.6") for name in ROWS]
    teacher = store.teacher_of(store.open_artifact(Path("data/teacher/resnet"), "teacher"))
    network = networks.from_teacher(teacher, torch.device("cpu"))
    groups = surgery.groups_of(network)
    masks = surgery.masks_of(network, groups, 0.6)
    cut, whole = summary["none", "0.6"], summary["none", "0.0"]
    masked = surgery.masked(network, groups, masks)
    assert float(cut["accuracy"]) == pytest.approx(accuracy_of(masked.eval(), teacher), abs=2e-3)
    assert float(whole["accuracy"]) == pytest.approx(accuracy_of(network, teacher), abs=2e-3)
    counted = surgery.size_of(network, 8)
    assert (int(whole["parameters"]), int(whole["macs"])) == (counted.parameters, counted.macs)
    assert int(cut["parameters"]) < counted.parameters and int(cut["macs"]) < counted.macs
    assert int(cut["channels"]) == sum(int(mask.sum()) for mask in masks.values())
    condensed = store.load_set(Path("data/synthesis"))
    inputs = torch.from_numpy(condensed.images).permute(0, 3, 1, 2).float() / 255
    again = surgery.recalibrate(copy.deepcopy(masked), [normalise(inputs, teacher.mean, teacher.std)])
    assert float(summary["statistics", "0.6"]["accuracy"]) == pytest.approx(accuracy_of(again, teacher), abs=2e-3)
    bytes_of = {name: summary[name, "0.6"] for name in ROWS}
    assert int(bytes_of["condensed"]["label_bytes"]) > 0 == int(bytes_of["condensed, hard labels"]["label_bytes"])
    assert bytes_of["condensed"]["image_bytes"] == bytes_of["condensed, hard labels"]["image_bytes"]
    assert all(row["protocol"].endswith("; from pruned weights, lr 0.005") for row in summary.values())
    assert len({row["accuracy"] for row in table(FOLDER / "results.csv") if row["trained_on"] == "condensed"}) > 1
    assert (FOLDER / "figure.png").read_bytes()[:4] == b"\x89PNG"


def test_the_penalty_makes_scales_smaller(desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slimming.SlimmingStudy, "cells", [slimming.SlimmingCell("none", 0.6)])
    tiny.write_studies(slimming={**STUDY, "ratios": [0.6], "sparsity": 0.0})
    run_study("slimming")
    plain = table(FOLDER / "summary.csv")[0]
    tiny.write_studies(slimming={**STUDY, "ratios": [0.6], "sparsity": 0.1})
    run_study("slimming")
    sparse = table(FOLDER / "summary.csv")[0]
    assert plain["trained_on"] == sparse["trained_on"] == "none" and plain["accuracy"] != sparse["accuracy"]


def test_each_row_is_made_sparse_on_its_own_images(desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Soft labels and hard ones, condensed and random: none begins with what another set taught."""
    seen: list[tuple[str, str]] = []
    begun: dict[str, set[float]] = {}
    train = slimming.SlimmingStudy._trained

    def watched(self: Any, context: Any, network: Any, made: Any, seed: int, note: str, extra: Any = None) -> Any:
        if extra is None:  # a repair, which is not at issue
            begun.setdefault(made.kind, set()).add(float(next(network.parameters()).detach().double().sum()))
            return network
        seen.append((made.kind, note))
        return train(self, context, network, made, seed, note, extra)

    monkeypatch.setattr(slimming.SlimmingStudy, "_trained", watched)
    tiny.write_studies(slimming={**STUDY, "ratios": [0.2], "sparsity": 0.1})
    run_study("slimming")
    names = ROWS[2:]
    assert {len(sums) for sums in begun.values()} == {1}, "all seeds begin with the same weights"
    assert len({min(sums) for sums in begun.values()}) == len(names), "and every set with its own"
    assert seen == [(name, f"sparse-{name.replace(', ', '-').replace(' ', '')}-training") for name in names]
    starts = {row["trained_on"]: row["start"] for row in table(FOLDER / "summary.csv")}
    own = {name: f"sparse on {name}" for name in names}
    assert starts == {"none": "sparse on condensed", "statistics": "sparse on condensed", **own}


def test_a_workspace_without_batch_norm_has_nothing_to_slim() -> None:
    block = slimming.SlimmingBlock.model_validate(STUDY)
    study = slimming.SlimmingStudy("slimming", block, tiny.run_of("studies").params, tiny.PARAMS)
    with pytest.raises(NotApplicableError, match=r"no teacher has batch norms .* add one to teacher.networks, such as"):
        _ = study.cells


def test_a_teacher_that_is_not_there_is_refused_by_name() -> None:
    block = slimming.SlimmingBlock.model_validate({**STUDY, "teacher": "vgg"})
    study = slimming.SlimmingStudy("slimming", block, run_of("studies").params, PARAMS)
    with pytest.raises(DataError, match=r"slimming, teacher: 'vgg' is no key of teacher.networks; choose one of main"):
        _ = study.cells
