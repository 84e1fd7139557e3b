"""What a machine has, and what will not fit."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from dcpipe import store
from dcpipe.planning.work import Stage
from dcpipe.reports.columns import human


@dataclass(frozen=True)
class Machine:
    """Bytes that the workspace may take on disk (None: not known, for another machine), of main memory, and of the
    memory of a device (None: it is main memory)."""

    disk: int | None
    host: int
    device: int | None


def this_machine(workspace: Path, device: torch.device) -> Machine:
    """What there is here. The bytes of data/ count as free, because the plan counts them again."""
    there = workspace / "data"
    free = shutil.disk_usage(workspace).free + (store.folder_bytes(there) if there.is_dir() else 0)
    host = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    total = torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else None
    return Machine(free, host, total)


def peaks(stages: Sequence[Stage]) -> list[int]:
    """Bytes on disk at the peak of each stage: its output, all outputs before it, and its scratch."""
    kept, found = 0, []
    for stage in stages:
        kept += stage.n_bytes
        found.append(kept + stage.scratch)
    return found


def unfit(stages: Sequence[Stage], machine: Machine) -> Iterator[str]:
    """A sentence for each thing that will not fit, with the key to change."""
    for stage, peak in zip(stages, peaks(stages), strict=True):
        if machine.disk is not None and peak > machine.disk:
            fewer = f"; change {stage.remedy.disk}" if stage.remedy.disk else ""
            yield f"{stage.name} needs {human(peak)} on disk, but {human(machine.disk)} are free{fewer}"
            break  # those after it need no less
    for stage in stages:
        host = stage.host + (stage.device if machine.device is None else 0)
        if host > machine.host:
            key = stage.remedy.host if stage.host > stage.device else stage.remedy.device or stage.remedy.host
            yield (
                f"{stage.name} needs about {human(host)} of main memory, but there are {human(machine.host)}"
                + (f"; change {key}" if key else "")
            )
        if machine.device is not None and stage.device > machine.device:
            yield (
                f"{stage.name} needs about {human(stage.device)} of the memory of a device, but it has "
                f"{human(machine.device)}" + (f"; change {stage.remedy.device}" if stage.remedy.device else "")
            )
