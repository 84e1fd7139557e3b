"""Seconds of each kind of work, measured on this machine in about half a minute.

Networks are those of params.yaml, at their image size, with random weights and inputs. Where a batch takes longer than
its share of the time, a part of it is timed, and time is taken to grow with the number of images. What trains is timed
with its backward pass and AdamW, in the precision that params.yaml asks for. An image of recovery or gradient matching
is taken to cost twice an image of training, which is a rule and not a measurement.
"""

from __future__ import annotations

import hashlib
import io
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image

from dcpipe import networks, selection, training
from dcpipe.compression import packing
from dcpipe.config import budget
from dcpipe.config.params import Params
from dcpipe.images import decode
from dcpipe.planning.work import Work
from dcpipe.precision import autocast
from dcpipe.selection import Candidates
from dcpipe.store.encoding import encode_png
from dcpipe.types import DataError, LabelShape
from dcpipe.views import views_of

SECONDS = 30.0
_PER_TRAINED = {"train": 1.0, "recover": 2.0, "match": 2.0}  # of the time of an image of training
_CLASS, _PICKS = 400, 4  # candidates and picks per class of the selection that is timed
_IMAGES = 8  # that are decoded and encoded
_BYTES = 2**25  # that are hashed

Key = tuple[str, str, int, int, str]


def key_of(work: Work) -> Key:
    """What decides the seconds of a unit of work. All that trains is timed alike."""
    kind = "train" if work.kind in _PER_TRAINED else work.kind
    batched = kind in ("train", "forward")
    name, size = ("", 0) if kind == "read" else (work.name, work.size)
    return kind, name, size, work.batch if batched else 1, work.precision if batched else ""


@dataclass(frozen=True)
class Measured:
    """Costs that were measured here: seconds of a unit by key; None for what could not be timed."""

    title: str
    sources: Sequence[str]
    each: Mapping[Key, float | None]

    def seconds(self, work: Work) -> float | None:
        """Seconds of some work."""
        if not work.amount:
            return 0.0
        each = self.each[key_of(work)]
        return None if each is None else work.amount * each * _PER_TRAINED.get(work.kind, 1.0)


def calibrate(
    params: Params,
    n_classes: int,
    works: Sequence[Work],
    device: torch.device,
    *,
    seconds: float = SECONDS,
    now: Callable[[], float] = time.perf_counter,
) -> Measured:
    """Time every kind of some work, in about so many seconds altogether; something slow is timed once nevertheless."""
    wanted = {key_of(work): work for work in works if work.amount}
    timer = _Timer(params, n_classes, device, seconds / max(1, len(wanted)), now)
    each = {key: timer.measure(work) for key, work in wanted.items()}
    threads = torch.get_num_threads()
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{threads} CPU threads"
    source = (
        f"measured on this machine just now, {where}, torch {torch.__version__}, and slowed by all that was running; "
        "an image of recovery or gradient matching is taken to cost as much as two of training"
    )
    return Measured(f"this machine ({where}), measured", [source], each)


