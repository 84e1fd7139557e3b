"""Read one `batch_*.tar`. It is not an archive, but a list that torch.save wrote, with one row per image in each entry.

    0  coords  f32 [b, 4]    top, left, height, width of the crop, as fractions of the (square) image
    1  flip    bool [b]      after the crop
    2  mix     i64 [b]       the row of this batch that is pasted in; None if nothing was mixed
    3  lambda  float         as drawn, which is not the share of pixels outside the clipped box; not used here
    4  bbox    4 integers    x1, y1, x2, y2 of `images[:, :, x1:x2, y1:y2] = images[mix, :, x1:x2, y1:y2]`: x are ROWS
    5  logits  f16 or f32 [b, c]
    6  index   i64 [b]       of each row in the dataset (G-VBSM, EDC); SRe2L and LPLD have no entries 6 and 7
    7  shuffle i32 [b, ...]  of patches (EDC), all zero

Reading is safe (`store.torch_files`): a file may contain tensors and plain numbers, including NumPy's, because the
scripts write the corners of the box as such. Anything that would call code is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from dcpipe.interop.tensors import array_of, is_plain
from dcpipe.store.torch_files import read_plain
from dcpipe.types import IntArray, require

_WHOLE = (torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


@dataclass(frozen=True, eq=False)
class Record:
    """One batch in the terms of dcpipe: `box` f32 [b, 4] (left, top, width, height), `flip` u8 [b], `logits` f16 [b,
    c]; `mixed` i64 [b] (rows of the batch) and `mix_box` (left, top, right, bottom in pixels), or None; `index` i64 [b]
    or None."""

    box: npt.NDArray[np.float32]
    flip: npt.NDArray[np.uint8]
    mixed: IntArray | None
    mix_box: tuple[int, int, int, int] | None
    logits: npt.NDArray[np.float16]
    index: IntArray | None

    def __len__(self) -> int:
        return len(self.flip)


def read_record(path: Path) -> Record:
    """Read and check one file. Raises `DataError` if it is truncated, has another layout, or contains NaN, infinity or
    anything but tensors and plain numbers."""
    entries = read_plain(path)
    require(
        isinstance(entries, list) and 6 <= len(entries) <= 8,
        f"{path} contains {_described(entries)}, expected a list of 6 to 8 entries; give a store that SRe2L's scripts "
        "wrote",
    )
    coords = _tensor(path, entries, 0, "coords", "f", 2)
    flip = _tensor(path, entries, 1, "flip", "bui", 1)
    logits = _tensor(path, entries, 5, "logits", "f", 2)
    with np.errstate(over="ignore"):
        halves = logits.astype(np.float16)
    finite = np.isfinite(halves).all(axis=1)
    require(bool(finite.all()), f"{path}: row {int(np.argmin(finite))} of its logits contains NaN or infinity in fp16")
    index = _tensor(path, entries, 6, "index", "iu", 1) if len(entries) > 6 else None
    if len(entries) == 8:
        shuffled = bool(_tensor(path, entries, 7, "shuffle", "iu", None).any())
        require(not shuffled, f"{path}: patches were shuffled before labelling, which no view can replay")
    mixed, mix_box = _mix(path, entries)
    rows = [len(array) for array in (coords, flip, mixed, logits, index) if array is not None]
    require(len(set(rows)) == 1 and rows[0] > 0, f"{path}: its entries have {rows} rows; they must agree")
    require(coords.shape[1] == 4, f"{path}: coords are {list(coords.shape)}, expected [b, 4]")
    box = coords[:, [1, 0, 3, 2]].astype(np.float32)
    inside = (box >= 0).all() and (box[:, 2:] > 0).all() and (box[:, :2] + box[:, 2:] < 1.001).all()
    require(bool(inside), f"{path}: a crop leaves the image; coords must be fractions (top, left, height, width)")
    if mixed is not None:
        within = bool(((mixed >= 0) & (mixed < len(box))).all())
        require(within, f"{path}: mix points outside the batch of {len(box)}")
    return Record(box, (flip != 0).astype(np.uint8), mixed, mix_box, halves, index)


def _described(value: Any) -> str:
    return f"a list of {len(value)}" if isinstance(value, list) else type(value).__name__


def _tensor(
    path: Path, entries: list[Any], place: int, name: str, kinds: str, dimensions: int | None
) -> npt.NDArray[Any]:
    return array_of(entries[place], f"{path}: entry {place} ({name})", kinds, dimensions, "the layout is another one")


def _mix(path: Path, entries: list[Any]) -> tuple[IntArray | None, tuple[int, int, int, int] | None]:
    mix, share, corners = entries[2:5]
    if mix is None and corners is None:
        return None, None
    require(
        corners is not None,
        f"{path}: images were blended (mixup with lambda {share}), not pasted; only CutMix and no mix can be imported",
    )
    whole = isinstance(corners, list | tuple) and len(corners) == 4
    whole = whole and all(isinstance(corner, int | np.integer) or _is_whole(corner) for corner in corners)
    require(whole, f"{path}: entry 4 (bbox) is {corners!r}, expected four integers")
    top, left, bottom, right = (int(corner) for corner in corners)
    require(
        0 <= top <= bottom < 2**16 and 0 <= left <= right < 2**16,
        f"{path}: bbox {[top, left, bottom, right]} is not x1 <= x2, y1 <= y2",
    )
    return _tensor(path, entries, 2, "mix", "iu", 1), (left, top, right, bottom)


def _is_whole(value: Any) -> bool:
    """Whether a value is a tensor of one integer; some versions write corners in this way."""
    whole = isinstance(value, torch.Tensor) and value.numel() == 1 and value.dtype in _WHOLE
    return whole and is_plain(value)
