"""The files of each noun. Metadata that JSON can hold lives in the artifact's manifest, arrays beside it."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from safetensors.torch import load_file, save_file

from dcpipe.store import tensors
from dcpipe.store.artifact import Artifact, open_artifact
from dcpipe.store.blocks import open_blocks
from dcpipe.types import (
    DataError,
    Features,
    ImageSet,
    ImageTable,
    IntArray,
    KeptViews,
    LabelPack,
    LabelShape,
    Score,
    Selection,
    SoftLabels,
    Teacher,
    ViewLaw,
    ViewPolicy,
    require,
)

ROW_GROUP = 256
_UNSAID = (("randaugment", 0), ("shuffle", 1), ("siamese", ""), ("mix_share", 1.0))  # learned later: unsaid while off
_VIEW = "view_"  # arrays of a pack that are parameters of kept views


class ImageRow(NamedTuple):
    """One encoded image: id, file bytes, the source's own name for it, label."""

    id: int
    data: bytes
    path: str
    label: int


def image_table(rows: Sequence[ImageRow], classes: Sequence[str]) -> pa.Table:
    """Images in the Hugging Face convention, with an `id` column; their features are in the schema's metadata."""
    struct = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    features = {
        "id": {"dtype": "int64", "_type": "Value"},
        "image": {"_type": "Image"},
        "label": {"names": list(classes), "_type": "ClassLabel"},
    }
    schema = pa.schema(
        [("id", pa.int64()), ("image", struct), ("label", pa.int64())],
        metadata={"huggingface": json.dumps({"info": {"features": features}})},
    )
    columns = {
        "id": pa.array([row.id for row in rows], pa.int64()),
        "image": pa.array([{"bytes": row.data, "path": row.path} for row in rows], struct),
        "label": pa.array([row.label for row in rows], pa.int64()),
    }
    return pa.table(columns, schema=schema)


def write_part(path: Path, rows: Sequence[ImageRow], classes: Sequence[str]) -> None:
    """Write `image_table` as Parquet; atomic by rename."""
    beside = path.with_name(path.name + ".partial")
    # Encoded images do not compress further.
    pq.write_table(
        image_table(rows, classes), beside, compression="NONE", row_group_size=ROW_GROUP, use_dictionary=False
    )
    beside.replace(path)


def image_rows(images: ImageSet) -> list[ImageRow]:
    """The rows of a set, as lossless PNG."""
    return [
        ImageRow(int(i), encode_png(image), f"{int(i)}.png", int(label))
        for i, image, label in zip(images.ids, images.images, images.labels, strict=True)
    ]


def load_table(path: Path, split: str) -> ImageTable:
    """One split (train, minival, test) of the images artifact."""
    return table_of(open_artifact(path, "images"), split)


def table_of(artifact: Artifact, split: str) -> ImageTable:
    """As `load_table`, from an artifact already verified."""
    meta = artifact.meta
    require(split in meta["splits"], f"{artifact.path} has no split {split!r}; it has {', '.join(meta['splits'])}")
    parts = tuple(artifact.path / name for name in meta["splits"][split])
    columns = [pq.read_table(part, columns=["id", "label"]) for part in parts]
    none = np.empty(0, dtype=np.int64)  # minival may be empty, and has no part then
    return ImageTable(
        parts=parts,
        part_rows=meta["part_rows"],
        ids=np.concatenate([none, *(column["id"].to_numpy() for column in columns)]),
        labels=np.concatenate([none, *(column["label"].to_numpy() for column in columns)]),
        classes=tuple(meta["classes"]),
        size=meta["size"],
        mean=tuple(meta["mean"]),
        std=tuple(meta["std"]),
    )


