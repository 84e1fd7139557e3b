"""Small sets in the layouts in which people have their images, some of them awkward: each is a function of a folder."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from tar_shards import write_shard

Layout = Callable[[Path], None]
N = 8  # images of a class in a split


def picture(number: int, sides: tuple[int, int] = (6, 6), kind: str = "PNG", mode: str = "RGB") -> bytes:
    """A file of random pixels, which differ from number to number."""
    pixels = np.random.default_rng(number).integers(0, 256, (sides[1], sides[0], 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(buffer, kind)
    return buffer.getvalue()


def put(root: Path, name: str, content: bytes | str) -> None:
    """Write a file below `root`."""
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


def folders(*splits: str, classes: Iterable[str] = ("ant", "bee"), n: int = N) -> Layout:
    """Class folders below each of these folders."""

    def make(root: Path) -> None:
        for s, split in enumerate(splits):
            for c, name in enumerate(classes):
                for i in range(n):
                    put(root, f"{split}/{name}/{i}.png".removeprefix("/"), picture(10_000 * s + 100 * c + i))

    return make


def both(*layouts: Layout) -> Layout:
    """Several layouts in one folder."""

    def make(root: Path) -> None:
        for layout in layouts:
            layout(root)

    return make


def also(**files: bytes | str) -> Layout:
    """More files, whose names have : for / and ; for a dot."""

    def make(root: Path) -> None:
        for name, content in files.items():
            put(root, name.replace("__of__", "/").replace("__dot__", "."), content)

    return make


def files(content: dict[str, bytes | str]) -> Layout:
    """These files."""

    def make(root: Path) -> None:
        for name, data in content.items():
            put(root, name, data)

    return make


def parquet(
    *names: str,
    label: str = "label",
    image: str = "image",
    names_of: Iterable[str] | None = ("ant", "bee"),
    kind: Any = None,
    texts: bool = False,
    features: dict[str, Any] | None = None,
    more: bool = False,
) -> Layout:
    """Parquet files of two classes. `kind`: of the labels; `texts`: labels are names; `more`: a second ClassLabel."""
    struct = pa.struct([("bytes", pa.binary()), ("path", pa.string())])

    def make(root: Path) -> None:
        for s, name in enumerate(names):
            numbers = [i % 2 for i in range(2 * N)]
            pictures = [{"bytes": picture(10_000 * s + i), "path": None} for i in range(2 * N)]
            values = [("ant", "bee")[number] for number in numbers] if texts else numbers
            columns = {image: pa.array(pictures, struct), label: pa.array(values, kind)}
            known: dict[str, Any] = {image: {"_type": "Image"}}
            if names_of is not None:
                known[label] = {"_type": "ClassLabel", "names": list(names_of)}
            if more:
                columns["coarse_label"] = pa.array([0] * (2 * N))
                known["coarse_label"] = {"_type": "ClassLabel", "names": ["insect"]}
            metadata = {"huggingface": json.dumps({"info": {"features": features or known}})}
            table = pa.table(columns)
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(table.replace_schema_metadata(metadata), path)

    return make


def tars(*names: str, texts: bool = False) -> Layout:
    """Tar shards of two classes, whose labels are numbers or names."""

    def make(root: Path) -> None:
        for s, name in enumerate(names):
            members: list[tuple[str, bytes]] = []
            for i in range(2 * N):
                label = ("txt", b"ant" if i % 2 else b"bee") if texts else ("cls", b"%d" % (i % 2))
                members += [(f"{i:03d}.png", picture(10_000 * s + i)), (f"{i:03d}.{label[0]}", label[1])]
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            write_shard(root / name, members)

    return make


def listed(
    folder: str, header: str = "file,label", suffix: str = ".png", split: bool = False, name: str = "labels.csv"
):
    """A flat folder of images, and a list of their classes."""

    def make(root: Path) -> None:
        lines = [header] if header else []
        for i in range(2 * N):
            put(root, f"{folder}/{i}.png".removeprefix("/"), picture(i))
            part = f",{'test' if i >= 2 * N - 4 else 'train'}" if split else ""
            lines.append(f"{i}{suffix},{('ant', 'bee')[i % 2]}{part}")
        put(root, name, "\n".join(lines) + "\n")

    return make


def tiny_imagenet(root: Path) -> None:
    """As it is shipped: classes of val are in a list, test has none."""
    for c, name in enumerate(("n01", "n02")):
        for i in range(N):
            put(root, f"train/{name}/images/{name}_{i}.JPEG", picture(100 * c + i, kind="JPEG"))
        put(root, f"train/{name}/{name}_boxes.txt", "x\n")
    lines = []
    for i in range(N):
        put(root, f"val/images/val_{i}.JPEG", picture(1000 + i, kind="JPEG"))
        put(root, f"test/images/test_{i}.JPEG", picture(2000 + i, kind="JPEG"))
        lines.append(f"val_{i}.JPEG\t{('n01', 'n02')[i % 2]}\t0\t0\t9\t9")
    put(root, "val/val_annotations.txt", "\n".join(lines))
    put(root, "wnids.txt", "n01\nn02\n")


KINDS = [("png", "PNG", "RGBA"), ("jpg", "JPEG", "RGB"), ("webp", "WEBP", "RGB"), ("tif", "TIFF", "CMYK")]
KINDS += [("gif", "GIF", "P"), ("bmp", "BMP", "L"), ("tiff", "TIFF", "I;16"), ("png", "PNG", "1")]


def many_kinds(root: Path) -> None:
    """Every kind of file in one folder."""
    folders("")(root)
    for number, (suffix, kind, mode) in enumerate(KINDS):
        put(root, f"ant/kind {number}.{suffix}", picture(500 + number, kind=kind, mode="L" if mode == "I;16" else mode))


JUNK: dict[str, bytes | str] = {
    ".DS_Store": b"x",
    "Thumbs.db": b"x",
    "__MACOSX/._ant": b"x",
    "ant/._0.png": b"x",
    "ant/.ipynb_checkpoints/0-checkpoint.png": b"x",
    "README.md": "hello",
}
SHAPES = {f"ant/s{i}.png": picture(900 + i, s) for i, s in enumerate([(1, 1), (3, 200), (400, 300), (600, 40)])}
