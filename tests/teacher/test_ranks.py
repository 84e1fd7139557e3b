"""Which processes train a teacher; `tests/pipeline/test_processes.py` starts them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dcpipe.teacher import ranks
from dcpipe.types import DataError


@pytest.fixture
def trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Train a job that only records what is done, in the given environment."""
    for name in ("RANK", "WORLD_SIZE", "DCPIPE_PROCESSES"):
        monkeypatch.delenv(name, raising=False)

    def go(epochs: bool = True, **environment: str) -> list[str]:
        done: list[str] = []
        for name, value in environment.items():
            monkeypatch.setenv(name, value)

        def launch(module: str, path: Path, processes: int, report: Any) -> None:
            done.append(f"launch {module} {path.read_text(encoding='utf-8')} in {processes}")

        monkeypatch.setattr(ranks.torchrun, "launch", launch)
        job: Any = SimpleNamespace(
            device="cpu",
            recipe=object() if epochs else None,
            checkpoint=str(tmp_path / "checkpoint.pt"),
            to_json=lambda: "JOB",
            check=lambda count: done.append(f"check {count}"),
            train=lambda *arguments: done.append(f"train {len(arguments)}"),
        )
        ranks.train(job, print)
        return done

    return go


def test_alone_the_stage_trains(trained: Callable[..., list[str]]) -> None:
    assert trained() == ["train 1"]
    assert trained(DCPIPE_PROCESSES="1") == ["train 1"]


def test_with_several_processes_the_stage_goes_on_where_they_ended(trained: Callable[..., list[str]]) -> None:
    assert trained(DCPIPE_PROCESSES="3") == ["check 3", "launch dcpipe.teacher.ranks JOB in 3", "train 0"]
    assert trained(epochs=False) == ["train 1"], "nothing is trained, so nothing is started"


def test_nonsense_stops_before_any_work(trained: Callable[..., list[str]]) -> None:
    with pytest.raises(DataError, match=r"^DCPIPE_PROCESSES is 'all'; give a number of processes from 1 to 1,024, or"):
        trained(DCPIPE_PROCESSES="all")


def test_the_users_torchrun_has_nothing_to_do_without_epochs(trained: Callable[..., list[str]]) -> None:
    started = {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}
    with pytest.raises(DataError) as error:
        trained(epochs=False, **started)
    assert str(error.value) == (
        "teacher.training.epochs is 0, so there is nothing to train in several processes; start the stage without "
        "torchrun"
    )


def test_who_follows(monkeypatch: pytest.MonkeyPatch) -> None:
    for rank, world, follows in ((None, None, False), ("0", "2", False), ("1", "2", True), ("1", None, False)):
        for name, value in (("RANK", rank), ("WORLD_SIZE", world)):
            monkeypatch.delenv(name, raising=False)
            if value is not None:
                monkeypatch.setenv(name, value)
        assert ranks.is_follower() == follows
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    with pytest.raises(SystemExit):  # with a sentence about the variables that are missing
        ranks.follow()
