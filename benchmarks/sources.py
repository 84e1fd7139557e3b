"""Claim: encoded images that were not copied are read at random as fast from folders and tar shards as from a copy (at
most 1.2 times its processor time). One after another, they take a few times as long, which is little beside decoding.

Run `python benchmarks/sources.py [--images N] [--side S]`. It writes one set of JPEG files as folders, as Parquet files
(row groups of 100) and as tar shards, and reads the same rows of each through an index (`images.copy: false`), and of a
copy, in the same run, alternating. Processor time per image, best of five, and its ratio to that of the copy; hashing
every image for the index is part of it. Files are in the page cache.
"""

from __future__ import annotations

import argparse
import io
import json
import platform
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from dcpipe import images, store
from dcpipe.images.index import located, placed, read_encoded
from dcpipe.types import EncodedImage, ImageTable, IntArray

PART, SHARD, GROUP, CLASSES = 2048, 1000, 100, 10
GREY = (0.5, 0.5, 0.5)


def pictures(n: int, side: int) -> list[bytes]:
    """Noise at an eighth of the side, enlarged, which compresses like photographs do."""
    draw, made = np.random.default_rng(0), []
    for _ in range(n):
        coarse = Image.fromarray(draw.integers(0, 256, (max(4, side // 8),) * 2 + (3,), dtype=np.uint8))
        buffer = io.BytesIO()
        coarse.resize((side, side), Image.Resampling.BICUBIC).save(buffer, format="JPEG")
        made.append(buffer.getvalue())
    return made


def write_folders(root: Path, files: list[bytes], labels: list[int]) -> None:
    for row, (content, label) in enumerate(zip(files, labels, strict=True)):
        path = root / "train" / f"{label:03d}" / f"{row:07d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def write_parquet(root: Path, files: list[bytes], labels: list[int]) -> None:
    root.mkdir()
    names = [f"{label:03d}" for label in range(CLASSES)]
    info = {"info": {"features": {"label": {"names": names}}}}
    for start in range(0, len(files), SHARD):
        column = pa.array([{"bytes": content, "path": "x.jpg"} for content in files[start : start + SHARD]])
        table = pa.table({"image": column, "label": labels[start : start + SHARD]})
        table = table.replace_schema_metadata({"huggingface": json.dumps(info)})
        pq.write_table(table, root / f"train-{start // SHARD:05d}.parquet", row_group_size=GROUP)


def write_tars(root: Path, files: list[bytes], labels: list[int]) -> None:
    root.mkdir()
    for start in range(0, len(files), SHARD):
        with tarfile.open(root / f"train-{start // SHARD:06d}.tar", "w") as archive:
            for row in range(start, min(start + SHARD, len(files))):
                for suffix, content in (("jpg", files[row]), ("cls", str(labels[row]).encode())):
                    member = tarfile.TarInfo(f"{row:07d}.{suffix}")
                    member.size = len(content)
                    archive.addfile(member, io.BytesIO(content))


def table_of(root: Path, source: str, options: dict[str, str], copy: bool) -> ImageTable:
    """The images of a source as the stage `images` leaves them."""
    split = images.SOURCES[source](**options)["train"]
    n, parts = len(split.labels), []
    for start in range(0, n, PART):
        rows = np.arange(start, min(start + PART, n))
        encoded = [
            EncodedImage(int(row), data, name, int(split.labels[row]))
            for row, (data, name) in zip(rows, split.read(rows), strict=True)
        ]
        parts.append(root / f"{source}-{copy}-{start}.parquet")
        if copy:
            store.write_part(parts[-1], encoded, split.classes)
        else:
            store.write_index(parts[-1], placed(split, rows, encoded, source))
    elsewhere = None if copy else located(split, source).elsewhere
    ids = np.arange(n)
    return ImageTable(tuple(parts), PART, ids, split.labels, split.classes, 8, GREY, GREY, elsewhere=elsewhere)


def read(table: ImageTable, rows: IntArray) -> int:
    """Read the encoded bytes of rows, part by part; returns how many there were."""
    n_bytes = 0
    for part in np.unique(rows // PART):
        inside = rows[rows // PART == part] - part * PART
        n_bytes += sum(len(data) for data, _ in read_encoded(table, int(part), inside))
    return n_bytes


def seconds(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=6000)
    parser.add_argument("--side", type=int, default=128)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        files = pictures(options.images, options.side)
        labels = sorted(row % CLASSES for row in range(options.images))
        write_folders(root / "folders", files, labels)
        write_parquet(root / "parquet", files, labels)
        write_tars(root / "tars", files, labels)
        given = {
            "imagefolder": {"path": str(root / "folders"), "test": "train"},
            "parquet": {"path": str(root / "parquet"), "test": "train"},
            "webdataset": {"path": str(root / "tars"), "test": "train"},
        }
        tables = {"copy": table_of(root, "imagefolder", given["imagefolder"], True)}
        for source in given:
            tables[source] = table_of(root, source, given[source], False)
        size = sum(map(len, files)) / len(files)
        print(f"{platform.processor() or platform.machine()}, {options.images} images of {size:,.0f} bytes")
        some = np.sort(np.random.default_rng(0).choice(options.images, options.images // 20, replace=False))
        for title, rows in (("at random", some), ("one after another", np.arange(options.images))):
            assert len({read(table, rows) for table in tables.values()}) == 1
            best = dict.fromkeys(tables, float("inf"))
            for _ in range(5):
                for source, table in tables.items():
                    best[source] = min(best[source], seconds(lambda table=table, rows=rows: read(table, rows)))
            for source, taken in best.items():
                print(
                    f"{title:18} {source:12} {1e6 * taken / len(rows):8.1f} us an image   "
                    f"{taken / best['copy']:5.2f} x the time of a copy"
                )


if __name__ == "__main__":
    main()
