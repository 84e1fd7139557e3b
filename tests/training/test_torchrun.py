"""Several processes train as one does, and a process that fails is the one that is named. Through torchrun itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import ranks_of_tests
import torch

from dcpipe.training import torchrun
from dcpipe.types import DataError

TESTS = Path(__file__).resolve().parent


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run two processes of `ranks_of_tests`; returns the rows that they reported."""
    monkeypatch.setenv("PYTHONPATH", f"{TESTS}:{TESTS.parents[1]}")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("DCPIPE_CHECKPOINT_SECONDS", "0")

    def go(**content: Any) -> list[dict[str, float]]:
        path, rows = tmp_path / "part.json", []
        path.write_text(json.dumps(content), encoding="utf-8")
        torchrun.launch("ranks_of_tests", path, 2, rows.append)
        return rows

    return go


def distance(first: dict[str, Any], second: dict[str, Any]) -> float:
    """The largest difference of two results: weights, running statistics and losses."""
    ours, theirs = first["state"], second["state"]
    assert ours.keys() == theirs.keys() and len(ours) > 5
    assert [row["lr"] for row in first["history"]] == [row["lr"] for row in second["history"]]
    losses = [abs(a["loss"] - b["loss"]) for a, b in zip(first["history"], second["history"], strict=True)]
    return max(losses + [float((ours[name] - theirs[name]).abs().max()) for name in ours])


@pytest.mark.pipeline
def test_two_processes_take_the_steps_of_one(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """float64: to 1e-12 without batch norm and with synchronised batch norm, after 20 steps on batches that do not
    divide evenly. Checkpoints of one process are continued by two, and the other way round."""
    monkeypatch.setenv("DCPIPE_CHECKPOINT_SECONDS", "0")
    with pytest.raises(ranks_of_tests.StopError):
        ranks_of_tests.fit("norm", "sgd", checkpoint=tmp_path / "one.pt", stop=2)
    cases = {
        "group": {"kind": "group", "recipe": "sgd"},
        "adam": {"kind": "group", "recipe": "adamw"},
        "synced": {"kind": "norm", "recipe": "sgd", "sync": True},
        "local": {"kind": "norm", "recipe": "sgd"},
        "resumed": {"kind": "norm", "recipe": "sgd", "sync": True, "checkpoint": "one.pt"},
        "stopped": {"kind": "norm", "recipe": "sgd", "sync": True, "checkpoint": "two.pt", "stop": 3},
    }
    assert sorted(row["epoch"] for row in run(cases=cases)) == [0, 1]
    first, second = (torch.load(tmp_path / f"results-{rank}.pt", weights_only=True) for rank in (0, 1))
    alone = {kind: ranks_of_tests.fit(kind, "sgd") for kind in ("group", "norm")}
    for results in (first, second):
        assert distance(results["group"], alone["group"]) < 1e-12
        assert distance(results["adam"], ranks_of_tests.fit("group", "adamw")) < 1e-12
        assert distance(results["synced"], alone["norm"]) < 1e-12
        assert distance(results["resumed"], alone["norm"]) < 1e-12
    assert distance(first["local"], alone["norm"]) > 1e-3, "statistics of a share are others, or this tests nothing"
    assert [row.get("processes") for row in first["resumed"]["history"]] == [None, None, 2, 2]
    continued = ranks_of_tests.fit("norm", "sgd", checkpoint=tmp_path / "two.pt")
    assert [row.get("processes") for row in continued["history"]] == [2, 2, 2, None]
    assert distance(continued, alone["norm"]) < 1e-12


@pytest.mark.gpu
def test_two_gpus_take_the_steps_of_one(run: Any, tmp_path: Path) -> None:
    """Over NCCL, with PyTorch's own synchronised batch norm; sums on a GPU have no fixed order."""
    if torch.cuda.device_count() < 2:
        pytest.skip("needs two GPUs")
    cases = {
        "group": {"kind": "group", "recipe": "sgd"},
        "norm": {"kind": "norm", "recipe": "sgd", "sync": True},
    }
    run(cases=cases, kind="cuda")
    for rank in (0, 1):
        results = torch.load(tmp_path / f"results-{rank}.pt", map_location="cuda", weights_only=True)
        for kind, result in results.items():
            assert distance(result, ranks_of_tests.fit(kind, "sgd", device=torch.device("cuda"))) < 1e-9


@pytest.mark.pipeline
@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("data", r"^the images are upside down; turn them$"),
        ("kill", r"^process 1 of 2 was ended by SIGKILL, perhaps for want of memory; see .*torchrun\.log, then run"),
    ],
)
def test_the_process_that_failed_is_named(run: Any, tmp_path: Path, kind: str, sentence: str) -> None:
    (tmp_path / "failed-0.json").write_text("of an earlier run", encoding="utf-8")
    with pytest.raises(DataError, match=sentence):
        run(fail=kind)
    assert ("Traceback" in (tmp_path / torchrun.LOG).read_text(encoding="utf-8")) or kind == "kill"


def noted(folder: Path, *failures: torchrun.Failure, deaths: dict[str, int] | None = None) -> str:
    for failure in failures:
        (folder / f"failed-{failure.rank}.json").write_text(json.dumps(vars(failure)), encoding="utf-8")
    if deaths:
        (folder / torchrun.DEATHS).write_text(json.dumps(deaths), encoding="utf-8")
    return torchrun._sentence(folder, 3, -9)


LOST = torchrun.Failure(0, 20.0, "RuntimeError", "Connection closed by peer")


@pytest.mark.parametrize(
    ("failures", "deaths", "start"),
    [
        (
            [LOST, torchrun.Failure(2, 10.0, "RuntimeError", "first")],
            {"1": -15},
            "process 2 of 3 failed: RuntimeError: f",
        ),
        ([LOST], {"0": 1, "2": -11}, "process 2 of 3 was ended by SIGSEGV; see"),
        (
            [LOST, torchrun.Failure(1, 30.0, "OSError", "disk full")],
            {"2": -9},
            "process 1 of 3 failed: OSError: disk full",
        ),
        ([LOST], {"0": 1, "1": -15}, "process 0 of 3 failed: RuntimeError: Connection closed by peer; see"),
        ([torchrun.Failure(1, 1.0, "MemoryError", "")], None, "process 1 of 3 ran out of memory; lower the stage's"),
        ([torchrun.Failure(2, 1.0, "ValueError", "a\nb")], None, "process 2 of 3 failed: ValueError: a; see"),
        ([torchrun.Failure(1, 1.0, "KeyError", "")], None, "process 1 of 3 failed: KeyError: no message; see"),
        ([], None, "torchrun ended with code -9; see"),
    ],
)
def test_the_cause_comes_before_its_consequences(
    failures: list[torchrun.Failure], deaths: dict[str, int] | None, start: str, tmp_path: Path
) -> None:
    assert noted(tmp_path, *failures, deaths=deaths).startswith(start)