def encode_png(image: npt.NDArray[np.uint8]) -> bytes:
    """Lossless file bytes of one image u8 [h, w, 3]."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def save_set(folder: Path, images: ImageSet) -> dict[str, Any]:
    """Write `images.parquet` (lossless PNG) and return the metadata to publish it with."""
    write_part(folder / "images.parquet", image_rows(images), images.classes)
    return {"classes": list(images.classes), "grid": images.grid}


def load_set(path: Path) -> ImageSet:
    """The condensed images of a synthesis artifact."""
    artifact = open_artifact(path, "synthesis")
    return read_set(path / "images.parquet", artifact.meta["classes"], artifact.meta["grid"])


def read_set(path: Path, classes: Sequence[str], grid: int) -> ImageSet:
    """An image set from its Parquet file."""
    table = pq.read_table(path)
    images = []
    for row, record in enumerate(table["image"].to_pylist()):
        try:
            images.append(np.asarray(Image.open(io.BytesIO(record["bytes"])).convert("RGB")))
        except OSError as error:
            raise DataError(f"{path}: row {row} ({record['path']}) is not an image ({error}); pull it again") from error
    return ImageSet(
        images=np.stack(images),
        labels=table["label"].to_numpy().astype(np.int64),
        ids=table["id"].to_numpy().astype(np.int64),
        classes=tuple(classes),
        grid=grid,
    )


def save_teacher(folder: Path, teacher: Teacher) -> dict[str, Any]:
    """Write `weights.safetensors` and return the metadata to publish it with."""
    weights = {name: tensor.contiguous() for name, tensor in teacher.weights.items()}
    save_file(weights, folder / "weights.safetensors")
    meta = {key: value for key, value in asdict_shallow(teacher).items() if key != "weights"}
    return json.loads(json.dumps(meta))  # type: ignore[no-any-return]


def asdict_shallow(kind: Any) -> dict[str, Any]:
    """Fields of a noun, arrays not copied."""
    return {name: getattr(kind, name) for name in kind.__dataclass_fields__}


def load_teacher(path: Path) -> Teacher:
    """A teacher with its weights on the CPU."""
    meta = open_artifact(path, "teacher").meta
    weights = load_file(path / "weights.safetensors")
    return Teacher(
        network=meta["network"],
        weights=weights,
        classes=tuple(meta["classes"]),
        mean=tuple(meta["mean"]),
        std=tuple(meta["std"]),
        size=meta["size"],
        accuracy=meta["accuracy"],
    )


def load_features(path: Path) -> Features:
    """Features of the train split; `vectors` and `logits` stay on disk."""
    open_artifact(path, "features")
    keys = pq.read_table(path / "keys.parquet")
    rank = keys["rank"].to_numpy().astype(np.int64) if "rank" in keys.column_names else None
    label_rate = np.asarray(open_blocks(path / "label_rate.zarr")[:])
    return Features(
        vectors=open_blocks(path / "vectors.zarr"),
        logits=open_blocks(path / "logits.zarr"),
        label_rate=label_rate if rank is None else np.where(rank >= 0, label_rate, np.inf),
        ids=keys["id"].to_numpy().astype(np.int64),
        labels=keys["label"].to_numpy().astype(np.int64),
        rank=rank,
    )


def write_columns(path: Path, columns: Mapping[str, npt.NDArray[Any]]) -> None:
    """A small Parquet file of plain columns."""
    pq.write_table(pa.table(dict(columns)), path)


def save_selection(folder: Path, selection: Selection) -> dict[str, Any]:
    """Write `picks.parquet` (pick order) and return the metadata to publish it with."""
    write_columns(folder / "picks.parquet", {"id": selection.ids, "label": selection.labels, "gain": selection.gains})
    return {"method": selection.method}


def load_selection(path: Path) -> Selection:
    """Ids in pick order."""
    artifact = open_artifact(path, "selection")
    table = pq.read_table(path / "picks.parquet")
    return Selection(
        ids=table["id"].to_numpy().astype(np.int64),
        labels=table["label"].to_numpy().astype(np.int64),
        gains=table["gain"].to_numpy().astype(np.float64),
        method=artifact.meta["method"],
    )


def load_soft_labels(path: Path) -> SoftLabels:
    """Uncompressed labels; logits stay on disk. Raises `DataError` when the workspace stores none."""
    meta = open_artifact(path, "softlabels").meta
    return SoftLabels(
        logits=open_blocks(path / "labels.zarr"),
        policy=ViewPolicy(**meta["policy"]),
        ids=np.asarray(meta["ids"], dtype=np.int64),
        classes=tuple(meta["classes"]),
        teachers=tuple(meta["teachers"]),
    )


def describe_views(law: ViewLaw) -> dict[str, Any]:
    """JSON values of a policy but `_UNSAID`; of kept views only mix and size, as their numbers are arrays."""
    values = {"mix": law.mix, "size": law.size} if isinstance(law, KeptViews) else asdict(law)
    return {name: value for name, value in values.items() if (name, value) not in _UNSAID}


def pack_metadata(codec: str, settings: dict[str, Any], shape: LabelShape, policy: ViewLaw) -> dict[str, str]:
    """What a pack's header says: enough, beside the images it labels, to decode and replay it."""
    content = {"codec": codec, "settings": settings, "shape": asdict(shape), "policy": describe_views(policy)}
    return {"dcpipe": json.dumps(content, separators=(",", ":"), sort_keys=True)}


