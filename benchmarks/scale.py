"""Claim: two Dask workers do the parallel part of a stage at least 1.8 times as fast as one, the engine takes less than
50 ms per task, and nothing of it changes a digest.

    python benchmarks/scale.py --data ../shared/data/tiny-imagenet-50
    python benchmarks/scale.py --data ../shared/data/tiny-imagenet-50 --part overhead

A temporary workspace of 50 classes of Tiny-ImageNet runs the stages up to the one that is measured once. Then each
measured stage runs with one worker and with two, in turn, in fresh scratch folders: workers of one thread each, started
and warmed before the clock starts. What is timed is `Run.map`, so the ratio is that of the parallel part; the whole
stage is printed beside it. `overhead` sends tasks that do nothing, one after another and side by side.

It needs two cores that do nothing else.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
import yaml

from dcpipe.config import params as parameters
from dcpipe.shards.cluster import Cluster
from dcpipe.shards.progress import reporting_to
from dcpipe.shards.workers import Workers
from dcpipe.store.artifact import verify

ROOT = Path(__file__).resolve().parents[1]
STAGES = {"features": "features", "softlabels": "softlabels", "evaluation": "evaluation/scores"}
PARAMS: dict[str, Any] = {
    "images": {"source": "parquet", "size": 64, "minival": 0.02},
    "teacher": {"networks": {"main": {"network": "convnet-d4-w32"}}, "training": {"epochs": 1, "batch_size": 64}},
    "features": {"teacher": "main", "label_rate": {"views": 4}},
    "selection": {"method": "random", "ipc": 20},
    "synthesis": {"method": "none"},
    "softlabels": {"teachers": ["main"], "views": 50},
    "compression": {"codec": "svd", "ratio": 4},
    "evaluation": {
        "student": "convnet-d4-w32",
        "epochs": 4,
        "batch_size": 50,
        "seeds": [0, 1, 2, 3],
        "baselines": ["hard"],
    },
    "release": {"name": "scale", "licence": "unstated"},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="a folder of Parquet files, train-* and test-*")
    parser.add_argument("--part", choices=("stages", "overhead", "all"), default="all")
    parser.add_argument("--rounds", type=int, default=2, help="runs of each stage with each number of workers")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, torch {torch.__version__}")
    if arguments.part in ("overhead", "all"):
        overhead(200)
    if arguments.part in ("stages", "all"):
        if arguments.data is None or not arguments.data.is_dir():
            sys.exit("give --data with a folder of Parquet files, for example tiny-imagenet-50")
        stages(arguments.data.resolve(), arguments.rounds)


def nothing(number: int) -> int:
    """A task that does nothing."""
    return number


def overhead(tasks: int) -> None:
    """Print milliseconds per task that does nothing, with two workers."""
    from concurrent.futures import ThreadPoolExecutor

    with cluster_of(2) as cluster:

        def send(number: int) -> int:
            return cluster.call(nothing, number, f"nothing[{number}]", 0)

        for name, threads in (("one after another", 1), ("side by side", cluster.slots)):
            with ThreadPoolExecutor(threads) as pool:
                list(pool.map(send, range(20)))
                start = time.perf_counter()
                list(pool.map(send, range(tasks)))
                print(f"  {name}: {1000 * (time.perf_counter() - start) / tasks:.1f} ms per task")


def stages(data: Path, rounds: int) -> None:
    """Print seconds and ratios of the measured stages with one and with two workers."""
    with tempfile.TemporaryDirectory(prefix="scale-") as folder:
        workspace = Path(folder) / "workspace"
        subprocess.run(["git", "clone", "-q", str(ROOT), str(workspace)], check=True)
        content = {**PARAMS, "images": {**PARAMS["images"], "options": {"path": str(data)}}}
        (workspace / "params.yaml").write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
        os.chdir(workspace)
        sys.path.insert(0, str(workspace))
        environment = {**os.environ, "DCPIPE_PREFECT": "off"}
        subprocess.run(["dvc", "repro", "compression"], check=True, env=environment, stdout=subprocess.DEVNULL)
        for stage, out in STAGES.items():
            taken: dict[int, list[tuple[float, float]]] = {1: [], 2: []}
            digests = set()
            for number in range(rounds):
                for workers in (1, 2) if number % 2 == 0 else (2, 1):
                    taken[workers].append(run(stage, workers))
                    digests.add(verify(Path("data") / out).digest)
            one, two = (tuple(map(min, zip(*taken[workers], strict=True))) for workers in (1, 2))
            print(
                f"  {stage}: tasks {one[0]:.1f} s and {two[0]:.1f} s, ratio {one[0] / two[0]:.2f}; whole stage "
                f"{one[1]:.1f} s and {two[1]:.1f} s, ratio {one[1] / two[1]:.2f}; {len(digests)} digest(s)"
            )


def run(stage: str, workers: int) -> tuple[float, float]:
    """Seconds that the tasks of a stage took, and the stage as a whole."""
    from flows.running.reporting import Plain
    from flows.running.runtime import Run

    seconds: list[float] = []

    class Timed(Plain):
        """A reporter that measures the tasks."""

        def map(self, *arguments: Any, **options: Any) -> list[Any]:
            start = time.perf_counter()
            try:
                return super().map(*arguments, **options)
            finally:
                seconds.append(time.perf_counter() - start)

    # A folder that no run has had: what this process and the workers have opened belongs to another.
    os.environ["DCPIPE_SCRATCH"] = tempfile.mkdtemp(prefix="scratch-", dir=Path.cwd())
    function: Callable[[Any], None] = getattr(import_module(f"flows.{stage}"), f"{stage}_stage")
    with cluster_of(workers) as cluster:
        measured = Run(stage, parameters.load(), Timed(stage), workers=Workers(count=workers), _cluster=cluster)
        start = time.perf_counter()
        with reporting_to(measured.step):
            function(measured)
        return sum(seconds), time.perf_counter() - start


@contextmanager
def cluster_of(workers: int) -> Iterator[Cluster]:
    """Warm workers."""
    cluster = Cluster(Workers(count=workers), torch.device("cpu"))
    cluster.client.run(warm)
    try:
        yield cluster
    finally:
        cluster.close()


def warm() -> None:
    """Import what stages use, and start the threads of torch."""
    for name in ("dcpipe.evaluation.shards", "dcpipe.features.shards", "dcpipe.softlabels.shards"):
        import_module(name)
    torch.zeros(8, 8).matmul(torch.zeros(8, 8))


if __name__ == "__main__":
    main()
