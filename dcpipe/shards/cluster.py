"""Run shards on Dask workers: processes of this machine, or those of a scheduler that is already running.

`Cluster.call` sends one shard and waits for it; threads of the stage call it side by side, so the same code runs with
and without a Prefect server, each shard is a Prefect task where there is one, and workers need no way to the server.
The scheduler never holds more shards than workers can run: Dask blames a dead worker's waiting shards as well, and a
shard that waits is not one that takes long.

| what happens to a worker | what follows |
|---|---|
| it dies, or takes more memory than it may | its shard runs on another one; the third time the stage stops |
| it stops answering (`worker-ttl`) | the same |
| its shard takes longer than `DCPIPE_TASK_MINUTES` | the worker is started again, and the shard runs elsewhere |
| all workers are away for `ALONE_SECONDS` | the stage stops |
| the scheduler goes away | the stage stops in one sentence; finished shards are on disk, and a rerun goes on |
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import CancelledError
from functools import partial
from typing import Any, TypeVar

import torch

from dcpipe.shards import remote
from dcpipe.shards.functions import Group, in_turn
from dcpipe.shards.workers import LIMIT, VARIABLE, Workers
from dcpipe.types import DataError, require

Item = TypeVar("Item")
Result = TypeVar("Result")

TOPIC = "dcpipe-reports"
DEATHS = 3  # a shard that ends so many workers is the cause
POLL_SECONDS = 10.0  # between two looks at whether there are still workers
ALONE_SECONDS = 600.0  # without any worker, before a stage stops: a nanny may need a minute to start one again
CONNECT_SECONDS = 30
FIRST_SECONDS, FURTHER_SECONDS = 120, 10  # to wait for the first worker of a scheduler, and for others to join it
CONFIG: Mapping[str, Any] = {
    # A scheduler that is busy for half a minute must not be given up.
    "distributed.comm.timeouts.connect": "600s",
    "distributed.comm.timeouts.tcp": "600s",
    "distributed.scheduler.allowed-failures": DEATHS - 1,
    "distributed.scheduler.worker-ttl": "120s",
    # A local cluster drops a worker for good that is not back in time: by default 15 s, too few on a busy machine.
    "distributed.deploy.lost-worker-timeout": "1h",
    # Shards keep nothing in Dask's memory, so there is nothing to spill, and a pause would never end.
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    "distributed.worker.memory.terminate": 0.95,
    "distributed.worker.daemon": True,
    "distributed.admin.tick.limit": "10m",  # no warnings while a shard computes
}
_log = logging.getLogger(__name__)
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class Cluster:
    """Workers that run shards for this process.

    Raises `DataError` if Dask is not installed, if the scheduler does not answer, and if it has no workers.
    """

    def __init__(self, workers: Workers, device: torch.device) -> None:
        dask = _dask()
        require(
            device.index is None,
            f"DCPIPE_DEVICE is {device}, but workers with a GPU see only their own; set DCPIPE_DEVICE=cuda, and choose "
            "GPUs by CUDA_VISIBLE_DEVICES",
        )
        _configure()
        self.address, self.seconds = workers.address, 60 * workers.minutes if workers.minutes else None
        self.setting = remote.setting_of(device)
        try:
            self.local = None if workers.address else _local(workers.count, device)
        except (OSError, RuntimeError) as error:
            raise DataError(
                f"{workers.count} workers do not start on this machine ({error}); free memory, or lower {VARIABLE}"
            ) from error
        try:
            self.client = dask.Client(workers.address or self.local, timeout=CONNECT_SECONDS, set_as_default=False)
        except (OSError, TimeoutError) as error:
            raise DataError(
                f"no Dask scheduler answers at {workers.address}; start one with `dask scheduler`, or unset {VARIABLE}"
            ) from error
        try:
            self.client.subscribe_topic(TOPIC, _show)
            self._wait_for(workers.count)
            found = self._workers().values()
        except BaseException:
            self.close()
            raise
        with_gpus = device.type == "cuda" and any(worker["resources"].get("GPU") for worker in found)
        self.resources = {"GPU": 1} if with_gpus else None
        self.slots: int = max(1, sum(worker["nthreads"] for worker in found))
        self.free = threading.BoundedSemaphore(self.slots)

    @property
    def is_local(self) -> bool:
        """Whether the workers were started by this process."""
        return self.local is not None

    def describe(self) -> str:
        """The workers, their devices and the address of the dashboard, in one line."""
        devices = sorted(self.client.run(remote.device_name, self.setting, on_error="return").values(), key=str)
        counts = [f"{devices.count(name)} x {name}" for name in dict.fromkeys(devices)]
        where = "of this machine" if self.is_local else f"of {self.address}"
        return f"workers {where}: {', '.join(counts)}; dashboard {self.client.dashboard_link}"

    def call(self, work: Callable[[Item], Result], item: Item, name: str, retries: int) -> Result:
        """Run one shard on any worker and wait for its result; errors of the shard are raised here. At most `slots`
        threads get through at a time.

        Raises `DataError` if the shard ended or blocked `DEATHS` workers, and if the scheduler or all workers go away.
        """
        whole = remote.Call(work, item, name, retries, self.setting)
        with self.free:
            for _ in range(DEATHS):
                answer = self._answer(whole)
                if answer is not None:
                    done, outcome = answer
                    if done:
                        return outcome  # type: ignore[no-any-return]  # what the shard returned
                    raise outcome
        raise DataError(f"task {name} took longer than {self.seconds or 0:g} s on {DEATHS} workers; set {LIMIT} higher")

    def call_group(self, work: Callable[[Item], Result], retries: int, group: Group[Item]) -> list[Result]:
        """Run several shards as one."""
        return self.call(partial(in_turn, work), group.items, group.name, retries)

    def _answer(self, call: remote.Call) -> tuple[bool, Any] | None:
        """What a worker returned for a shard; None if it took too long, and its worker was ended."""
        from distributed.scheduler import KilledWorker

        key, begun, seen = f"{call.name} {uuid.uuid4().hex[:8]}", time.monotonic(), time.monotonic()
        wait = min(POLL_SECONDS, self.seconds or POLL_SECONDS)
        try:
            future = self.client.submit(_run_here, call, key=key, pure=False, resources=self.resources)
            while True:
                try:
                    answer: tuple[bool, Any] = future.result(timeout=wait)
                    return answer
                except TimeoutError:
                    if self.client.status != "running":
                        raise
                now = time.monotonic()
                seen = now if self._workers() else seen
                require(
                    now - seen < ALONE_SECONDS,
                    f"no worker of {self.address or 'this machine'} is left to run task {call.name}; start workers and "
                    "run `dvc repro` to continue",
                )
                if self.seconds is not None and now - begun >= self.seconds and self._end_worker_of(future, call.name):
                    return None
        except KilledWorker as error:
            raise DataError(
                f"task {call.name} ended {DEATHS} workers, the last one at "
                f"{getattr(error.last_worker, 'address', '')}: either it needs more memory than a worker has, or it "
                "crashes; lower the stage's batch_size, or use fewer workers"
            ) from error
        except (CancelledError, TimeoutError, OSError) as error:
            raise DataError(
                f"the Dask scheduler at {self.address or 'this machine'} went away; what is finished is kept, start it "
                "again and run `dvc repro` to continue"
            ) from error

    def close(self) -> None:
        """Leave the scheduler, and end the workers that were started here."""
        self.client.close(timeout=5)
        if self.local is not None:
            self.local.close(timeout=10)

    def _workers(self) -> dict[str, Any]:
        found: dict[str, Any] = self.client.scheduler_info(n_workers=-1)["workers"]
        return found

    def _wait_for(self, count: int) -> None:
        """Wait for the first worker, and shortly for others that are just being started."""
        begun = time.monotonic()
        try:
            self.client.wait_for_workers(1, timeout=FIRST_SECONDS)
        except TimeoutError as error:
            command = f"dask worker {self.address} --nthreads 1"
            raise DataError(
                f"the Dask scheduler at {self.address} has no workers; start some with `{command}`"
            ) from error
        while len(self._workers()) < count and time.monotonic() - begun < FURTHER_SECONDS:
            time.sleep(0.05)

    def _end_worker_of(self, future: Any, name: str) -> bool:
        """End the worker of a shard that takes too long, whose nanny starts another one; False if no worker has it."""
        running = [address for address, keys in self.client.processing().items() if future.key in keys]
        if not running:
            return False
        future.cancel()
        _log.warning("task %s: no result after %g s on %s; trying elsewhere", name, self.seconds, ", ".join(running))
        try:
            ended = self.client.run(_kill, workers=running, nanny=True, on_error="return")
        except KeyError:  # it has just gone away by itself
            return True
        require(
            bool(ended) and all(result is None for result in ended.values()),  # no answer: there is no nanny
            f"task {name} hangs on worker {', '.join(running)}, which cannot be started again; start workers without "
            "--no-nanny",
        )
        return True


def _run_here(call: remote.Call) -> tuple[bool, Any]:
    """The task that Dask runs."""
    from distributed import get_worker

    worker = get_worker()

    def send(event: remote.Event) -> None:
        worker.log_event(TOPIC, event)

    return remote.run(call, worker.address, send)


def _kill(dask_worker: Any) -> None:
    """End the worker of a nanny. A second `restart_workers` soon after the first one would leave it without one."""
    os.kill(dask_worker.pid, signal.SIGKILL)


def _show(event: tuple[float, Any]) -> None:
    """Display a report of a worker here."""
    remote.tell(event[1])


def _dask() -> Any:
    """The package `distributed`, which has no types."""
    try:
        import distributed
    except ImportError as error:
        raise DataError(f'{VARIABLE} needs Dask: `pip install "dcpipe[dask]"`, or unset it') from error
    return distributed


def _configure() -> None:
    import dask

    threads = {name: str(torch.get_num_threads()) for name in THREADS}
    dask.config.set({**CONFIG, "distributed.nanny.pre-spawn-environ": threads})
    # Messages of a worker that was killed are ours to give; workers read the variable.
    for name in [name for name in logging.root.manager.loggerDict if name.partition(".")[0] == "distributed"]:
        logging.getLogger(name).setLevel(logging.CRITICAL)  # some have a level of their own
    os.environ.setdefault("DASK_LOGGING__DISTRIBUTED", "critical")


def _local(count: int, device: torch.device) -> Any:
    """A scheduler in this process and `count` workers of one thread each; on GPUs each worker sees one of them."""
    dask = _dask()
    gpus = torch.cuda.device_count() if device.type == "cuda" else 0

    def worker(number: int) -> dict[str, Any]:
        options: dict[str, Any] = {"nthreads": 1, "memory_limit": 1 / count, "host": "127.0.0.1"}
        if gpus:
            visible = os.environ.get("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(gpus)))).split(",")
            options |= {"resources": {"GPU": 1}, "env": {"CUDA_VISIBLE_DEVICES": visible[number % gpus]}}
        return {"cls": dask.Nanny, "options": options}

    scheduler = {"cls": dask.Scheduler, "options": {"host": "127.0.0.1", "port": 0, "dashboard_address": "127.0.0.1:0"}}
    require(count >= 1, f"{count} workers were asked for; give at least one")
    return dask.SpecCluster(
        scheduler=scheduler,
        workers={number: worker(number) for number in range(count)},
        silence_logs=logging.CRITICAL,
    )
