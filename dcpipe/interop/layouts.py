"""Which images a batch shows: the part in which stores differ. One function a layout, one line in `LAYOUTS`.

* `edc`: the batch says it itself, in its seventh entry (G-VBSM, EDC). Nothing is guessed.
* `lpld`: `sampler_indices_epoch.json` beside the epochs lists each epoch's images in the order they were shown, as
  LPLD's script writes it. Nothing is guessed.
* `sre2l`: nobody says. The script drew each epoch's order from one generator, seeded with 42 and never again, through
  PyTorch's `RandomSampler` without replacement, in batches of one size of which the last may be smaller. So the same
  sampler is made here and its epochs are run through in turn, also those of which no batch is left. That needs the same
  seed, the same number of images in the same order (sorted class folders, sorted files) and a PyTorch whose sampler
  draws alike: today's draws two permutations an epoch and uses one, old ones drew one. A store cannot prove any of
  this; what an import can tell is how often labels agree with the class of the image they are given to: with a wrong
  order that falls to chance, in every epoch but the first if only the PyTorch differs.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import RandomSampler

from dcpipe.interop.records import Record
from dcpipe.types import DataError, IntArray, require

LIST = "sampler_indices_epoch.json"
# (epoch, batch, its content) -> i64 [b], rows of the dataset. Epochs are asked for in ascending order.
Order = Callable[[int, int, Record], IntArray]


def edc(store: Path, n_images: int, batch_size: int, seed: int) -> Order:
    """The index in the record."""

    def order(epoch: int, batch: int, record: Record) -> IntArray:
        require(
            record.index is not None,
            f"{name_of(store, epoch, batch)} has no dataset index; choose another layout than edc",
        )
        assert record.index is not None
        return record.index

    return order


def lpld(store: Path, n_images: int, batch_size: int, seed: int) -> Order:
    """The list beside the epochs."""
    path = store / LIST
    try:
        listed = {int(epoch): np.asarray(rows) for epoch, rows in json.loads(path.read_text(encoding="utf-8")).items()}
    except (OSError, ValueError, AttributeError) as error:
        raise DataError(f"{path} cannot be read as {{epoch: [image, ...]}} ({error}); restore it") from error

    def order(epoch: int, batch: int, record: Record) -> IntArray:
        rows = listed.get(epoch, np.empty(0, dtype=np.int64))[batch * batch_size :][: len(record)]
        fits = rows.ndim == 1 and len(rows) == len(record) and rows.dtype.kind == "i"
        where = name_of(store, epoch, batch)
        require(fits, f"{path} lists {len(rows)} images for {where} of {len(record)}; they must agree")
        return rows.astype(np.int64)

    return order


def sre2l(store: Path, n_images: int, batch_size: int, seed: int) -> Order:
    """The sampler made again."""
    generator = torch.Generator()
    generator.manual_seed(seed)
    sampler = RandomSampler(range(n_images), generator=generator)
    drawn, epochs = np.empty(0, dtype=np.int64), 0

    def order(epoch: int, batch: int, record: Record) -> IntArray:
        nonlocal drawn, epochs
        while epochs <= epoch:  # `list` runs the sampler to its very end, where it draws once more
            drawn, epochs = np.asarray(list(sampler), dtype=np.int64), epochs + 1
        rows = drawn[batch * batch_size :][:batch_size]
        where = name_of(store, epoch, batch)
        require(
            len(rows) == len(record),
            f"{where} has {len(record)} rows where {n_images} images in batches of {batch_size} give {len(rows)}; "
            "give the images that were labelled",
        )
        return rows

    return order


LAYOUTS: dict[str, Callable[[Path, int, int, int], Order]] = {"edc": edc, "lpld": lpld, "sre2l": sre2l}


def name_of(store: Path, epoch: int, batch: int) -> Path:
    """The file of a batch."""
    return store / f"epoch_{epoch}" / f"batch_{batch}.tar"


def detect(store: Path, record: Record) -> str:
    """The layout of a store, from one of its records."""
    if record.index is not None:
        return "edc"
    return "lpld" if (store / LIST).is_file() else "sre2l"