@dataclass(frozen=True)
class _Timer:
    params: Params
    n_classes: int
    device: torch.device
    share: float  # seconds for each kind of work
    now: Callable[[], float]

    def measure(self, work: Work) -> float | None:
        """Seconds of a unit of the amount."""
        if work.kind == "forward":
            return self._passes(work, trains=False)
        if work.kind in _PER_TRAINED:
            return self._passes(work, trains=True)
        if work.kind == "decode":
            return self._decode(work.size)
        if work.kind == "encode":
            return self._encode(work.size)
        if work.kind == "read":
            block = bytes(_BYTES)
            return self._time(lambda: hashlib.sha256(block).digest()) / _BYTES
        try:
            return self._select(work) if work.kind == "select" else self._pack(work)
        except DataError:  # a selector or codec that random numbers do not suit
            return None

    def _time(self, call: Callable[[], Any]) -> float:
        """Mean seconds of a call, once it is warm; a slow call is made only once."""
        first = self._once(call)
        if first > self.share / 2:
            return first
        calls, begun = 0, self.now()
        while not calls or (self.now() - begun < self.share / 2 and calls < 100):
            call()
            calls += 1
        self._wait()
        return (self.now() - begun) / calls

    def _once(self, call: Callable[[], Any]) -> float:
        begun = self.now()
        call()
        self._wait()
        return self.now() - begun

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def _passes(self, work: Work, *, trains: bool) -> float:
        """Seconds of an image in a pass of `work.batch` images, or of its part that fits into the time."""
        network = networks.build(work.name, self.n_classes, work.size).to(self.device)
        if self.device.type == "cuda":
            network = network.to(memory_format=torch.channels_last)
        network.train(trains).requires_grad_(trains)
        optimizer = torch.optim.AdamW(network.parameters()) if trains else None

        def run(images: int) -> Callable[[], None]:
            inputs = torch.rand(images, 3, work.size, work.size, device=self.device)
            labels = torch.zeros(images, dtype=torch.int64, device=self.device)

            def call() -> None:
                with autocast(work.precision, self.device):
                    if optimizer is None:
                        with torch.no_grad():
                            network(inputs)
                        return
                    loss = training.cross_entropy(network(inputs), labels)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()

            return call

        few = min(4, work.batch)
        self._once(run(few))
        each = self._once(run(few)) / few
        images = max(few, min(work.batch, int(self.share / 2 / max(each, 1e-9))))
        return self._time(run(images)) / images

    def _decode(self, size: int) -> float:
        buffer = io.BytesIO()
        Image.fromarray(_picture(size)).resize((2 * size, 2 * size)).save(buffer, format="JPEG", quality=90)
        data = [(buffer.getvalue(), f"{row}.jpg") for row in range(_IMAGES)]
        return self._time(lambda: [decode(one, size, name) for one, name in data]) / _IMAGES

    def _encode(self, size: int) -> float:
        picture = _picture(size)
        return self._time(lambda: encode_png(picture))

    def _select(self, work: Work) -> float:
        """Seconds of a candidate and pick, on two classes of random vectors."""
        generator = np.random.default_rng(0)
        vectors = generator.standard_normal((2 * _CLASS, work.size)).astype(np.float32)
        logits = generator.standard_normal((2 * _CLASS, 2)).astype(np.float32)
        candidates = Candidates(vectors, logits, np.zeros(len(vectors)), np.array([0, _CLASS, 2 * _CLASS]))
        block = self.params.selection
        picks = min(block.ipc, _PICKS)
        method = selection.SELECTORS[work.name]
        took = self._once(lambda: method(candidates, picks, block.seed, selection.Progress(), **block.options))
        return took / (len(vectors) * picks)

    def _pack(self, work: Work) -> float:
        """Seconds of a label of one block, or of as many of its images as seem enough."""
        labels = self.params.softlabels
        shape = budget.label_shape(self.params, self.n_classes)
        images = max(1, min(packing.block_rows(shape), 2_000_000 // (shape.views * shape.classes)))
        some = LabelShape(max(images, 8), shape.views, shape.classes)
        block = self.params.compression
        policy = labels.policy
        codec = packing.plan(block.codec, block.options, some, policy, block.bytes_of(some))
        logits = torch.randn(images, some.views, some.classes, device=self.device)
        rows = np.arange(images)
        drawn = views_of(policy.labelling, np.arange(some.images)).parameters(
            rows.repeat(some.views), np.tile(np.arange(some.views), images)
        )
        return self._once(lambda: codec.encode(logits, rows, some, drawn)) / (images * some.views)


def _picture(size: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """A smooth picture u8 [s, s, 3] with a little noise, which packs about as well as a photograph."""
    y, x = np.mgrid[0:size, 0:size] / size
    waves = np.stack([np.sin(9 * x + 5 * y), np.cos(7 * y), np.sin(11 * x * y)], axis=-1)
    noise = np.random.default_rng(0).normal(0, 6, (size, size, 3))
    return (127 + 100 * waves + noise).clip(0, 255).astype(np.uint8)
