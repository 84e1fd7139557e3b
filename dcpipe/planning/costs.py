"""Seconds of each kind of work: from the stored figures of a device, in `devices.yaml`.

Each device is assumed to have processor cores of its own, so N devices decode N times as fast.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from dcpipe.config.blocks import Block, checked, read
from dcpipe.config.values import Count, Positive
from dcpipe.planning.figures import Look
from dcpipe.planning.work import Work
from dcpipe.types import require

DEVICES = Path(__file__).with_name("devices.yaml")
_SIZE, _CLASSES, _LENGTH = 224, 1000, 512  # what the figures of `devices.yaml` are for


class Costs(Protocol):
    """What work costs."""

    @property
    def title(self) -> str:
        """The device, in words."""
        ...

    @property
    def sources(self) -> Sequence[str]:
        """Where the figures are from, a clause each."""
        ...

    def seconds(self, work: Work) -> float | None:
        """Seconds of some work on one device; None if nobody knows."""
        ...


class _Forwards(Block):
    network: str
    size: Count
    per_second: Positive


class Device(Block):
    """A device of `devices.yaml`, which explains the keys."""

    title: str
    forwards: _Forwards
    steps_per_second: Positive
    passes: dict[str, Positive]
    threads: Count
    decode: Positive
    encode: Positive
    pack: dict[str, Positive]
    select: Positive
    read: Positive
    device_memory: int
    host_memory: int
    sources: list[str]


@dataclass(frozen=True)
class Stored:
    """The costs of a device of `devices.yaml`. `look` gives the figures of a network for `n_classes` classes."""

    device: Device
    look: Look
    n_classes: int

    @property
    def title(self) -> str:
        """The device, in words."""
        return self.device.title

    @property
    def sources(self) -> Sequence[str]:
        """Where the figures are from."""
        return self.device.sources

    def seconds(self, work: Work) -> float | None:
        """Seconds of some work; None for a codec that was never timed."""
        device, pixels = self.device, (work.size / _SIZE) ** 2
        if work.kind == "decode":
            return work.amount * device.decode * pixels / device.threads
        if work.kind == "encode":
            return work.amount * device.encode * pixels / device.threads
        if work.kind == "read":
            return work.amount / device.read
        if work.kind == "select":
            return work.amount * device.select * work.size / _LENGTH
        if work.kind == "pack":
            each = device.pack.get(work.name)
            return None if each is None else work.amount * each * work.size / _CLASSES
        reference = device.forwards
        flops = self.look(work.name, self.n_classes, work.size).flops
        share = flops / self.look(reference.network, _CLASSES, reference.size).flops
        passes = work.amount * device.passes.get(work.kind, 1.0)
        computing = passes * share / reference.per_second
        return computing if work.kind == "forward" else max(computing, work.steps / device.steps_per_second)


def devices() -> dict[str, Device]:
    """The devices with stored figures."""
    content: Mapping[str, Any] = read(DEVICES, "devices by name")
    return {name: checked(Device, values, f"{DEVICES.name}: {name}") for name, values in content.items()}


def device(name: str) -> Device:
    """A device by its name. Raises `DataError` for another one."""
    known = devices()
    require(
        name in known,
        f"there are no stored figures of device {name!r}; choose one of {', '.join(known)}, or leave --device out to "
        "measure this machine",
    )
    return known[name]
