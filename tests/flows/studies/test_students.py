"""The study of students in a tiny workspace: sets made once, accuracies of the pipeline's own students, curves."""

from __future__ import annotations

import io
import statistics
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import pytest
import tiny
from PIL import Image
from tiny import table

from dcpipe import softlabels
from dcpipe.evaluation import contenders
from flows.features import features_stage
from flows.images import images_stage
from flows.teacher import teacher_stage

FOLDER = Path("data/study/students")
NETWORKS = ["convnet-d1-w4", "convnet-d1-w8"]
EPOCHS = {"evaluation": {"epochs": 4}}


def count(patch: pytest.MonkeyPatch, where: Any, name: str, calls: dict[str, int], dies_at: int = 0) -> None:
    work: Callable[..., Any] = getattr(where, name)

    @wraps(work)
    def counted(*arguments: Any, **options: Any) -> Any:
        calls[name] = calls.get(name, 0) + 1
        if calls[name] == dies_at:
            raise KeyboardInterrupt
        return work(*arguments, **options)

    patch.setattr(where, name, counted)


def test_networks_share_sets_and_score_as_in_other_studies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DCPIPE_SCRATCH", str(tmp_path / "scratch"))
    images_stage(tiny.run_of("images"))
    teacher_stage(tiny.run_of("teacher"), "main")
    features_stage(tiny.run_of("features"))
    study = {"ipc": [2, 1], "seeds": [0, 1, 5]}
    variants = {name: {"evaluation": {"student": name}} for name in NETWORKS}
    tiny.write_studies(students={"networks": NETWORKS, "tests": 2, **study}, syntheses={"variants": variants, **study})
    calls: dict[str, int] = {}
    with monkeypatch.context() as patch:
        count(patch, contenders, "score", calls, dies_at=5)
        with pytest.raises(KeyboardInterrupt):
            tiny.run_study("students", **EPOCHS)
    with monkeypatch.context() as patch:
        count(patch, contenders, "score", calls)
        count(patch, softlabels, "fill", calls)
        tiny.run_study("students", **EPOCHS)
    assert calls == {"score": 5 + 8, "fill": 1}, "four students and the first set were done before the interruption"
    tiny.run_study("syntheses", **EPOCHS)

    rows, summary, curves = (table(FOLDER / f"{name}.csv") for name in ("results", "summary", "curves"))
    assert [(row["network"], row["ipc"], row["seed"]) for row in rows] == [
        (name, ipc, seed) for ipc in ("1", "2") for name in NETWORKS for seed in ("0", "1", "5")
    ]
    others = {
        (row["variant"], row["ipc"], row["seed"]): (row["accuracy"], row["label_bytes"])
        for row in table(Path("data/study/syntheses/results.csv"))
    }
    for row in rows:
        # Tests in the course of training change nothing.
        assert (row["accuracy"], row["label_bytes"]) == others[row["network"], row["ipc"], row["seed"]]
    means = {(row["network"], row["ipc"]): float(row["accuracy"]) for row in summary}
    for row in summary:
        own = [float(r["accuracy"]) for r in rows if (r["network"], r["ipc"]) == (row["network"], row["ipc"])]
        assert float(row["accuracy"]) == pytest.approx(statistics.mean(own), abs=2e-3)
        gap = means[row["network"], row["ipc"]] - means[NETWORKS[0], row["ipc"]]
        assert row["gap"] == "" if row["network"] == NETWORKS[0] else float(row["gap"]) == pytest.approx(gap, abs=2e-3)
    assert [row["epoch"] for row in curves] == ["2", "4"] * 4
    last = {(row["network"], row["ipc"]): float(row["accuracy"]) for row in curves if row["epoch"] == "4"}
    assert last == pytest.approx(means, abs=2e-3)
    for name in ("figure", "curves", "images/ipc1", "images/ipc2"):
        assert Image.open(io.BytesIO((FOLDER / f"{name}.png").read_bytes())).format == "PNG"
