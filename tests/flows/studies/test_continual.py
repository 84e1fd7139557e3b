"""Continual learning in a tiny workspace: memories of equal bytes, classes in DM's order, and a killed study."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tiny
from tiny import table
from variant_studies import PARAMS, counting, run_of, run_study

from dcpipe import store
from dcpipe.evaluation import contenders
from dcpipe.studies import continual
from dcpipe.types import DataError

FOLDER = Path("data/study/continual")
MEMORIES = ["random", "herding", "condensed-hard", "condensed"]
STUDY: dict[str, Any] = {"tasks": 2, "seeds": [0, 1, 5]}


def study_of(**changes: Any) -> continual.ContinualStudy:
    block = continual.ContinualBlock.model_validate({**STUDY, **changes})
    return continual.ContinualStudy("continual", block, run_of("studies").params, PARAMS)


def test_a_study_that_was_stopped_goes_on_with_memories_of_equal_bytes(
    with_set: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny.write_studies(continual=STUDY)
    calls: dict[str, int] = {}
    with monkeypatch.context() as patch:
        patch.setattr(contenders, "train_student", counting(calls, contenders.train_student, dies_at=8))
        with pytest.raises(KeyboardInterrupt):
            run_study("continual")
    seen: list[tuple[set[int], float]] = []

    def watched(dataset: Any, *arguments: Any, **options: Any) -> Any:
        dataset.set_epoch(0)
        _, targets = dataset.batch(np.arange(len(dataset)))
        given = targets.argmax(1) if targets.ndim == 2 else targets
        unseen = set(range(10)) - {*dataset.images.labels.tolist()}
        seen.append(({*given.tolist()}, float(targets[:, sorted(unseen)].sum()) if unseen else 0.0))
        assert np.allclose(targets.sum(1).numpy(), 1, atol=1e-5)
        return trained(dataset, *arguments, **options)

    trained = counting(calls, contenders.train_student)
    with monkeypatch.context() as patch:
        patch.setattr(contenders, "train_student", watched)
        run_study("continual")
    assert calls == {"train_student": 8 + 4 * 2 * 3 - 7}, "seven were done before the interruption"
    assert all(mass == 0.0 for _, mass in seen), "a label tells of a class that has not arrived"
    assert {len(answers) <= 5 for answers, _ in seen} == {True, False}

    rows, summary = table(FOLDER / "results.csv"), table(FOLDER / "summary.csv")
    assert [(row["memory"], row["classes"]) for row in summary] == [(m, c) for m in MEMORIES for c in ("5", "10")]
    last = {row["memory"]: row for row in summary if row["classes"] == "10"}
    pack = int(last["condensed"]["label_bytes"])
    whole = Path("data/synthesis/images.parquet").stat().st_size
    assert int(last["condensed-hard"]["image_bytes"]) == int(last["condensed"]["image_bytes"]) and pack > 0
    budget = whole + store.load_pack(Path("data/compression"), store.load_set(Path("data/synthesis")).ids).n_bytes
    for name in ("random", "herding"):
        assert int(last[name]["ipc"]) > int(last["condensed"]["ipc"]) == 2
        assert whole < int(last[name]["image_bytes"]) <= budget and last[name]["label_bytes"] == "0"
    for memory in MEMORIES:
        own = [float(row["accuracy"]) for row in summary if row["memory"] == memory]
        assert float(last[memory]["average"]) == pytest.approx(np.mean(own), abs=2e-3)
        assert last[memory]["forgetting"] and not summary[0]["forgetting"]
        first = {row["seed"]: row for row in rows if row["memory"] == memory and row["task"] == "1"}
        assert len(first) == 3 and all(0 <= float(row["accuracy"]) <= 100 for row in first.values())
    assert (FOLDER / "figure.png").read_bytes()[:4] == b"\x89PNG"


def test_equal_images_are_as_many(with_set: Path) -> None:
    tiny.write_studies(continual={**STUDY, "memories": ["random"], "equal": "images"})
    run_study("continual")
    assert {row["ipc"] for row in table(FOLDER / "summary.csv")} == {"2"}


def test_classes_come_in_the_order_of_the_official_code() -> None:
    """NumPy's legacy permutation, which must not change: these are its numbers for seed 0."""
    assert np.concatenate(continual.task_classes(10, 5, 0)).tolist() == [2, 8, 4, 9, 1, 6, 7, 3, 0, 5]
    assert np.concatenate(continual.task_classes(10, 3, 1)).tolist() == [2, 9, 6, 4, 0, 3, 1, 7, 8, 5]
    assert [len(part) for part in continual.task_classes(10, 3, 1)] == [4, 3, 3]


