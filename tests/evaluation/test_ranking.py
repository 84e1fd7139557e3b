"""Robust scores: fixed points, laws, and the code of DD-Ranking on the same accuracies; accuracy at equal compute."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcpipe.evaluation.ranking import (
    at_equal_compute,
    augmentation_robust,
    hard_label_robust,
    label_robust,
    within_compute,
)
from dcpipe.types import DataError

Fraction = st.floats(0, 1)
Runs = st.integers(1, 5).flatmap(lambda n: st.lists(st.tuples(*[Fraction] * 4), min_size=n, max_size=n))


def mapped(alpha: float) -> float:
    return (math.exp(alpha) - math.exp(-1)) / (math.exp(1) - math.exp(-1))


@pytest.mark.parametrize(
    ("accuracies", "score"), [((1, 0, 0, 1), 0.0), ((0.3, 0.3, 0.7, 0.7), 0.268941), ((0, 1, 1, 0), 1.0)]
)
def test_the_ends_and_the_middle(accuracies: tuple[float, ...], score: float) -> None:
    """alpha is -1, 0 and +1; 0 is a set as good as random images and as all of them."""
    assert label_robust(*accuracies).mean == pytest.approx(score, abs=1e-6)
    whole, hard, soft, random = accuracies
    assert augmentation_robust(soft, random, hard, whole).mean == pytest.approx(score, abs=1e-6)


def test_a_set_that_the_facts_of_ddranking_give() -> None:
    assert label_robust(0.85, 0.4, 0.6, 0.5).mean == pytest.approx(0.200637, abs=1e-6)
    assert hard_label_robust(0.85, 0.4, 0.3).mean == pytest.approx(0.200637, abs=1e-6)
    assert augmentation_robust(0.6, 0.5, 0.4, 0.3).mean == pytest.approx(mapped(0.1), abs=1e-12)


@given(Runs, Fraction)
def test_runs_are_scored_before_they_are_averaged(runs: list[tuple[float, ...]], weight: float) -> None:
    columns = [list(column) for column in zip(*runs, strict=True)]
    found = label_robust(*columns, weight=weight)
    slow = [mapped(weight * (c - d) - (1 - weight) * (a - b)) for a, b, c, d in runs]
    assert found.scores.tolist() == pytest.approx(slow, abs=1e-12)
    assert found.mean == pytest.approx(sum(slow) / len(slow), abs=1e-12)
    spread = math.sqrt(sum((score - found.mean) ** 2 for score in slow) / len(slow))
    assert found.std == pytest.approx(spread, abs=1e-9)
    assert ((found.scores >= -1e-12) & (found.scores <= 1 + 1e-12)).all()
    hard = hard_label_robust(columns[0], columns[1], columns[3], weight=weight)
    assert (
        hard.scores.tolist()
        == label_robust(columns[0], columns[1], columns[1], columns[3], weight=weight).scores.tolist()
    )
    robust = augmentation_robust(*columns, weight=weight)
    slow = [mapped(weight * (a - b) + (1 - weight) * (c - d)) for a, b, c, d in runs]
    assert robust.scores.tolist() == pytest.approx(slow, abs=1e-12)


def test_one_number_stands_for_all_runs() -> None:
    found = label_robust(0.85, [0.4, 0.5], [0.6, 0.7], 0.5)
    assert found.scores.tolist() == label_robust([0.85, 0.85], [0.4, 0.5], [0.6, 0.7], [0.5, 0.5]).scores.tolist()


def test_percentages_and_other_mistakes_are_refused() -> None:
    with pytest.raises(DataError, match=r"^robust score: set_hard is \[40.0\]; give fractions in 0..1, which is perc"):
        label_robust(0.85, 40.0, 0.6, 0.5)
    with pytest.raises(DataError, match=r"^robust score: random_hard is \[nan\]"):
        hard_label_robust(0.85, 0.4, math.nan)
    with pytest.raises(DataError, match=r"runs differ in number \(all_hard 1, set_hard 2, set_soft 3, random_soft 1\)"):
        label_robust(0.85, [0.4] * 2, [0.6] * 3, 0.5)
    with pytest.raises(DataError, match=r"^robust score: set_plain is \[\]"):
        augmentation_robust(0.6, 0.5, [], 0.3)
    with pytest.raises(DataError, match=r"^robust score: weight is 2; give a number in 0..1$"):
        hard_label_robust(0.85, 0.4, 0.3, weight=2)


# --- the code of DD-Ranking ---

# (mean, std) that version 0.2.0 computed of `accuracies`.
RECORDED = {
    "hard": (0.24782791902319704, 0.0964043850088993),
    "soft": (0.2773499258159478, 0.0991153151826576),
    "augmented": (0.2671658832273903, 0.09722205641866404),
}


@pytest.fixture(scope="module")
def metrics() -> ModuleType:
    """Its evaluators. The package needs NumPy 1, so it is not among the packages for development; where it is on the
    path all the same, its formulas are compared."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("ddranking.metrics")


class Stub(SimpleNamespace):
    """An evaluator made without its data sets: it answers accuracies instead of training for them."""

    num_eval, num_classes, ipc, rank, use_dist, eval_full_data = 5, 2, 1, 0, False, True
    dataset, model_name, save_path, label_type, soft_label_mode = "CIFAR10", "ConvNet-3", None, "hard", "S"

    def _get_random_data_helper(self, eval_iter: int) -> tuple[None, ...]:
        return (None,) * (4 if self.augmented else 3)


