"""Shards on real workers: two processes of this machine, and schedulers that are away, empty, or die."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import shard_cases
import torch
from schedulers import Scheduler, free_port

from dcpipe.shards import Group, progress, remote
from dcpipe.shards import cluster as module
from dcpipe.shards.cluster import Cluster
from dcpipe.shards.progress import Step
from dcpipe.shards.workers import Workers
from dcpipe.types import DataError

CPU = torch.device("cpu")
HERE = Path(__file__).parent
SPAWNED = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(map(str, (HERE.parents[1], HERE)))}
pytestmark = pytest.mark.filterwarnings("default")  # Dask's own


@pytest.fixture(scope="module")
def workers() -> Iterator[Cluster]:
    """Two workers, which are started once; a test that ends one of them waits until it is back."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", SPAWNED["PYTHONPATH"])
        started = Cluster(Workers(count=2), CPU)
    yield started
    started.close()


@pytest.fixture
def both(workers: Cluster) -> Cluster:
    deadline = time.monotonic() + 120
    # Imports PyTorch, which takes seconds. A worker that has just been ended may still be listed.
    while len(workers.client.run(shard_cases.square, 0, on_error="ignore")) < 2 and time.monotonic() < deadline:
        time.sleep(0.1)
    return workers


def together(cluster: Cluster, *calls: tuple[Any, Any, str]) -> list[Any]:
    """The results or errors of some shards that are sent at the same time."""

    def call(work: Any, item: Any, name: str) -> Any:
        try:
            return cluster.call(work, item, name, 0)
        except DataError as error:
            return error

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(lambda given: call(*given), calls))


def test_results_come_back_from_other_processes(both: Cluster, capfd: pytest.CaptureFixture[str]) -> None:
    assert [both.call(shard_cases.square, item, f"square[{item}]", 0) for item in range(4)] == [0, 1, 4, 9]
    assert both.call_group(shard_cases.square, 0, Group(range(3), "square")) == [0, 1, 4]
    states = together(both, *[(shard_cases.state, item, f"state[{item}]") for item in range(6)])
    processes, folders, threads = (set(column) for column in zip(*states, strict=True))
    assert os.getpid() not in processes and len(processes) <= 2
    assert folders == {str(Path.cwd())}
    assert threads == {str(torch.get_num_threads())}, "sums over other numbers of threads are rounded differently"
    assert capfd.readouterr() == ("", "")


def test_the_workers_and_the_dashboard_are_named(both: Cluster) -> None:
    assert (both.slots, both.is_local) == (2, True)
    text = both.describe()
    assert text.startswith("workers of this machine: 2 x ") and ", CPU; dashboard http://127.0.0.1:" in text


