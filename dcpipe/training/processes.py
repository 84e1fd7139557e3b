"""Several processes that train one network: each computes the gradient of its share of every batch, and all take the
same step on their average (PyTorch's DistributedDataParallel; Li et al., "PyTorch Distributed", VLDB 2020).

How many processes there are is decided by the environment, never by params.yaml: batches, their order and the views of
images stay the same.

| `DCPIPE_PROCESSES` | processes |
|---|---|
| not set, `1` | one |
| `8` | 8 on this machine, each with a GPU of its own where there are GPUs |
| `auto` | one per visible GPU |

`torchrun.py` starts them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from dcpipe.config import environment
from dcpipe.types import DataError, require

VARIABLE = "DCPIPE_PROCESSES"
LIMIT = "DCPIPE_PROCESS_MINUTES"
MINUTES = 10.0  # its default


def wanted(device: torch.device) -> int:
    """The number of processes that `DCPIPE_PROCESSES` asks for.

    Raises `DataError` for a value that is not a number of processes, for more processes than visible GPUs, and for a
    device that several processes cannot share.
    """
    text = os.environ.get(VARIABLE, "").strip() or "1"
    gpus = torch.cuda.device_count() if device.type == "cuda" else 0
    count = max(1, gpus) if text == "auto" else environment.processes(text)
    if count is None:
        raise DataError(
            f"{VARIABLE} is {text[:80]!r}; give a number of processes from 1 to {environment.MOST_PROCESSES:,}, or "
            "auto for one per visible GPU"
        )
    waiting_minutes()
    if count == 1:
        return 1
    require(
        device.type in ("cpu", "cuda") and device.index is None,
        f"{VARIABLE} is {text}, but DCPIPE_DEVICE is {str(device)!r}, which is one device; set DCPIPE_DEVICE to cuda "
        "or cpu, or unset it",
    )
    require(
        device.type != "cuda" or count <= gpus,
        f"{VARIABLE} is {text}, but {gpus} GPUs are visible and each process needs one; use at most {gpus}, or auto",
    )
    return count


def waiting_minutes() -> float:
    """How long a process waits for the others before it gives up: `DCPIPE_PROCESS_MINUTES`, by default 10."""
    return environment.minutes(LIMIT, "that a process waits for the others") or MINUTES


def rank_of_environment() -> int | None:
    """The number of this process among those that a torchrun of the user's has started, on one node or on several;
    None if it was started alone. Raises `DataError` if torchrun's variables are incomplete or not numbers."""
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
    if not {"RANK", "WORLD_SIZE"} <= os.environ.keys():
        return None
    missing = [name for name in names if name not in os.environ]
    require(
        not missing,
        f"RANK and WORLD_SIZE are set, but {', '.join(missing)} is not; start the processes with torchrun, or unset "
        "RANK and WORLD_SIZE",
    )
    numbers = [os.environ[name] for name in names if name != "MASTER_ADDR"]
    require(
        all(number.isascii() and number.isdigit() for number in numbers)
        and int(os.environ["RANK"]) < int(os.environ["WORLD_SIZE"]),
        f"RANK is {os.environ['RANK']!r} of WORLD_SIZE {os.environ['WORLD_SIZE']!r}; start the processes with "
        "torchrun, or unset RANK and WORLD_SIZE",
    )
    return int(os.environ["RANK"]) if int(os.environ["WORLD_SIZE"]) > 1 else None


@dataclass(frozen=True)
class Group:
    """This process, number `rank` of `world`."""

    rank: int = 0
    world: int = 1

    def share(self, n: int) -> slice:
        """The part of a batch of `n` items that this process takes: consecutive ones, nearly as many as any other."""
        each, more = divmod(n, self.world)
        start = self.rank * each + min(self.rank, more)
        return slice(start, start + each + (self.rank < more))

    def weight(self, n: int, device: torch.device) -> torch.Tensor | float:
        """The factor on the mean loss over the `n` items of this process that makes the average over all processes the
        mean over all items of the batch: n * world / (items of the batch), a scalar f64 on the device."""
        if self.world == 1:
            return 1.0
        count = torch.tensor(float(n), dtype=torch.float64, device=device)
        dist.all_reduce(count)
        return n * self.world / count

    def mean(self, value: torch.Tensor) -> torch.Tensor:
        """The average of a tensor over all processes."""
        if self.world > 1:
            dist.all_reduce(value)
            value /= self.world
        return value

    def agree(self, numbers: Sequence[int], device: torch.device) -> bool:
        """Whether all processes have the same numbers."""
        if self.world == 1:
            return True
        mine = torch.tensor([*numbers, *(-number for number in numbers)], dtype=torch.int64, device=device)
        most = mine.clone()
        dist.all_reduce(most, dist.ReduceOp.MAX)
        return torch.equal(most, mine)  # so the largest number and the smallest one are both this process's own

    def tell(self, text: str, device: torch.device) -> str:
        """The text of process 0, in all processes."""
        if self.world == 1:
            return text
        content = torch.tensor(list(text.encode()), dtype=torch.uint8, device=device)
        length = torch.tensor(len(content), device=device)
        dist.broadcast(length, 0)
        if self.rank > 0:
            content = torch.empty(int(length), dtype=torch.uint8, device=device)
        dist.broadcast(content, 0)
        return bytes(content.tolist()).decode()

    def wrapped(self, network: nn.Module, *, same_buffers: bool) -> nn.Module:
        """`network`, or in a group a module whose backward pass averages the gradients of all processes. It starts
        from the weights of process 0. Running statistics are those of process 0 too, unless all have the same."""
        if self.world == 1:
            return network
        return DistributedDataParallel(network, broadcast_buffers=not same_buffers)


ALONE = Group()


@contextmanager
def joined(device: torch.device) -> Iterator[tuple[Group, torch.device]]:
    """Join the group of torchrun's variables, over NCCL on GPUs and over Gloo on CPUs. Gives the group and the device
    of this process: its own GPU, or the CPU."""
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    limit = timedelta(minutes=waiting_minutes())
    if device.type == "cuda":
        dist.init_process_group("nccl", timeout=limit, device_id=device)
    else:
        dist.init_process_group("gloo", timeout=limit)
    yield Group(dist.get_rank(), dist.get_world_size()), device
    dist.destroy_process_group()  # not after an error: it may wait for processes that are gone
