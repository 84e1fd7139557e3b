"""Losses, accuracies and learning rates for programs that draw curves."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import pytest

from dcpipe.shards.progress import Step
from dcpipe.types import DataError
from flows.running import metrics
from flows.running.metrics import Metrics, chosen


class Written:
    """Keeps what is written."""

    made: ClassVar[list[Written]] = []

    def __init__(self, folder: Path) -> None:
        self.folder, self.rows, self.closed = folder, list[tuple[int, dict[str, float]]](), False
        self.made.append(self)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        assert not self.closed
        self.rows.append((step, dict(values)))

    def close(self) -> None:
        self.closed = True


def epoch(title: str, done: int, **values: float) -> Step:
    return Step(title, done, 2, values=values, unit="epoch")


def test_every_training_has_a_folder_of_its_own_and_what_has_no_numbers_none(tmp_path: Path) -> None:
    Written.made.clear()
    written = Metrics(Written, tmp_path / "run")
    written.step(Step("students", 1, 2))
    for title in ("student score, rpca 0", "student score, rpca 1"):
        written.step(epoch(title, 1, loss=1.0))
        written.step(epoch(title, 2, loss=0.5, accuracy=90.0))
    first, second = Written.made
    assert [first.folder.name, second.folder.name] == ["student-score-rpca-0", "student-score-rpca-1"]
    assert first.rows == [(1, {"loss": 1.0}), (2, {"loss": 0.5, "accuracy": 90.0})]
    assert first.closed and not second.closed, "the accuracy of a teacher may come after its last epoch"
    written.step(epoch("student score, rpca 1", 2, test=91.0))
    written.close()
    assert second.rows[-1] == (2, {"test": 91.0}) and second.closed


def test_nothing_is_written_unless_it_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DCPIPE_METRICS", raising=False)
    written = chosen("teacher")
    written.step(epoch("teacher a", 1, loss=1.0))
    written.close()
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_writer_and_one_that_is_not_installed_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DCPIPE_METRICS", "wandb")
    with pytest.raises(DataError, match=r"^DCPIPE_METRICS is 'wandb'; use one of tensorboard, dvclive, or unset it$"):
        chosen("teacher")
    monkeypatch.setenv("DCPIPE_METRICS", "tensorboard")
    monkeypatch.setattr(metrics, "find_spec", lambda name: None)
    sentence = r"^DCPIPE_METRICS is tensorboard, which is not installed; install dcpipe\[tensorboard\]$"
    with pytest.raises(DataError, match=sentence):
        chosen("teacher")


def trained(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a teacher's training of two epochs."""
    pytest.importorskip(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DCPIPE_METRICS", name)
    written = chosen("teacher a")
    written.step(epoch("teacher a", 1, loss=1.5, lr=0.1))
    written.step(epoch("teacher a", 2, loss=0.5, lr=0.05))
    written.close()
    [run] = (tmp_path / ".dcpipe/metrics" / name).iterdir()
    assert run.name.endswith("-teacher-a")
    return run / "teacher-a"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tensorboard_reads_what_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = trained("tensorboard", tmp_path, monkeypatch)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    assert sorted(events.Tags()["scalars"]) == ["loss", "lr"]
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(1, 1.5), (2, 0.5)]


@pytest.mark.filterwarnings("ignore")
def test_dvclive_leaves_tables_and_the_last_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = trained("dvclive", tmp_path, monkeypatch)
    with (folder / "plots/metrics/loss.tsv").open(encoding="utf-8") as stream:
        assert [(row["step"], row["loss"]) for row in csv.DictReader(stream, delimiter="\t")] == [
            ("1", "1.5"),
            ("2", "0.5"),
        ]
    assert json.loads((folder / "metrics.json").read_text(encoding="utf-8")) == {"loss": 0.5, "lr": 0.05, "step": 2}
    assert {path.name for path in tmp_path.iterdir()} == {".dcpipe"}, "nothing beside the folder of metrics"
