"""The file of an expert: a safetensors file with one tensor, `weights` f32 [epochs + 1, p], written row by row.

Its metadata has the `layout` of a row: names and shapes of the weights in their order, as JSON. While the expert is
trained, the file has another name and ends after the last row so far, which is the whole state of a training without
momentum. So no row is written twice, and a killed training goes on after its last whole row, to the same bytes.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open

from dcpipe.store.files import sync_entries
from dcpipe.store.tensors import header_bytes
from dcpipe.types import DataError, require

Layout = Mapping[str, tuple[int, ...]]  # shapes by name, in the order of a row
TENSOR, OPEN = "weights", ".open"
_WORD = 4  # bytes of an f32


class Rows:
    """The unfinished file of an expert of `n` rows. `path` is the name that it gets when it is finished."""

    def __init__(self, path: Path, layout: Layout, n: int) -> None:
        self.path, self.opened = path, path.with_suffix(OPEN)
        self.size = _size(layout)
        self.n, self._header = n, header(layout, n)
        self.done = self._found()

    def last(self) -> torch.Tensor | None:
        """The last row f32 [p], or None if there is none yet."""
        if not self.done:
            return None
        with self.opened.open("rb") as stream:
            stream.seek(self._end - _WORD * self.size)
            return torch.from_numpy(np.frombuffer(stream.read(_WORD * self.size), dtype="<f4").astype(np.float32))

    def append(self, row: torch.Tensor) -> None:
        """Write the next row f32 [p], and sync it to disk."""
        with self.opened.open("r+b" if self.done else "wb") as stream:
            if not self.done:
                stream.write(self._header)
            stream.seek(self._end)  # what a kill has left of this row is overwritten
            stream.write(row.cpu().numpy().astype("<f4").tobytes())
            stream.flush()
            os.fsync(stream.fileno())
        self.done += 1

    def finish(self) -> None:
        """Give the file with all its rows its name."""
        assert self.done == self.n
        self.opened.replace(self.path)
        sync_entries(self.path.parent)

    @property
    def _end(self) -> int:
        return len(self._header) + _WORD * self.size * self.done

    def _found(self) -> int:
        """Whole rows that an earlier run has written; 0 if the file is of another network."""
        if not self.opened.exists():
            return 0
        with self.opened.open("rb") as stream:
            same = stream.read(len(self._header)) == self._header
        written = self.opened.stat().st_size - len(self._header)
        return min(self.n, written // (_WORD * self.size)) if same else 0


def header(layout: Layout, n: int) -> bytes:
    """What a safetensors file with `n` such rows begins with."""
    described = json.dumps([[name, list(shape)] for name, shape in layout.items()])
    return header_bytes({TENSOR: ((n, _size(layout)), "float32")}, {"layout": described})


def _size(layout: Layout) -> int:
    return sum(math.prod(shape) for shape in layout.values())


def read(path: Path, *epochs: int) -> list[torch.Tensor]:
    """The weights f32 [p] of an expert after some epochs. Raises `DataError` for a missing or damaged file."""
    try:
        with safe_open(path, framework="pt") as stream:
            rows = stream.get_slice(TENSOR)
            return [rows[epoch] for epoch in epochs]
    except (SafetensorError, OSError) as error:
        raise DataError(f"expert {path} cannot be read ({error}); remove the file and run again") from error


def check(path: Path, layout: Layout, n: int) -> None:
    """Raises `DataError` for a file that does not have `n` rows of this layout."""
    wanted, size = header(layout, n), _size(layout)
    try:
        with path.open("rb") as stream:
            same = stream.read(len(wanted)) == wanted
        whole = path.stat().st_size == len(wanted) + _WORD * n * size
    except OSError as error:
        raise DataError(f"expert {path} cannot be read ({error}); remove the file and run again") from error
    require(same and whole, f"expert {path} does not have {n} rows of this network; remove the file and run again")
