"""Find the images that a batch shows, in which stores differ. Each layout is one function and one line in `LAYOUTS`.

* `edc`: the seventh entry of each batch contains the dataset indices (G-VBSM, EDC), so nothing is guessed.
* `lpld`: `sampler_indices_epoch.json` in the store lists the images of each epoch in the order in which they were
  shown, as LPLD's script writes it, so nothing is guessed.
* `sre2l`: the indices are not stored. The script drew the order of all epochs from one generator, which was seeded once
  with 42, through PyTorch's `RandomSampler` without replacement, in batches of one size, of which the last may be
  smaller. So the same sampler is created here and run through all epochs, including those whose batches are missing.
  This requires the same seed, the same number of images in the same order (sorted class folders, sorted files) and a
  PyTorch version whose sampler draws in the same way: current versions draw two permutations per epoch and use one, old
  versions drew one. A store cannot prove any of this. An import can only measure how often labels agree with the
  classes of their images. If the order is wrong, the agreement falls to chance; if only the PyTorch version differs, it
  does so in every epoch but the first.
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
# (epoch, batch, content of the batch) -> i64 [b], rows of the dataset. It is called with epochs in ascending order.
Order = Callable[[int, int, Record], IntArray]


def edc(store: Path, n_images: int, batch_size: int, seed: int) -> Order:
    """The indices in the record."""

    def order(epoch: int, batch: int, record: Record) -> IntArray:
        require(
            record.index is not None,
            f"{name_of(store, epoch, batch)} has no dataset index; choose another layout than edc",
        )
        assert record.index is not None
        return record.index

    return order


def lpld(store: Path, n_images: int, batch_size: int, seed: int) -> Order:
    """The list in the store."""
    path = store / LIST
    try:
        listed = {int(epoch): np.asarray(rows) for epoch, rows in json.loads(path.read_text(encoding="utf-8")).items()}
    except (OSError, ValueError, AttributeError, TypeError, OverflowError, RecursionError) as error:
        raise DataError(f"{path} cannot be read as {{epoch: [image, ...]}} ({error}); restore it") from error

    def order(epoch: int, batch: int, record: Record) -> IntArray:
        rows = listed.get(epoch, np.empty(0, dtype=np.int64))[batch * batch_size :][: len(record)]
        fits = rows.ndim == 1 and len(rows) == len(record) and rows.dtype.kind == "i"
        where = name_of(store, epoch, batch)
        require(fits, f"{path} lists {len(rows)} images for {where} of {len(record)}; they must agree")
        return rows.astype(np.int64)

    return order


def sre2l(store: Path, n_images: int, batch_size: int, seed: int) -> Order:
    """The re-created sampler."""
    generator = torch.Generator()
    generator.manual_seed(seed)
    sampler = RandomSampler(range(n_images), generator=generator)
    drawn, epochs = np.empty(0, dtype=np.int64), 0

    def order(epoch: int, batch: int, record: Record) -> IntArray:
        nonlocal drawn, epochs
        while epochs <= epoch:  # `list` runs the sampler to its end, where it draws once more
            drawn, epochs = np.asarray(list(sampler), dtype=np.int64), epochs + 1
        rows = drawn[batch * batch_size :][:batch_size]
        where = name_of(store, epoch, batch)
        require(
            len(rows) == len(record),
            f"{where} has {len(record)} rows, but {n_images} images in batches of {batch_size} would give {len(rows)}; "
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