def test_bad_data_is_refused_at_once_in_its_own_words_and_nothing_is_logged(
    both: Cluster, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(DataError) as error:
        both.call(shard_cases.refused, 7, "images[7]", 2)
    assert str(error.value) == "row 7 is not an image; remove it" and error.value.__notes__ == ["in task images[7]"]
    with pytest.raises(RuntimeError, match=r"^OddError: odd\nTraceback"):
        both.call(shard_cases.broken, 7, "images[7]", 2)
    assert capfd.readouterr() == ("", "")


def test_an_error_of_a_disk_is_tried_again(both: Cluster, tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
    assert both.call(shard_cases.away, str(tmp_path / "a"), "part", 2) == 3
    with pytest.raises(OSError, match="share/part") as error:
        both.call(shard_cases.always_away, str(tmp_path / "b"), "part", 1)
    assert error.value.errno == 5 and len(list((tmp_path / "b").iterdir())) == 2


def test_progress_reaches_the_process_that_sent_the_shard(both: Cluster) -> None:
    seen, last = list[Step](), Step("counted", 100, 100, "loss 0.5")
    with progress.reporting_to(seen.append):
        both.call(shard_cases.reporting, 100, "count", 0)
        deadline = time.monotonic() + 10
        while last not in seen and time.monotonic() < deadline:
            time.sleep(0.02)
    assert seen[-1] == last and len(seen) < 10


def test_messages_of_a_worker_are_said_here(both: Cluster, caplog: pytest.LogCaptureFixture) -> None:
    assert both.call(shard_cases.talking, 3, "part", 0) == 3
    deadline = time.monotonic() + 10
    while not caplog.messages and time.monotonic() < deadline:
        time.sleep(0.02)
    [said] = caplog.messages
    assert said.startswith("worker tcp://127.0.0.1:") and said.endswith(": 3 % of it is odd")


def test_no_more_shards_are_sent_than_workers_can_run(both: Cluster) -> None:
    with ThreadPoolExecutor(6) as pool:
        sent = [pool.submit(both.call, shard_cases.sleep, 0.3, f"sleep[{item}]", 0) for item in range(6)]
        most = 0
        while not all(future.done() for future in sent):
            most = max(most, sum(map(len, both.client.processing().values())))
            time.sleep(0.02)
    assert 1 <= most <= 2


def test_a_worker_that_dies_loses_nothing(both: Cluster, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    mark = str(tmp_path / "mark")
    results = together(both, (shard_cases.die_once, mark, "once"), (shard_cases.sleep, 0.5, "sleep"))
    assert results == [mark, 0.5]
    assert capfd.readouterr() == ("", "")


@pytest.mark.pipeline  # half a minute of starting workers
def test_a_shard_that_ends_three_workers_is_named_and_no_other(
    both: Cluster, capfd: pytest.CaptureFixture[str]
) -> None:
    """Its neighbours run to their end, although Dask counts some of these deaths as theirs."""
    naps = [(shard_cases.sleep, 0.4, f"sleep[{item}]") for item in range(3)]
    dead, *others = together(both, (shard_cases.die, 0.2, "part[3]"), *naps)
    assert isinstance(dead, DataError) and others == [0.4] * 3
    assert str(dead).startswith("task part[3] ended 3 workers, the last one at tcp://127.0.0.1:")
    assert str(dead).endswith(
        ": either it needs more memory than a worker has, or it crashes; lower the stage's batch_size, or use fewer "
        "workers"
    )
    assert both.call(shard_cases.square, 3, "after", 0) == 9
    assert capfd.readouterr() == ("", "")


def test_a_shard_that_hangs_is_tried_on_another_worker(
    both: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    both.describe()  # every worker has imported what shards need, which may take longer than the deadline
    monkeypatch.setattr(both, "seconds", 5.0)
    mark = str(tmp_path / "mark")
    assert both.call(shard_cases.hang_once, mark, "part[5]", 0) == mark
    [said] = caplog.messages
    assert said.startswith("task part[5]: no result after 5 s on tcp://127.0.0.1:")
    assert said.endswith("; trying elsewhere")


def test_a_shard_that_always_hangs_stops_the_stage(both: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(both, "seconds", 0.5)
    monkeypatch.setattr(module, "DEATHS", 2)
    with pytest.raises(DataError) as error:
        both.call(shard_cases.sleep, 600.0, "part[5]", 0)
    assert str(error.value) == "task part[5] took longer than 0.5 s on 2 workers; set DCPIPE_TASK_MINUTES higher"


# --- schedulers of other people ---


@pytest.fixture
def started(tmp_path: Path) -> Iterator[list[Scheduler]]:
    """What a test starts; all of it is ended after the test."""
    schedulers: list[Scheduler] = []
    yield schedulers
    for scheduler in schedulers:
        scheduler.kill()


@pytest.mark.pipeline  # half a minute of starting workers
def test_a_scheduler_that_dies_ends_the_work_in_one_sentence(
    started: list[Scheduler], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    theirs = Scheduler(tmp_path, 1, env=SPAWNED)
    started.append(theirs)
    cluster = Cluster(Workers(address=theirs.address), CPU)
    assert cluster.call(shard_cases.square, 3, "square", 0) == 9
    assert cluster.call(shard_cases.state, 0, "state", 0)[1] == str(Path.cwd()) != str(tmp_path)
    assert not cluster.is_local and cluster.describe().startswith(f"workers of {theirs.address}: 1 x ")
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(cluster.call, shard_cases.sleep, 60.0, "sleep", 0)
        time.sleep(1)
        theirs.kill_scheduler()
        with pytest.raises(DataError) as error:
            waiting.result(timeout=60)
    sentence = (
        f"the Dask scheduler at {theirs.address} went away; what is finished is kept, start it again and run "
        "`dvc repro` to continue"
    )
    assert str(error.value) == sentence
    with pytest.raises(DataError) as error:  # those that come later do not wait for it
        cluster.call(shard_cases.square, 3, "square", 0)
    assert str(error.value) == sentence
    cluster.close()
    assert capfd.readouterr() == ("", "")


@pytest.mark.pipeline  # half a minute of starting workers
def test_workers_that_go_away_for_good_end_the_work_in_one_sentence(
    started: list[Scheduler], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a nanny nobody starts them again, and a task would wait for ever."""
    monkeypatch.setattr(module, "ALONE_SECONDS", 1.0)
    monkeypatch.setattr(module, "POLL_SECONDS", 0.5)
    theirs = Scheduler(tmp_path, 1, "--no-nanny", env=SPAWNED)
    started.append(theirs)
    cluster = Cluster(Workers(address=theirs.address), CPU)
    cluster.call(shard_cases.square, 3, "square", 0)
    monkeypatch.setattr(cluster, "seconds", 0.5)
    with pytest.raises(DataError, match=r"^task part\[2\] hangs on worker tcp://.*, which cannot be started again; "):
        cluster.call(shard_cases.sleep, 3.0, "part[2]", 0)
    monkeypatch.setattr(cluster, "seconds", None)
    with pytest.raises(DataError) as error:
        cluster.call(shard_cases.die, 0.0, "part[3]", 0)
    assert str(error.value) == (
        f"no worker of {theirs.address} is left to run task part[3]; start workers and run `dvc repro` to continue"
    )
    cluster.close()


def test_a_scheduler_without_workers_is_named_with_the_command_that_starts_one(
    started: list[Scheduler], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FIRST_SECONDS", 0.5)
    theirs = Scheduler(tmp_path, 0, env=SPAWNED)
    started.append(theirs)
    with pytest.raises(DataError) as error:
        Cluster(Workers(address=theirs.address), CPU)
    assert str(error.value) == (
        f"the Dask scheduler at {theirs.address} has no workers; start some with `dask worker {theirs.address} "
        "--nthreads 1`"
    )


def test_a_scheduler_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CONNECT_SECONDS", 0.5)
    address = f"tcp://127.0.0.1:{free_port()}"
    with pytest.raises(DataError) as error:
        Cluster(Workers(address=address), CPU)
    assert str(error.value) == (
        f"no Dask scheduler answers at {address}; start one with `dask scheduler`, or unset DCPIPE_WORKERS"
    )


def test_without_dask_workers_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(DataError) as error:
        Cluster(Workers(count=2), CPU)
    assert str(error.value) == 'DCPIPE_WORKERS needs Dask: `pip install "dcpipe[dask]"`, or unset it'


def test_workers_that_do_not_start_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**options: Any) -> None:
        raise RuntimeError("Nanny failed to start.")

    monkeypatch.setattr("distributed.SpecCluster", fail)
    with pytest.raises(DataError) as error:
        Cluster(Workers(count=2), CPU)
    assert str(error.value) == (
        "2 workers do not start on this machine (Nanny failed to start.); free memory, or lower DCPIPE_WORKERS"
    )


def test_one_gpu_by_its_number_is_refused() -> None:
    with pytest.raises(DataError) as error:
        Cluster(Workers(count=2), torch.device("cuda:1"))
    assert str(error.value) == (
        "DCPIPE_DEVICE is cuda:1, but workers with a GPU see only their own; set DCPIPE_DEVICE=cuda, and choose GPUs "
        "by CUDA_VISIBLE_DEVICES"
    )


def test_the_setting_is_that_of_this_process(workers: Cluster) -> None:
    assert workers.setting == remote.setting_of(CPU)
