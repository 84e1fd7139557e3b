"""DD-Ranking's scores and equal compute, from the rows that were run, and absent without them."""

from __future__ import annotations

from math import exp

import pytest
from judgements import NO_LABELS, judgement, row

from dcpipe.judging import fairness, pages

OWN, HARD = row("own", [60.0, 62.0]), row("hard", [40.0, 42.0], **NO_LABELS)
RANDOM, WHOLE = row("random", [50.0, 50.0]), row("all_images", [85.0, 85.0], **NO_LABELS)
ONLINE = {"label_bytes": 0, "fp16_label_bytes": 0, "teacher_bytes": 7}


def test_label_robust_score_of_soft_labels_is_the_published_one() -> None:
    """The fixed point of DD-Ranking: full 0.85, hard 0.40, soft 0.60, random 0.50 give 0.200637."""
    found = fairness.label_robust(judgement(OWN, HARD, RANDOM, WHOLE), "net")
    assert found is not None and found.scores[0] == pytest.approx(0.200637, abs=1e-6)
    for missing in (HARD, RANDOM, WHOLE):
        rows = [one for one in (OWN, HARD, RANDOM, WHOLE) if one is not missing]
        assert fairness.label_robust(judgement(*rows), "net") is None
    without = row("random", [50.0, 50.0], **NO_LABELS)
    assert fairness.label_robust(judgement(OWN, HARD, without, WHOLE), "net") is None, "its labels are of another kind"


def test_label_robust_score_of_hard_labels() -> None:
    random = row("random", [30.0, 30.0], **NO_LABELS)
    found = fairness.label_robust(judgement(HARD, random, WHOLE), "net")
    assert found is not None and found.scores[0] == pytest.approx(0.200637, abs=1e-6)


def test_augmentation_robust_score_compares_one_kind_of_labels() -> None:
    plain, random_plain = row("plain", [60.0, 62.0], **ONLINE), row("random_plain", [50.0, 50.0], **ONLINE)
    soft = fairness.augmentation_robust(judgement(OWN, HARD, RANDOM, plain, random_plain), "net")
    expected = [(exp(beta) - exp(-1)) / (exp(1) - exp(-1)) for beta in (0.10, 0.12)]
    assert soft is not None and soft.scores.tolist() == pytest.approx(expected)
    bare, random_bare = row("plain", [40.0, 42.0], **NO_LABELS), row("random_plain", [30.0, 30.0], **NO_LABELS)
    random_hard = row("random_hard", [30.0, 30.0], **NO_LABELS)
    hard = fairness.augmentation_robust(judgement(OWN, HARD, RANDOM, random_hard, bare, random_bare), "net")
    assert hard is not None and hard.scores[0] == pytest.approx(soft.scores[0]), "ten points above random, twice"
    assert fairness.augmentation_robust(judgement(OWN, HARD, RANDOM, bare, random_bare), "net") is None


def test_equal_compute_is_that_of_the_student_that_saw_the_fewest_images() -> None:
    short = row("own", [60.0], curve=[[10.0, 50.0], [30.0, 60.0]])
    long = row("equal_bytes", [70.0], images=300, curve=[[10.0, 55.0], [30.0, 70.0]])
    found = judgement(short, long, WHOLE)
    assert fairness.at_equal_compute(found, "net") == (3000, {"set, own": 60.0, "set, equal_bytes": 55.0})
    told = " ".join(pages.notes(found))
    assert "after at most 3,000 images: set, own 60.0, set, equal_bytes 55.0" in told
    assert fairness.at_equal_compute(judgement(OWN, RANDOM), "net") is None


def test_scores_are_told_in_percent() -> None:
    told = " ".join(pages.notes(judgement(OWN, HARD, RANDOM, WHOLE)))
    assert "(LRS, DD-Ranking) of net: 20." in told and "ARS" not in told
