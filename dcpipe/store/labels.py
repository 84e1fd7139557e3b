"""Soft labels: the uncompressed store (Zarr), and label packs (safetensors).

The header of a pack contains, under the key `dcpipe`, what is needed to decode it: codec, settings, shape and views.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dcpipe.store import tensors
from dcpipe.store.artifact import open_artifact
from dcpipe.store.blocks import open_blocks
from dcpipe.types import (
    IntArray,
    LabelPack,
    LabelShape,
    SoftLabels,
    StoredViews,
    ViewPolicy,
    ViewSource,
    require,
)

LABELS = "labels.safetensors"
# Fields of a policy that were added later. They are left out if they are off, so that earlier packs have the same
# bytes.
_LEFT_OUT = (("randaugment", 0), ("shuffle", 1), ("siamese", ""), ("mix_share", 1.0))
_VIEW = "view_"  # prefix of the arrays of a pack that are parameters of stored views


def load_soft_labels(path: Path) -> SoftLabels:
    """Uncompressed labels; the logits stay on disk. Raises `DataError` if the workspace has none."""
    meta = open_artifact(path, "softlabels").meta
    return SoftLabels(
        logits=open_blocks(path / "labels.zarr"),
        policy=ViewPolicy(**meta["policy"]),
        ids=np.asarray(meta["ids"], dtype=np.int64),
        classes=tuple(meta["classes"]),
        teachers=tuple(meta["teachers"]),
    )


def describe_views(law: ViewSource) -> dict[str, Any]:
    """A policy as JSON values, without those in `_LEFT_OUT`. For stored views only mix and size, because their
    parameters are in arrays."""
    values = {"mix": law.mix, "size": law.size} if isinstance(law, StoredViews) else asdict(law)
    return {name: value for name, value in values.items() if (name, value) not in _LEFT_OUT}


def pack_metadata(codec: str, settings: dict[str, Any], shape: LabelShape, policy: ViewSource) -> dict[str, str]:
    """The metadata in the header of a pack. Together with the images, it is enough to decode labels and replay
    views."""
    content = {"codec": codec, "settings": settings, "shape": asdict(shape), "policy": describe_views(policy)}
    return {"dcpipe": json.dumps(content, separators=(",", ":"), sort_keys=True)}


def _view_arrays(law: ViewSource) -> dict[str, npt.NDArray[Any]]:
    """Stored views as arrays `view_...` of a pack; a policy needs no arrays."""
    return {_VIEW + name: array for name, array in law.arrays.items()} if isinstance(law, StoredViews) else {}


def view_specs(law: ViewSource) -> dict[str, tuple[tuple[int, ...], str]]:
    """Shapes and dtypes of the arrays that stored views add to a pack."""
    return {name: (array.shape, array.dtype.name) for name, array in _view_arrays(law).items()}


def save_pack(path: Path, pack: LabelPack) -> int:
    """Write a pack as one safetensors file and return its size in bytes."""
    arrays = {**pack.arrays, **_view_arrays(pack.policy)}
    return tensors.write(path, arrays, pack_metadata(pack.codec, pack.settings, pack.shape, pack.policy))


def load_pack(path: Path, ids: IntArray) -> LabelPack:
    """The pack of an artifact `compression`; `ids` are the ids of the labelled images."""
    open_artifact(path, "compression")
    return read_pack(path / LABELS, ids)


def read_pack(path: Path, ids: IntArray | None) -> LabelPack:
    """A pack from its file; `ids` are the ids of the labelled images (None: 0 .. n - 1). Raises `DataError` for NaN or
    infinity, and for a file that is not a pack."""
    arrays, metadata = tensors.read(path)
    require(
        "dcpipe" in metadata,
        f"{path} is not a label pack: its header lacks 'dcpipe'; give a dcpipe labels file",
    )
    content = json.loads(metadata["dcpipe"])
    for name, array in arrays.items():
        finite = array.dtype.kind != "f" or bool(np.isfinite(array).all())
        require(finite, f"{path}: array {name!r} contains NaN or infinity; compress the labels again")
    kept = {name.removeprefix(_VIEW): array for name, array in arrays.items() if name.startswith(_VIEW)}
    shape = LabelShape(**content["shape"])
    return LabelPack(
        codec=content["codec"],
        settings=content["settings"],
        arrays={name: array for name, array in arrays.items() if not name.startswith(_VIEW)},
        shape=shape,
        policy=StoredViews(**content["policy"], arrays=kept) if kept else ViewPolicy(**content["policy"]),
        ids=np.arange(shape.images) if ids is None else ids,
        n_bytes=path.stat().st_size,
    )
