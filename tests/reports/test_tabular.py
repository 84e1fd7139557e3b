"""Tables and spectra: plain numbers, checked against plain numbers."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from dcpipe.reports import tabular
from dcpipe.types import Score, SoftLabels, ViewPolicy

SCORES = [
    Score("score, svd", "score", "net", 2, (50.0, 51.5, 49.25), 1000, 200, epochs=9),
    Score("score, teacher online", "score", "net", 2, (1 / 3,), 1000, 0, 5000),
]


def test_a_row_a_score_with_every_byte() -> None:
    first, second = tabular.score_rows(SCORES, reference_bytes=800)
    assert first == {
        "set": "score, svd",
        "protocol": "score",
        "student": "net",
        "ipc": 2,
        "seeds": 3,
        "accuracy": 50.25,
        "std": 1.15,  # of 50, 51.5 and 49.25, over n - 1
        "image_bytes": 1000,
        "label_bytes": 200,
        "fp16_label_bytes": 800,
        "teacher_bytes": 0,
        "total_bytes": 1200,
    }
    assert (second["accuracy"], second["std"], second["seeds"], second["total_bytes"]) == (0.33, 0.0, 1, 6000)


def test_metrics_are_a_small_tree_with_plain_keys() -> None:
    rows = {"own": SCORES[0], "random 1": SCORES[1]}
    teachers = {"main": {"minival": 61.23456, "test": 60.0}, "other": {"train": 99.999}}
    assert tabular.metrics(rows, teachers) == {
        "accuracy": {"set": 50.25, "random_1": 0.33},
        "std": 1.15,
        "bytes": {"labels": 200, "total": 1200},
        "teacher": {"main": 60.0, "other": 100.0},
    }
    assert tabular.metrics(rows, {}, {"own": 40.126, "random 1": 9.0})["average"] == {"set": 40.13, "random_1": 9.0}


def test_sizes_have_the_average_of_each_seed_last() -> None:
    scores = [
        Score("mdc", "idc", "net", 3, (60.0, 61.0, 62.0), 10, 0),
        Score("mdc", "idc", "net", 1, (40.0, 43.0, 40.0), 10, 0),
    ]
    rows = tabular.size_rows("mdc", scores)
    assert rows == [
        {"entry": "mdc", "size": 1, "accuracy": 41.0, "std": 1.73, "seeds": 3},
        {"entry": "mdc", "size": 3, "accuracy": 61.0, "std": 1.0, "seeds": 3},
        {"entry": "mdc", "size": "average", "accuracy": 51.0, "std": 1.0, "seeds": 3},  # of 50, 52 and 51
    ]


def test_csv_reads_back(tmp_path: Path) -> None:
    rows = tabular.score_rows(SCORES, 800)
    path = tmp_path / "rows.csv"
    tabular.write_csv(path, rows)
    assert b"\r" not in path.read_bytes()
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("set,protocol,student,ipc,") and len(lines) == 3
    with path.open(encoding="utf-8", newline="") as stream:
        assert list(csv.DictReader(stream)) == [{key: str(value) for key, value in row.items()} for row in rows]


def labels(n: int, k: int, c: int, seed: int = 0) -> SoftLabels:
    logits = np.random.default_rng(seed).normal(0, 3, (n, k, c)).astype(np.float16)
    return SoftLabels(logits, ViewPolicy(), np.arange(n), tuple(f"class {i}" for i in range(c)), ("main",))


@pytest.mark.parametrize(("n", "k", "c"), [(1, 4, 3), (40, 3, 5), (70, 6, 4)])
def test_spectra_are_numpys_singular_values(n: int, k: int, c: int) -> None:
    some = labels(n, k, c)
    values = [np.linalg.svd(image.astype(np.float64), compute_uv=False) for image in some.logits]
    relative = np.array([value / value[0] for value in values])
    rows = tabular.spectra(some)
    assert [row["component"] for row in rows] == list(range(1, min(k, c) + 1))
    for row, column in zip(rows, relative.T, strict=True):
        expected = [np.percentile(column, share) for share in (10, 50, 90)]
        np.testing.assert_allclose([row["p10"], row["median"], row["p90"]], expected, atol=1e-10)
    assert rows[0]["p10"] == rows[0]["p90"] == 1.0


def test_spectra_look_at_so_many_images_and_no_more() -> None:
    many = labels(tabular.SPECTRUM_IMAGES + 10, 2, 2)
    few = labels(tabular.SPECTRUM_IMAGES + 10, 2, 2)
    few.logits[tabular.SPECTRUM_IMAGES :] = 0
    assert tabular.spectra(many) == tabular.spectra(few)
    few.logits[tabular.SPECTRUM_IMAGES - 1] = 0
    assert tabular.spectra(many) != tabular.spectra(few)


def test_labels_of_rank_one_have_one_component_and_labels_of_zeros_none() -> None:
    some = labels(3, 4, 3)
    some.logits[:] = np.array([1.0, 2.0, -1.0])
    np.testing.assert_allclose([row["median"] for row in tabular.spectra(some)], [1, 0, 0], atol=1e-12)
    some.logits[:] = 0
    assert [row["p90"] for row in tabular.spectra(some)] == [0, 0, 0]


def test_ranks_hold_the_share_of_the_energy_that_is_asked() -> None:
    values = np.array([[1.0, 0.5, 0.1, 0.0], [1.0, 1.0, 1.0, 1.0], [1.0, 0.0, 0.0, 0.0]])
    assert tabular.ranks(values, 0.9).tolist() == [2, 4, 1]  # 1.25 of 1.26
    assert tabular.ranks(values, 0.75).tolist() == [1, 3, 1]
