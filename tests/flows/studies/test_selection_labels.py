"""The study of selectors with packed and hard labels, and its differences to a reference, worked out again."""

from __future__ import annotations

import shutil
import statistics
from pathlib import Path
from typing import Any

import pytest
import tiny
from tiny import run_of, run_study, table

from flows.features import features_stage
from flows.images import images_stage
from flows.teacher import teacher_stage

SELECTORS: dict[str, Any] = {"random": {}, "score": {"options": {"alpha": 1.0, "beta": 0.1}}}
FOLDER = Path("data/study/selection")


def study(**block: Any) -> list[dict[str, str]]:
    """The results of a fresh study at one image per class."""
    shutil.rmtree("data/study", ignore_errors=True)
    tiny.write_studies(selection={"selectors": SELECTORS, "ipc": [1], "seeds": [0, 1, 5], **block})
    run_study("selection")
    return table(FOLDER / "results.csv")


def without(row: dict[str, str], *names: str) -> dict[str, str]:
    return {key: value for key, value in row.items() if key not in names}


def test_the_same_picks_with_hard_labels_have_rows_of_their_own_and_each_is_compared(scratch: Path) -> None:
    """Packed rows are those of a study without hard labels, and hard rows those of a study of hard labels alone."""
    images_stage(run_of("images"))
    teacher_stage(run_of("teacher"), "main")
    features_stage(run_of("features"))
    plain = study()
    assert "labels" not in plain[0] and "difference" not in table(FOLDER / "summary.csv")[0]
    rows = study(labels=["packed", "hard"], against="random")
    assert [(row["selector"], row["seed"], row["labels"]) for row in rows] == [
        (name, seed, kind) for name in SELECTORS for seed in ("0", "1", "5") for kind in ("packed", "hard")
    ]
    kinds = {kind: [row for row in rows if row["labels"] == kind] for kind in ("packed", "hard")}
    assert [without(row, "labels") for row in kinds["packed"]] == plain
    changed = ("labels", "accuracy", "label_bytes")
    assert [without(row, *changed) for row in kinds["hard"]] == [without(row, *changed) for row in plain]
    assert {row["label_bytes"] for row in kinds["hard"]} == {"0"}
    assert [row["accuracy"] for row in kinds["hard"]] != [row["accuracy"] for row in plain]

    summary = table(FOLDER / "summary.csv")
    assert [(row["selector"], row["labels"]) for row in summary] == [
        (name, kind) for name in SELECTORS for kind in ("packed", "hard")
    ]
    for row in summary:
        assert (row["fp16_label_bytes"] == "0") == (row["labels"] == "hard")
        own, base = (
            [float(r["accuracy"]) for r in kinds[row["labels"]] if r["selector"] == name]
            for name in (row["selector"], "random")
        )
        if row["selector"] == "random":
            assert row["against"] == row["difference"] == row["difference_se"] == row["difference_ci"] == ""
            continue
        apart = [a - b for a, b in zip(own, base, strict=True)]
        assert row["against"] == "random"
        assert float(row["difference"]) == pytest.approx(statistics.mean(apart), abs=1e-3)
        assert float(row["difference_se"]) == pytest.approx(statistics.stdev(apart) / 3**0.5, abs=1e-3)
        assert float(row["difference_ci"]) == pytest.approx(4.3027 * statistics.stdev(apart) / 3**0.5, abs=2e-3)

    shutil.rmtree("data/teacher")
    assert study(labels=["hard"]) == kinds["hard"]
