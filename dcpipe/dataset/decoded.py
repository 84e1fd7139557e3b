"""The labels and views of a pack as dense arrays, for exports."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from dcpipe.compression import CODECS, rebuild
from dcpipe.types import IntArray, LabelPack, ViewPolicy, require
from dcpipe.views import views_of


def holds_all(pack: LabelPack) -> bool:
    """Whether every view of every image can be decoded."""
    n, k = pack.shape.images, pack.shape.views
    rows, stored = np.repeat(np.arange(n), k), np.tile(np.arange(k), n)
    return bool(rebuild(pack, CODECS).holds(rows, stored, pack.shape).all())


def check_dense(pack: LabelPack, owner: str, *, every_view: bool = True) -> None:
    """Raise `DataError` if the labels are not of single images, or if `every_view` must have one and some have none.
    `owner` names what has the labels."""
    require(
        pack.policy.mix != "cutmix_images",
        f"{owner} has labels of mixed images, which have no single file; export only the images",
    )
    require(
        not every_view or holds_all(pack),
        f"{owner} has labels of some views only, which do not fill a dense array; export images only",
    )


def parameters(pack: LabelPack, rows: IntArray) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]]:
    """Box f32 [n, K, 4] (left, top, width, height as fractions) and flip u8 [n, K] of all views of some rows.

    Raises `DataError` if a view is more than a crop and a flip.
    """
    policy = pack.policy
    require(
        not (isinstance(policy, ViewPolicy) and (policy.randaugment or policy.shuffle > 1 or policy.siamese)),
        "this release's labels are of views with RandAugment, shuffled patches or siamese augmentation, which other "
        "code cannot reproduce from a box and a flip; export only the images (--images-only), or load the release with "
        "dcpipe.load",
    )
    k = pack.shape.views
    taken = views_of(pack.policy.labelling, pack.ids).parameters(np.repeat(rows, k), np.tile(np.arange(k), len(rows)))
    return taken.box.reshape(-1, k, 4).astype(np.float32), taken.flip.reshape(-1, k).astype(np.uint8)


class Decoded:
    """The logits fp16 [n, K, c] of a pack, decoded one slice of images at a time, because all may exceed memory."""

    dtype = np.dtype(np.float16)

    def __init__(self, pack: LabelPack, rows: np.ndarray[Any, np.dtype[np.int64]]) -> None:
        self.pack = pack
        self.rows = rows
        self.codec = rebuild(pack, CODECS)
        self.arrays = {name: torch.from_numpy(np.ascontiguousarray(array[:])) for name, array in pack.arrays.items()}

    @property
    def shape(self) -> tuple[int, ...]:
        return len(self.rows), self.pack.shape.views, self.pack.shape.classes

    def __getitem__(self, index: slice) -> np.ndarray[Any, Any]:
        chosen = self.rows[index]
        k = self.pack.shape.views
        rows, stored = np.repeat(chosen, k), np.tile(np.arange(k, dtype=np.int64), len(chosen))
        taken = views_of(self.pack.policy.labelling, self.pack.ids).parameters(rows, stored)
        logits = self.codec.decode(self.arrays, rows, stored, self.pack.shape, taken)
        return logits.reshape(len(chosen), k, -1).to(torch.float16).numpy()