def _view_arrays(law: ViewLaw) -> dict[str, npt.NDArray[Any]]:
    """Kept views as a pack's arrays, `view_...`; of a policy there is nothing to keep."""
    return {_VIEW + name: array for name, array in law.arrays.items()} if isinstance(law, KeptViews) else {}


def view_specs(law: ViewLaw) -> dict[str, tuple[tuple[int, ...], str]]:
    """Shapes and dtypes of the arrays that kept views add to a pack."""
    return {name: (array.shape, array.dtype.name) for name, array in _view_arrays(law).items()}


def save_pack(path: Path, pack: LabelPack) -> int:
    """Write one safetensors file and return its size in bytes; see `_view_arrays`."""
    arrays = {**pack.arrays, **_view_arrays(pack.policy)}
    return tensors.write(path, arrays, pack_metadata(pack.codec, pack.settings, pack.shape, pack.policy))


def load_pack(path: Path, ids: IntArray) -> LabelPack:
    """The pack of a compression artifact; `ids` are those of the images it labels."""
    open_artifact(path, "compression")
    return read_pack(path / "labels.safetensors", ids)


def read_pack(path: Path, ids: IntArray) -> LabelPack:
    """A pack from its file; raises `DataError` when it holds NaN or is not a pack."""
    arrays, metadata = tensors.read(path)
    require(
        "dcpipe" in metadata,
        f"{path} is not a label pack: its header lacks 'dcpipe'; give a dcpipe labels file",
    )
    content = json.loads(metadata["dcpipe"])
    for name, array in arrays.items():
        finite = array.dtype.kind != "f" or bool(np.isfinite(array).all())
        require(finite, f"{path}: array {name!r} holds NaN or infinity; compress the labels again")
    kept = {name.removeprefix(_VIEW): array for name, array in arrays.items() if name.startswith(_VIEW)}
    return LabelPack(
        codec=content["codec"],
        settings=content["settings"],
        arrays={name: array for name, array in arrays.items() if not name.startswith(_VIEW)},
        shape=LabelShape(**content["shape"]),
        policy=KeptViews(**content["policy"], arrays=kept) if kept else ViewPolicy(**content["policy"]),
        ids=ids,
        n_bytes=path.stat().st_size,
    )


def save_scores(folder: Path, scores: Sequence[Score]) -> dict[str, Any]:
    """Write `scores.json` and return the metadata to publish it with."""
    rows = [asdict(score) for score in scores]
    (folder / "scores.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    return {"rows": len(rows)}


def load_scores(path: Path) -> list[Score]:
    """The evaluation's rows."""
    open_artifact(path, "scores")
    rows = json.loads((path / "scores.json").read_text(encoding="utf-8"))
    return [Score(**{**row, "accuracy": tuple(row["accuracy"])}) for row in rows]
