"""The parallel part of the stage `features`: the vectors, logits and R_C of one part of the table.

A part is one shard of each of the three arrays. They are written in this order, so the last one marks the part as done.
"""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import nn

from dcpipe import images, networks, store
from dcpipe.features import extract, label_rates
from dcpipe.shards import opened
from dcpipe.types import FloatArray, ImageTable, IntArray, Precision, Teacher, ViewPolicy

KEYS = "keys.parquet"


@dataclass(frozen=True)
class Job:
    """What all parts have in common: the artifacts `images` and `teacher`, the folder of the arrays, the views that R_C
    is measured on and its options (as JSON, for `label_rates`), whether it is measured only for a shortlist, and how
    the network is run."""

    table: store.Verified
    teacher: store.Verified
    folder: str
    policy: ViewPolicy
    n_views: int
    rate_options: str
    shortlist: bool
    batch_size: int
    device: str
    precision: Precision = "auto"


@dataclass(frozen=True, eq=False)
class Work:
    """An open job: the train images, the network on its device, and the arrays that are filled.

    One thread computes at a time, while another one reads and decodes the images of its part.
    """

    job: Job
    table: ImageTable
    teacher: Teacher
    network: nn.Module
    device: torch.device
    vectors: store.Blocks
    logits: store.Blocks
    rates: store.Blocks
    computing: threading.Lock = field(default_factory=threading.Lock)

    @cached_property
    def rank(self) -> IntArray:
        """The place of each image in the shortlist of its class, i64 [n]; -1 for images that are not in it."""
        return store.read_columns(Path(self.job.folder) / KEYS, {"rank": "int64"})["rank"]

    def measure(self, pixels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]], ids: IntArray) -> FloatArray:
        """R_C f64 [m] of some images u8 [m, s, s, 3]."""
        return label_rates(
            self.network,
            self.teacher,
            pixels,
            ids,
            policy=self.job.policy,
            n_views=self.job.n_views,
            rate_options=json.loads(self.job.rate_options),
            batch_size=self.job.batch_size,
            device=self.device,
        )


@opened
def work_of(job: Job) -> Work:
    """Open a job, and create its arrays unless they are there. Raises `DataError` for a teacher that does not fit the
    images, and if the disk has not enough space."""
    device = torch.device(job.device)
    table, teacher = store.table_of(job.table.open(), "train"), store.teacher_of(job.teacher.open())
    networks.check_teachers({Path(job.teacher.path).name: teacher}, table.classes, table.size)
    network = networks.from_teacher(teacher, device)
    n, c, d = len(table), len(table.classes), networks.head(network).in_features
    store.need_space(n * (4 * d + 4 * c + 8), f"features of {n} images")
    folder = Path(job.folder)
    return Work(
        job,
        table,
        teacher,
        network,
        device,
        store.create_blocks(folder / "vectors.zarr", (n, d), "float32", rows=table.part_rows),
        store.create_blocks(folder / "logits.zarr", (n, c), "float32", rows=table.part_rows),
        store.create_blocks(folder / "label_rate.zarr", (n,), "float64", rows=table.part_rows),
    )


def extract_part(job: Job, part: int) -> None:
    """Vectors and logits of the images of a part and, without a shortlist, R_C: the images are decoded once for all."""
    work = work_of(job)
    pixels, _, ids = images.read_part(work.table, part)
    with work.computing:
        vectors, logits = extract(
            work.network,
            work.teacher,
            pixels,
            batch_size=job.batch_size,
            device=work.device,
            precision=job.precision,
        )
        rates = None if job.shortlist else work.measure(pixels, ids)
    work.vectors.write(part, vectors)
    work.logits.write(part, logits)
    if rates is not None:
        work.rates.write(part, rates)


def measure_part(job: Job, part: int) -> None:
    """R_C of the images of a part that are in the shortlist; zero for the others, which `rank` shows."""
    work = work_of(job)
    span = work.rates.span(part)
    rows = span.start + np.flatnonzero(work.rank[span] >= 0)
    values = np.zeros(span.stop - span.start)
    if len(rows):
        pixels = images.read_rows(work.table, rows)
        with work.computing:
            values[rows - span.start] = work.measure(pixels, work.table.ids[rows])
    work.rates.write(part, values)
