"""The decisions that a method records are saved as a table and a figure, and displayed during the run."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny import PARAMS, run_of, table

from dcpipe import store
from dcpipe.types import DataError, Selection
from flows.images import images_stage
from flows.running import drawing, runtime
from flows.running.drawing import Records
from flows.running.inputs import Inputs
from flows.running.reporting import Plain
from flows.synthesis import synthesis_stage
from flows.teacher import teacher_stage

ROWS = [{"loop": loop, "class": -1, "subset": subset, "frozen": 0} for loop, subset in ((0, 1), (3, 2), (5, 2))]
OPTIONS = {"network": "convnet-d1-w4", "outer": 4, "inner": 1, "real_batch": 8, "learn_images": 8, "factor": 1}
MDC = {"method": "mdc", "options": {"options": OPTIONS, "period": 1}}


class Watching(Plain):
    """A reporter that somebody looks at."""

    def __init__(self, stage: str) -> None:
        super().__init__(stage)
        self.pictures: list[tuple[str, bytes]] = []

    @property
    def watched(self) -> bool:
        return True

    def image(self, title: str, png: bytes) -> None:
        self.pictures.append((title, png))


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DCPIPE_SCRATCH", str(tmp_path / "scratch"))
    monkeypatch.setattr(runtime, "code_digest", cache(runtime.code_digest))  # every bench asks for it
    return tmp_path


def test_the_latest_rows_are_saved_and_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = Watching("synthesis")
    records = Records(replace(run_of("synthesis"), reporter=seen), "mdc, seed 0")
    records.update("subsets", ROWS[:1])
    assert seen.pictures == [], "not more often than every few seconds"
    monkeypatch.setattr(drawing, "PICTURE_SECONDS", -1.0)
    records.update("subsets", ROWS[:2])
    records.update("subsets", ROWS)
    records.save(tmp_path)
    assert [title for title, _ in seen.pictures] == ["subsets over time"] * 3
    assert seen.pictures[0][1] != seen.pictures[1][1] == seen.pictures[2][1] == (tmp_path / "subsets.png").read_bytes()
    assert table(tmp_path / "subsets.csv") == [{key: str(value) for key, value in row.items()} for row in ROWS]


def test_nobody_watching_it_is_drawn_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Any] = []
    title, draw = drawing.FIGURES["subsets"]
    monkeypatch.setitem(drawing.FIGURES, "subsets", (title, lambda *given: drawn.append(given) or draw(*given)))
    monkeypatch.setattr(drawing, "PICTURE_SECONDS", -1.0)
    records = Records(run_of("synthesis"), "mdc, seed 0")
    for end in (1, 2, 3):
        records.update("subsets", ROWS[:end])
    assert drawn == []
    records.save(tmp_path)
    assert drawn == [(ROWS, "mdc, seed 0")] and (tmp_path / "subsets.png").is_file()


def test_without_matplotlib_it_stops_before_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dcpipe.reports.figures.base.find_spec", lambda name: None)
    with pytest.raises(
        DataError, match=r"^figures need matplotlib, which is not installed; install dcpipe\[pipeline\]$"
    ):
        Records(run_of("synthesis"), "").update("subsets", ROWS[:1])


def test_an_artifact_holds_images_table_and_figure(scratch: Path) -> None:
    """The stage on real digits: its folder is verified with all that is in it, and made again it is the same."""
    training = {**PARAMS["teacher"]["training"], "epochs": 1}
    run = run_of("synthesis", synthesis=MDC, teacher={"training": training})
    images_stage(run)
    teacher_stage(run, "main")
    source = store.open_artifact(Path("data/images"), "images")
    train = store.table_of(source, "train")
    rows = np.concatenate([np.flatnonzero(train.labels == label)[:3] for label in range(10)])
    rows = rows.reshape(10, 3).T.reshape(-1)  # a round of classes after another
    with run.staging("data/selection", {}, Inputs({"images": source})) as staging:
        chosen = Selection(train.ids[rows], train.labels[rows], np.zeros(30), "random")
        staging.publish("selection", store.save_selection(staging.root, chosen))
    synthesis_stage(run)
    first = store.open_artifact(Path("data/synthesis"), "synthesis")
    assert set(first.files) == {"images.parquet", "subsets.csv", "subsets.png", "distances.csv", "distances.png"}
    decided = table(Path("data/synthesis/subsets.csv"))
    assert [*decided[0]] == ["loop", "class", "subset", "frozen"]
    assert (decided[0]["loop"], decided[-1]["loop"]) == ("0", "3") and {row["class"] for row in decided} == {"-1"}
    measured = table(Path("data/synthesis/distances.csv"))
    assert [(row["loop"], row["size"]) for row in measured] == [(str(t), n) for t in range(4) for n in ("1", "2")]
    assert store.load_set(Path("data/synthesis")).images.shape == (30, 8, 8, 3)
    synthesis_stage(run)
    assert store.open_artifact(Path("data/synthesis"), "synthesis").digest == first.digest
    synthesis_stage(run_of("synthesis", synthesis={"method": "none"}, teacher={"training": training}))
    assert set(store.open_artifact(Path("data/synthesis"), "synthesis").files) == {"images.parquet"}