def next_of(values: Iterator[float]) -> object:
    return lambda *arguments, **options: (next(values), 0.01)


def answers_of(name: str, module: ModuleType, patch: pytest.MonkeyPatch, stub: Stub) -> dict[str, float]:
    """What `compute_metrics` of an evaluator returns for a stub."""
    home = {"LabelRobustScoreHard": "hard_label", "LabelRobustScoreSoft": "soft_label"}.get(name, "aug_robust")
    inside = getattr(module, home)
    for quiet in ("save_results", "logging", "set_seed"):  # the first would raise for its lists of unequal length
        patch.setattr(inside, quiet, lambda *arguments, **options: None)
    image, labels = object(), object()
    options = {} if name == "LabelRobustScoreHard" else {"soft_labels": labels}
    found: dict[str, float] = getattr(module, name).compute_metrics(stub, image_tensor=image, **options)
    return found


@pytest.fixture
def accuracies() -> np.ndarray:
    return np.random.default_rng(3).uniform(0, 1, (4, 5))


def test_scores_are_those_that_ddranking_gave(accuracies: np.ndarray) -> None:
    whole, hard, soft, random = accuracies
    found = {
        "hard": hard_label_robust(whole, hard, random),
        "soft": label_robust(whole, hard, soft, random),
        "augmented": augmentation_robust(whole, hard, soft, random),
    }
    for kind, scores in found.items():
        assert (scores.mean, scores.std) == pytest.approx(RECORDED[kind], abs=1e-12)


@pytest.mark.parametrize("kind", RECORDED)
def test_scores_are_those_of_ddranking(
    metrics: ModuleType, monkeypatch: pytest.MonkeyPatch, accuracies: np.ndarray, kind: str
) -> None:
    whole, hard, soft, random = accuracies
    if kind == "hard":  # its order: the set, all images, random images
        stub = Stub(augmented=False)
        stub._compute_hard_label_metrics_helper = next_of(iter(np.stack([hard, whole, random], 1).reshape(-1)))
        theirs = answers_of("LabelRobustScoreHard", metrics, monkeypatch, stub)
        ours = hard_label_robust(whole, hard, random)
    elif kind == "soft":
        stub = Stub(augmented=False)
        stub._compute_hard_label_metrics_helper = next_of(iter(np.stack([hard, whole], 1).reshape(-1)))
        stub._compute_soft_label_metrics_helper = next_of(iter(np.stack([soft, random], 1).reshape(-1)))
        theirs = answers_of("LabelRobustScoreSoft", metrics, monkeypatch, stub)
        ours = label_robust(whole, hard, soft, random)
    else:
        stub = Stub(augmented=True)
        stub._compute_with_aug_metrics_helper = next_of(iter(np.stack([whole, hard], 1).reshape(-1)))
        stub._compute_without_aug_metrics_helper = next_of(iter(np.stack([soft, random], 1).reshape(-1)))
        theirs = answers_of("AugmentationRobustScore", metrics, monkeypatch, stub)
        ours = augmentation_robust(whole, hard, soft, random)
    name = "augmentation_robust_score" if kind == "augmented" else "label_robust_score"
    assert (ours.mean, ours.std) == pytest.approx((theirs[f"{name}_mean"], theirs[f"{name}_std"]), abs=1e-12)
    assert (ours.mean, ours.std) == pytest.approx(RECORDED[kind], abs=1e-12)


# --- equal compute ---

CURVE = [(10, 0.5), (20, 0.6), (30, 0.65)]


@pytest.mark.parametrize(("seen", "accuracy"), [(999, None), (1000, 0.5), (1999, 0.5), (2000, 0.6), (10**9, 0.65)])
def test_the_last_test_within_a_number_of_images_counts(seen: int, accuracy: float | None) -> None:
    assert within_compute(CURVE, 100, seen) == accuracy


def test_all_are_compared_where_the_shortest_training_ends() -> None:
    """The second shows twice as many images per epoch, so it is only at its first test by then."""
    seen, found = at_equal_compute(
        {"short": (CURVE, 100), "long": ([(15, 0.7), (30, 0.8)], 200), "late": ([(31, 1)], 100)}
    )
    assert seen == 3000
    assert found == {"short": 0.65, "long": 0.7, "late": None}


@pytest.mark.parametrize(
    ("curve", "images", "seen", "sentence"),
    [
        ([], 1, 1, r"after epochs \[\]; give at least one"),
        ([(0, 0.1)], 1, 1, r"after epochs \[0\]"),
        ([(2, 0.1), (2, 0.2)], 1, 1, r"after epochs \[2, 2\]; give at least one, rising from 1"),
        ([(1, math.nan)], 1, 1, "an accuracy is NaN"),
        (CURVE, 0, 1, "images_per_epoch is 0; give 1 or more"),
        (CURVE, 1, 0, "images_seen is 0; give 1 or more"),
    ],
)
def test_impossible_curves_are_refused(curve: list, images: int, seen: int, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        within_compute(curve, images, seen)


def test_no_curve_at_all() -> None:
    with pytest.raises(DataError, match="there is no learning curve; give at least one"):
        at_equal_compute({})
