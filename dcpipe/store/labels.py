"""Soft labels: the uncompressed store (Zarr), and label packs (safetensors).

The header of a pack contains, under the key `dcpipe`, what is needed to decode it: codec, settings, shape and views.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from dcpipe.store import tensors
from dcpipe.store.artifact import open_artifact
from dcpipe.store.blocks import open_listed
from dcpipe.store.columns import read_columns, write_columns
from dcpipe.store.documents import Classes, Index, Open, Pixels, Strict, Text, checked, of, parse
from dcpipe.store.manifest import MANIFEST
from dcpipe.types import (
    VIEW_ARRAYS,
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
IDS = "ids.parquet"
# Fields of a policy that were added later. They are left out if they are off, so that earlier packs have the same
# bytes.
_LEFT_OUT = (("randaugment", 0), ("shuffle", 1), ("siamese", ""), ("mix_share", 1.0), ("mix_box", "rounded"))
_VIEW = "view_"  # prefix of the arrays of a pack that are parameters of stored views
_REMEDY = "pull or rebuild it"
_FEW = 2**24  # images that a pack of any size may label

_Count = Annotated[int, Field(ge=1, lt=2**31)]


class _Policy(Strict):
    """The types of `ViewPolicy`, which checks their ranges itself."""

    scale_min: float = 0.08
    scale_max: float = 1.0
    flip: float = 0.5
    mix: Literal["none", "cutmix_images", "cutmix_labels"] = "none"
    seed: int = Field(default=0, ge=-(2**63), lt=2**64)
    ratio_min: float = 1.0
    ratio_max: float = 1.0
    randaugment: int = 0
    shuffle: int = 1
    siamese: str = Field(default="", max_length=100)
    mix_share: float = 1.0
    mix_box: Literal["rounded", "even"] = "rounded"


class _Kept(Strict):
    """What a header says of kept views, whose numbers are in arrays."""

    mix: Literal["none", "cutmix_images"]
    size: Pixels


class _Shape(Strict):
    images: _Count
    views: _Count
    classes: _Count


class PackHeader(Strict):
    """What the key `dcpipe` of a pack's header says."""

    codec: Text
    settings: dict[str, Any]
    shape: _Shape
    policy: dict[str, Any]


class _StoreMeta(Open):
    policy: dict[str, Any]
    ids: list[Index] | None = None  # of older versions, which had no file of ids
    classes: Classes
    teachers: list[Text]


def save_label_keys(
    folder: Path, ids: IntArray, policy: ViewPolicy, classes: Sequence[str], teachers: Sequence[str]
) -> dict[str, Any]:
    """Write `ids.parquet`, the ids of the labelled images i64 [n], next to the logits in `labels.zarr`, and return the
    metadata to publish both with."""
    write_columns(folder / IDS, {"id": ids})
    return {"policy": describe_views(policy), "classes": list(classes), "teachers": list(teachers)}


def load_soft_labels(path: Path) -> SoftLabels:
    """Uncompressed labels; the logits stay on disk. Raises `DataError` if the workspace has none."""
    artifact, manifest = open_artifact(path, "softlabels"), path / MANIFEST
    meta = checked(_StoreMeta, artifact.meta, manifest, f"remove {path} and run `dvc repro`", "in meta")
    policy = read_policy(meta.policy, manifest)
    if meta.ids is None:
        ids = read_columns(artifact.file(IDS), {"id": "int64"})["id"]
    else:
        ids = np.asarray(meta.ids, dtype=np.int64)
    logits = open_listed(artifact, "labels.zarr", 3)
    with of(path):
        return SoftLabels(logits, policy, ids, tuple(meta.classes), tuple(meta.teachers))


def read_policy(values: Mapping[str, Any], path: Path) -> ViewPolicy:
    """The policy that `describe_views` described in the file `path`; raises `DataError` for a wrong key, type or
    range."""
    checked(_Policy, values, path, _REMEDY, "in the policy of its views,")
    with of(path):
        return ViewPolicy(**values)


def read_pack_header(path: Path) -> PackHeader:
    """What a pack's header says, without its arrays; raises `DataError` for another file."""
    return _content(path, tensors.read_header(path).metadata)


def _content(path: Path, metadata: Mapping[str, str]) -> PackHeader:
    require(
        "dcpipe" in metadata,
        f"{path} is not a label pack: its header lacks 'dcpipe'; give a dcpipe labels file",
    )
    content = parse(metadata["dcpipe"], path, _REMEDY)
    return checked(PackHeader, content, path, _REMEDY, "in its header")


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
    return read_pack(open_artifact(path, "compression").file(LABELS), ids)


def read_pack(path: Path, ids: IntArray | None) -> LabelPack:
    """A pack from its file; `ids` are the ids of the labelled images (None: 0 .. n - 1). Raises `DataError` for NaN or
    infinity, and for a file that is not a pack."""
    size = path.stat().st_size if path.is_file() else 0
    arrays, metadata = tensors.read(path)
    content = _content(path, metadata)
    shape = LabelShape(**content.shape.model_dump())
    require(
        shape.images <= max(_FEW, size),
        f"{path} claims labels of {shape.images:,} images in {size:,} bytes; {_REMEDY}",
    )
    for name, array in arrays.items():
        finite = array.dtype.kind != "f" or bool(np.isfinite(array).all())
        require(finite, f"{path}: array {name!r} contains NaN or infinity; compress the labels again")
    kept = {name.removeprefix(_VIEW): array for name, array in arrays.items() if name.startswith(_VIEW)}
    with of(path):
        return LabelPack(
            codec=content.codec,
            settings=content.settings,
            arrays={name: array for name, array in arrays.items() if not name.startswith(_VIEW)},
            shape=shape,
            policy=_kept_views(content.policy, kept, shape, path) if kept else read_policy(content.policy, path),
            ids=np.arange(shape.images) if ids is None else ids,
            n_bytes=size,
            file=str(path.absolute()),
        )


def _kept_views(
    policy: Mapping[str, Any], arrays: dict[str, npt.NDArray[Any]], shape: LabelShape, path: Path
) -> StoredViews:
    values = checked(_Kept, policy, path, _REMEDY, "in the policy of its views,")
    for name, array in arrays.items():
        tail = VIEW_ARRAYS[name][0] if name in VIEW_ARRAYS else ()
        require(
            array.shape == (shape.images, shape.views, *tail),
            f"its array {_VIEW + name!r} is {list(array.shape)} for {shape.images} images and {shape.views} views; "
            f"{_REMEDY}",
        )
    return StoredViews(values.mix, values.size, arrays)
