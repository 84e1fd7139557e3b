"""The format of Hugging Face: a folder that `datasets.load_dataset(folder)` reads, or that can be pushed to the Hub.

* `data/train-00000-of-00001.parquet`: the columns that `dataset.huggingface` describes, in the order of the release.
* `README.md`: the dataset card, whose front matter names that file.
* `croissant.json`: the same for machines, see `croissant.py`.
"""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import yaml

from dcpipe.dataset.huggingface import schema_of, tables
from dcpipe.release.card import front_matter
from dcpipe.release.croissant import CROISSANT, File, describe, written
from dcpipe.release.reading import Release
from dcpipe.types import LabelPack

FILE = "data/train-00000-of-00001.parquet"


def write_parquet(release: Release, folder: Path, pack: LabelPack | None) -> None:
    """Write the Parquet file, one row group at a time, and what describes it."""
    (folder / "data").mkdir()
    schema = schema_of(release.images, pack)
    with pq.ParquetWriter(folder / FILE, schema, compression="NONE", use_dictionary=False) as writer:
        for table in tables(release.images, pack):
            writer.write_table(table)
    (folder / "README.md").write_text(_card(release, pack), encoding="utf-8")
    content = describe(release.manifest, File.of(folder / FILE, FILE), pack)
    (folder / CROISSANT).write_text(written(content), encoding="utf-8")


def _card(release: Release, pack: LabelPack | None) -> str:
    columns = "`image`, `label` and `id`"
    if pack is not None:
        columns += (
            f"; `logits` [{pack.shape.views}, {pack.shape.classes}] of {pack.shape.views} views of "
            f"{pack.shape.classes} classes, with the `box` (left, top, width, height as fractions) and `flip` of each"
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
