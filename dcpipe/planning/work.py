"""What a stage does and leaves on disk, in numbers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Literal

from dcpipe.types import Precision

# Passes of images through a network: without gradients, in training, in recovery (gradients of the images, through an
# observer that measures its layers), and in gradient matching (gradients of gradients); and work of the processor.
PASSES = ("forward", "train", "recover", "match")
Kind = Literal["forward", "train", "recover", "match", "decode", "encode", "pack", "select", "read"]


@dataclass(frozen=True)
class Work:
    """Work of one kind.

    `amount`: images that pass through the network, are decoded, or are encoded as PNG; labels (views of images) that
    are packed; candidates times picks per class of a selection; bytes that are read and verified. `units`: in how many
    pieces it is divided that can run on different devices; 1 if it runs on one. `steps`: of an optimiser. `shared`: the
    pieces are those of each batch, so that every device takes every step. `name`: of the network, the codec or the
    selector. `size`: side in pixels of what the network sees, or of decoded images;
    length of the vectors of a selection; classes of a label. `batch`: images per pass or step. `precision`: of the
    network's passes, as `dcpipe.precision` has it; what has no such key runs in float32.
    """

    kind: Kind
    amount: int
    units: int = 1
    steps: int = 0
    name: str = ""
    size: int = 0
    batch: int = 1
    shared: bool = False
    precision: Precision = "float32"

    def on(self, devices: int) -> Work:
        """What the busiest of some devices does."""
        pieces = batches(self.units, devices)
        steps = self.steps if self.shared else batches(self.steps * pieces, self.units)
        return replace(self, amount=batches(self.amount * pieces, self.units), steps=steps)


@dataclass(frozen=True)
class Remedy:
    """The keys of params.yaml that lower what a stage takes on disk, in main memory and on a device."""

    disk: str = ""
    host: str = ""
    device: str = ""


@dataclass(frozen=True)
class Stage:
    """A stage: its work, and what it takes.

    `n_bytes`, `files`: what it leaves in data/; `scratch`: bytes that it needs besides while it runs, and removes.
    `host`, `device`: rough peaks in bytes of main memory and of the memory of a device. `spread`: what is divided over
    devices, "" if nothing is. `omitted`: what the hours leave out, because nobody knows it.
    """

    name: str
    work: tuple[Work, ...]
    n_bytes: int
    files: int
    host: int
    device: int = 0
    scratch: int = 0
    spread: str = ""
    remedy: Remedy = field(default_factory=Remedy)
    omitted: str = ""

    @property
    def forwards(self) -> int:
        """Images that pass through networks; an image of an optimiser step counts once."""
        return passes(self.work)

    @property
    def steps(self) -> int:
        """Optimiser steps."""
        return sum(work.steps for work in self.work)


def passes(works: Iterable[Work]) -> int:
    """The images of some work that pass through networks."""
    return sum(work.amount for work in works if work.kind in PASSES)


def batches(n: int, size: int) -> int:
    """How many batches n images make."""
    return -(-n // size)
