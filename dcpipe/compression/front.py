"""Compression of arrays: `dcpipe.compress` and `dcpipe.load_labels` need no workspace.

>>> import numpy as np
>>> draw = np.random.default_rng(0)
>>> teacher = draw.normal(size=(50, 1, 20)) + draw.normal(size=(50, 40, 1)) * draw.normal(size=(50, 1, 20))
>>> labels = compress(teacher, codec="svd", ratio=4)
>>> labels.n_bytes <= teacher.size * 2 / 4
True
>>> decoded = labels.decode()
>>> decoded.shape, bool(np.abs(decoded - teacher).max() < 0.02)
((50, 40, 20), True)
>>> compress(teacher, codec="field", ratio=40).n_bytes <= teacher.size * 2 / 40
True
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from dcpipe import store
from dcpipe.compression import CODECS, rebuild
from dcpipe.compression.budget import Budget
from dcpipe.training import pick_device
from dcpipe.types import IntArray, LabelPack, LabelShape, SoftLabels, ViewPolicy, check_logits, require, run_in_turn
from dcpipe.types.arguments import as_array, as_ids, as_numbers
from dcpipe.types.paths import local_path
from dcpipe.views import views_of


@dataclass(frozen=True, eq=False)
class PackedLabels:
    """Soft labels encoded by a codec. `pack` is the same kind of pack as in a release."""

    pack: LabelPack

    @property
    def codec(self) -> str:
        """The codec's name."""
        return self.pack.codec

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that the codec has chosen to fit the budget."""
        return self.pack.settings

    @property
    def shape(self) -> LabelShape:
        """Numbers of images, views per image, and classes."""
        return self.pack.shape

    @property
    def n_bytes(self) -> int:
        """Size of the file in bytes, including its header, measured by writing it."""
        return self.pack.n_bytes

    def decode(self, rows: IntArray | None = None) -> npt.NDArray[np.float32]:
        """Logits f32 [m, K, c] of the images `rows`, by default of all n images.

        Raises `DataError` for a codec that stores only some of the views; these can be decoded from `pack`.
        """
        shape = self.pack.shape
        chosen = np.arange(shape.images) if rows is None else as_array(rows, "rows")
        chosen = chosen.astype(np.int64) if chosen.shape == (0,) else chosen  # an empty list has no type
        require(
            chosen.ndim == 1 and chosen.dtype.kind in "iu" and bool(((chosen >= 0) & (chosen < shape.images)).all()),
            f"rows must be whole numbers in 0..{shape.images - 1}, [m]; correct them",
        )
        images, stored = np.repeat(chosen, shape.views), np.tile(np.arange(shape.views), len(chosen))
        arrays = {name: torch.from_numpy(np.ascontiguousarray(array[:])) for name, array in self.pack.arrays.items()}
        views = views_of(self.pack.policy.labelling, self.pack.ids).parameters(images, stored)
        logits = rebuild(self.pack, CODECS).decode(arrays, images, stored, shape, views)
        return logits.reshape(len(chosen), shape.views, shape.classes).numpy()

    def save(self, path: Path | str) -> int:
        """Write the labels to a safetensors file, which `load_labels` reads; returns its size in bytes."""
        return store.save_pack(local_path(path, "the file of a label pack"), self.pack)


def compress(
    logits: npt.ArrayLike,
    codec: str = "field",
    ratio: float | None = None,
    *,
    bytes_per_image: float | None = None,
    reference: Literal["fp16", "fp32"] = "fp16",
    views: ViewPolicy | None = None,
    ids: IntArray | None = None,
    device: str = "cpu",
    **options: Any,
) -> PackedLabels:
    """The soft labels of K views of each image, packed by a codec into a byte budget.

    Args:
        logits: the logits of a teacher for view k of image i at [i, k], float [n, K, c]; they are rounded to fp16.
        codec: a name in `CODECS`, with its `options`: see `dcpipe.compression`.
        ratio: how many times smaller the file must be than the logits in `reference`.
        bytes_per_image: the budget, instead of a ratio; codec `none` takes neither.
        views: how the views were drawn. `field` computes labels from crop and flip, so these must be the views that the
            teacher saw, `dcpipe.views.draw(views, ids, k, n)`. Default: `ViewPolicy()`.
        ids: of the images, i64 [n]; their views depend on them. Default: 0 .. n - 1.
        device: where to compute, e.g. `cuda`.

    Raises `DataError` for an unknown codec or option and for logits that fp16 cannot store, and `BudgetError` for a
    budget that is too small for the codec.
    """
    values = as_numbers(logits, "logits", np.float16)  # numbers beyond fp16 become infinite and are refused below
    require(values.ndim == 3, f"logits must be [images, views, classes], but are {list(values.shape)}")
    require(values.size > 0, f"logits are empty, {list(values.shape)}; give at least one image, view and class")
    require(
        views is None or isinstance(views, ViewPolicy), f"views is {views!r}; give a dcpipe.ViewPolicy, or leave it out"
    )
    own = np.arange(len(values)) if ids is None else as_ids(ids, "ids", len(values))
    place = pick_device(str(device))
    labels = SoftLabels(values, views or ViewPolicy(), own, tuple(map(str, range(values.shape[2]))), ("teacher",))
    check_logits(values, own, np.arange(len(values)))
    budget = Budget(codec, options, ratio, reference, bytes_per_image)
    with tempfile.TemporaryDirectory() as folder:
        pack = budget.compress(labels, Path(folder), place, run_in_turn)
        path = Path(folder) / "labels.safetensors"
        store.save_pack(path, pack)
        return PackedLabels(store.read_pack(path, own))


def load_labels(path: Path | str, ids: IntArray | None = None) -> PackedLabels:
    """Labels that `PackedLabels.save` wrote, or those of a release; `ids` as in `compress`.

    Raises `DataError` for a file that is missing, damaged or of another kind.
    """
    file = local_path(path, "a label pack")
    require(file.is_file(), f"label pack {path} not found; give the path of a saved file")
    return PackedLabels(store.read_pack(file, ids))
