"""Train a teacher in as many processes as the environment asks for.

With `DCPIPE_PROCESSES`, the process of the stage starts torchrun, waits, and then continues from the finished
checkpoint, as it would after a kill. Where the user's own torchrun has started the stage on one node or on several,
process 0 is the stage, and the others (`follow`) only train.

`python -m dcpipe.teacher.ranks JOB` is one of the processes that torchrun starts for the stage.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import torch

from dcpipe import logs
from dcpipe.stopping import stopping_in_one_sentence
from dcpipe.store.files import replacing
from dcpipe.teacher.jobs import Job, Outcome
from dcpipe.training import keep_freed_memory, pick_device, processes, torchrun
from dcpipe.types import require

JOB = "job.json"


def train(job: Job, report: Callable[[dict[str, float]], None] = lambda row: None) -> Outcome:
    """Train, and return the network on the device of the job with the rows of all epochs.

    Raises `DataError` for variables of the environment that make no sense, if there are too many processes for a
    batch, and if a process fails.
    """
    device, rank = torch.device(job.device), processes.rank_of_environment()
    if rank is not None:
        require(
            job.recipe is not None,
            "teacher.training.epochs is 0, so there is nothing to train in several processes; start the stage without "
            "torchrun",
        )
        with processes.joined(device) as (group, mine):
            group.tell(job.to_json(), mine)
            job.check(group.world)
            job.train(report, group, mine)
        return job.train()
    count = processes.wanted(device)
    if count > 1 and job.recipe is not None:
        job.check(count)
        folder = Path(job.checkpoint).with_suffix(".processes")
        folder.mkdir(exist_ok=True)
        with replacing(folder / JOB) as partial:
            partial.write_text(job.to_json(), encoding="utf-8")
        torchrun.launch(__name__, folder / JOB, count, report)
        return job.train()
    return job.train(report)


def is_follower() -> bool:
    """Whether this is a process of the user's torchrun that only trains."""
    return "WORLD_SIZE" in os.environ and os.environ.get("RANK", "0") != "0"


def follow() -> None:
    """The part of a process that only trains, on the device of `DCPIPE_DEVICE`. Process 0 tells it the job; it writes
    nothing."""
    with stopping_in_one_sentence(f"teacher, process {os.environ['RANK']}"):
        device = pick_device(os.environ.get("DCPIPE_DEVICE", "auto"))
        processes.rank_of_environment()
        with processes.joined(device) as (group, mine):
            keep_freed_memory(mine)
            job = Job.from_json(group.tell("", mine))
            job.check(group.world)
            job.train(group=group, device=mine)


def main() -> None:
    """One process of those that `train` starts: its argument is the file of the job."""
    path = Path(sys.argv[1])
    with logs.shown(f"teacher, process {os.environ['RANK']}"), torchrun.failures_written(path.parent):
        job = Job.from_json(path.read_text(encoding="utf-8"))
        with processes.joined(torch.device(job.device)) as (group, mine):
            keep_freed_memory(mine)
            job.train(torchrun.report, group, mine)


if __name__ == "__main__":
    main()
