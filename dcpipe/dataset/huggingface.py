"""Tables in the convention of Hugging Face: what `CondensedDataset.to_hf` and exports to Parquet have in common.

Columns are `id`, `image` (lossless PNG) and `label` with class names. With soft labels, a row also has `logits` fp16
[K, c] and the `box` f32 [K, 4] (left, top, width, height as fractions) and `flip` u8 [K] of its K views. `datasets`
reads `logits` and `box` as `Array2D`, because their fields carry the name of its extension type; pyarrow alone reads
nested lists.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from dcpipe.dataset.decoded import Decoded, check_dense, parameters
from dcpipe.dataset.targets import Labels, PackLabels, PrefixLabels, rows_of
from dcpipe.store.images import image_rows, image_table
from dcpipe.types import DataError, ImageSet, LabelPack

_GROUP_BYTES = 64 * 2**20  # of labels in a table
_ARRAY2D = "datasets.features.features.Array2DExtensionType"


def schema_of(images: ImageSet, pack: LabelPack | None) -> pa.Schema:
    """The schema of `tables`, with the description of the features that `datasets` reads."""
    schema = image_table([], images.classes).schema
    features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
    if pack is not None:
        k, c = pack.shape.views, pack.shape.classes
        for name, dtype, width in (("logits", "float16", c), ("box", "float32", 4)):
            features[name] = {"shape": [k, width], "dtype": dtype, "_type": "Array2D"}
            named = {"ARROW:extension:name": _ARRAY2D, "ARROW:extension:metadata": json.dumps([[k, width], dtype])}
            column = pa.list_(pa.list_(pa.from_numpy_dtype(np.dtype(dtype))))
            schema = schema.append(pa.field(name, column, metadata=named))
        features["flip"] = {"feature": {"dtype": "uint8", "_type": "Value"}, "length": k, "_type": "Sequence"}
        schema = schema.append(pa.field("flip", pa.list_(pa.uint8(), k)))
    return schema.with_metadata({"huggingface": json.dumps({"info": {"features": features}})})


def tables(images: ImageSet, pack: LabelPack | None) -> Iterator[pa.Table]:
    """The rows of a set in order, a few at a time if they have labels, which may be larger than memory."""
    schema, table = schema_of(images, pack), image_table(image_rows(images), images.classes)
    row_bytes = 1 if pack is None else 2 * pack.shape.views * pack.shape.classes
    each = max(1, len(table) if pack is None else _GROUP_BYTES // row_bytes)
    for start in range(0, len(table), each):
        columns = {name: table[name][start : start + each] for name in table.column_names}
        columns |= {} if pack is None else _labels(images, pack, slice(start, start + each))
        yield pa.table(columns, schema=schema)


def _labels(images: ImageSet, pack: LabelPack, rows: slice) -> dict[str, pa.Array]:
    chosen = rows_of(pack, images)[rows]
    box, flip = parameters(pack, chosen)
    flips = pa.FixedSizeListArray.from_arrays(pa.array(flip.reshape(-1)), flip.shape[1])
    return {"logits": _nested(Decoded(pack, chosen)[:]), "box": _nested(box), "flip": flips}


def _nested(array: np.ndarray[Any, np.dtype[Any]]) -> pa.Array:
    """An array [n, K, w] as n lists of K lists of w numbers."""
    n, k, width = array.shape
    starts = np.arange(n * k + 1, dtype=np.int32)
    inner = pa.ListArray.from_arrays(pa.array(starts * width), pa.array(array.reshape(-1)))
    return pa.ListArray.from_arrays(pa.array(starts[::k]), inner)


def to_hf(images: ImageSet, labels: Labels | None) -> Any:
    """A `datasets.Dataset` in memory, with the soft labels of `labels` unless it is None.

    Raises `DataError` if `datasets` is not installed, or if the labels are none of a pack, or do not fill the array.
    """
    try:
        import datasets
        from datasets.table import table_cast
    except ImportError as error:
        raise DataError('to_hf needs the package datasets; run `pip install "dcpipe[datasets]"`') from error
    pack = None if labels is None else _pack(labels)
    if pack is not None:
        check_dense(pack, "the dataset")
    schema = schema_of(images, pack)
    features = datasets.Features.from_dict(json.loads(schema.metadata[b"huggingface"])["info"]["features"])
    whole = pa.concat_tables(tables(images, pack))
    return datasets.Dataset(table_cast(whole, features.arrow_schema))


def _pack(labels: Labels) -> LabelPack:
    if isinstance(labels, PrefixLabels):
        return labels.whole.pack
    if isinstance(labels, PackLabels):
        return labels.pack
    raise DataError("the dataset has no stored soft labels, but hard labels or a teacher; call to_hf() without labels")