def test_forgetting_of_a_matrix_by_hand() -> None:
    """Task 1 was best after task 2 (90), task 2 at once (80); now they are 60 and 70."""
    assert continual.forgetting([[85.0], [90.0, 80.0], [60.0, 70.0, 99.0]]) == pytest.approx((30 + 10) / 2)
    assert continual.forgetting([[50.0], [60.0, 10.0]]) == -10.0  # it got better


def test_cut_labels_are_the_softmax_of_the_classes_seen() -> None:
    import torch

    logits, seen = torch.randn(6, 10, dtype=torch.float64), np.array([7, 1, 4])

    class Whole:
        n_images = 6

        def targets(self, located: Any, inputs: Any, temperature: float) -> torch.Tensor:
            return torch.softmax(logits / temperature, 1)

    cut = continual.SeenLabels(Whole(), seen, 10, torch.device("cpu")).targets({}, torch.zeros(6), 2.0)  # type: ignore[arg-type]
    assert torch.allclose(cut[:, seen], torch.softmax(logits[:, seen] / 2, 1), atol=1e-6)
    assert cut.sum(1) == pytest.approx(torch.ones(6)) and (cut > 0).sum() == 18


def test_labels_without_mass_on_the_classes_seen_are_uniform_over_them() -> None:
    """Of `topk`, which keeps other classes only, and of a teacher that is sure of another class."""
    import torch

    logits = torch.tensor([[-torch.inf, -torch.inf, -torch.inf, 2.0], [0.0, 1.0, 2.0, 80.0]])

    class Whole:
        n_images = 2

        def targets(self, located: Any, inputs: Any, temperature: float) -> torch.Tensor:
            return torch.softmax(logits / temperature, 1)

    cut = continual.SeenLabels(Whole(), np.array([0, 1]), 4, torch.device("cpu")).targets({}, torch.zeros(2), 1.0)  # type: ignore[arg-type]
    assert cut[0].tolist() == [0.5, 0.5, 0, 0]
    assert cut[1].tolist() == pytest.approx([*torch.softmax(logits[1, :2], 0).tolist(), 0, 0], abs=1e-5)


def test_tasks_that_cannot_be_tested_are_refused() -> None:
    """Class 5 has no test images, and with seed 0 it is the last of ten tasks."""
    study = study_of(tasks=10)
    labels = np.arange(9).repeat(2)
    labels[labels == 5] = 9
    context = SimpleNamespace(
        train=SimpleNamespace(classes=tuple("abcdefghij"), size=8), test=SimpleNamespace(labels=labels), teachers={}
    )
    with pytest.raises(DataError, match=r"no class of task 10 of seed 0 has images in the split 'test'; give fewer"):
        study.check(context)  # type: ignore[arg-type]


@pytest.mark.parametrize(("tasks", "sentence"), [(11, "11 tasks cannot be made of 10 classes; give at most 10")])
def test_more_tasks_than_classes_are_refused(with_set: Path, tasks: int, sentence: str) -> None:
    tiny.write_studies(continual={**STUDY, "tasks": tasks})
    with pytest.raises(DataError, match=sentence):
        run_study("continual")
    assert not FOLDER.exists()


def test_a_loss_on_raw_logits_is_refused() -> None:
    study = study_of()
    study.protocol = continual.replace(study.protocol, loss="mse_gt")
    with pytest.raises(DataError, match="loss 'mse_gt' takes raw logits, which cannot be cut"):
        _ = study.cells
