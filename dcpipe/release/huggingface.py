"""The format of Hugging Face: a folder that `datasets.load_dataset(folder)` reads, or that can be pushed to the Hub.

* `data/train-00000-of-00001.parquet`: `id`, `image` (lossless PNG) and `label` with class names, in the order of the
  release. Soft labels are lists of a fixed length per row: `logits` fp16 [K c], view after view, with the `box` f32
  [K 4] (left, top, width, height as fractions) and the `flip` u8 [K] of the views.
* `README.md`: the dataset card, whose front matter names that file.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from dcpipe.dataset.targets import rows_of
from dcpipe.release.card import front_matter
from dcpipe.release.decoded import Decoded, parameters
from dcpipe.release.reading import Release
from dcpipe.store.images import image_rows, image_table
from dcpipe.types import LabelPack

FILE = "data/train-00000-of-00001.parquet"
_GROUP_BYTES = 64 * 2**20


def write_parquet(release: Release, folder: Path, pack: LabelPack | None) -> None:
    """Write the Parquet file, one row group at a time, and the card."""
    table = image_table(image_rows(release.images), release.classes)
    features = json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]
    lengths = _lengths(pack)
    each = max(1, len(table) if pack is None else _GROUP_BYTES // (2 * lengths["logits"][1]))
    schema = table.schema
    for name, (dtype, length) in lengths.items():
        features[name] = {"feature": {"dtype": dtype.name, "_type": "Value"}, "length": length, "_type": "Sequence"}
        schema = schema.append(pa.field(name, pa.list_(pa.from_numpy_dtype(dtype), length)))
    schema = schema.with_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    (folder / "data").mkdir()
    with pq.ParquetWriter(folder / FILE, schema, compression="NONE", use_dictionary=False) as writer:
        for start in range(0, len(table), each):
            columns = {name: table[name][start : start + each] for name in table.column_names}
            columns |= {} if pack is None else _labels(release, pack, slice(start, start + each))
            writer.write_table(pa.table(columns, schema=schema))
    (folder / "README.md").write_text(_card(release, pack), encoding="utf-8")


def _lengths(pack: LabelPack | None) -> dict[str, tuple[np.dtype[np.generic], int]]:
    """Column -> (dtype of an entry, entries per row)."""
    if pack is None:
        return {}
    k, c = pack.shape.views, pack.shape.classes
    return {
        "logits": (np.dtype(np.float16), k * c),
        "box": (np.dtype(np.float32), 4 * k),
        "flip": (np.dtype(np.uint8), k),
    }


def _labels(release: Release, pack: LabelPack, rows: slice) -> dict[str, pa.Array]:
    chosen = rows_of(pack, release.images)[rows]
    box, flip = parameters(pack, chosen)
    arrays = {"logits": Decoded(pack, chosen)[:], "box": box, "flip": flip}
    return {
        name: pa.FixedSizeListArray.from_arrays(pa.array(arrays[name].reshape(-1)), length)
        for name, (_, length) in _lengths(pack).items()
    }


def _card(release: Release, pack: LabelPack | None) -> str:
    columns = "`image`, `label` and `id`"
    if pack is not None:
        columns += (
            f"; `logits` of {pack.shape.views} views of {pack.shape.classes} classes, view after view, with the `box` "
            "(left, top, width, height as fractions) and `flip` of each"
        )
    return (
        f"{front_matter(release.manifest, FILE)}\n\n# {release.name}\n\n{len(release.images)} images of "
        f"{len(release.classes)} classes, exported from a dcpipe release{_grids(release)}. Columns: {columns}.\n\n"
        "```python\nimport datasets\n\n"
        'dataset = datasets.load_dataset("this folder", split="train")\n```\n\n'
        f"Licence of the source images: {release.manifest['licence']}. How it was made:\n\n"
        f"```yaml\n{yaml.safe_dump(release.manifest['params'], sort_keys=False, allow_unicode=True)}```\n"
    )


def _grids(release: Release) -> str:
    f = release.manifest["grid"]
    return "" if f == 1 else f" whose images are grids of {f} x {f}: {f * f} rows here are one stored image"
