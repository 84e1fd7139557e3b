"""What `dcpipe status`, `inspect` and `study` show: tables of scores, and of sizes measured on disk, made without
loading arrays."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import zarr
from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.filesize import decimal
from rich.markup import escape
from rich.table import Table

from dcpipe import store
from dcpipe.store.labels import LABELS
from dcpipe.store.tensors import read_header
from dcpipe.types import DataError, Score, reference_bytes, require

PLACES = {
    "images": "data/images",
    "teacher": "data/teacher",
    "features": "data/features",
    "selection": "data/selection",
    "synthesis": "data/synthesis",
    "softlabels": "data/softlabels",
    "compression": "data/compression",
    "evaluation": "data/evaluation/scores",
    "release": "data/release",
}


def human(size: int) -> str:
    """12345 -> `12.3 kB`; powers of 1000. Rich writes out `0 bytes`, which is too wide for a column of sizes."""
    return f"{size} B" if size < 1000 else decimal(size)


def status(root: Path) -> RenderableType:
    """The workspace: each stage's artifacts with their size, then the score table if there is one."""
    stages = Table("stage", "made", "size", "digest", title="stages")
    for stage, place in PLACES.items():
        made = _made(root / place)
        if not made:
            stages.add_row(stage, "no", "", "")
        for folder in made:
            label = stage if folder == root / place else f"{stage}/{folder.name}"
            digest = str(_manifest(folder)["digest"])[:12]
            stages.add_row(label, "yes", human(store.folder_bytes(folder)), digest)
    if not _made(root / PLACES["evaluation"]):
        return Group(stages, "No scores yet: `dvc repro` makes what is missing and skips what is not.")
    labels = _packed_labels(root / PLACES["compression"] / LABELS)
    made = _made(root / PLACES["synthesis"])
    grid = int(_manifest(made[0])["meta"]["grid"]) if made else 1
    return Group(stages, score_table(store.load_scores(root / PLACES["evaluation"]), labels, grid))


def score_table(scores: Sequence[Score], labels: dict[str, Any] | None, grid: int = 1) -> Table:
    """One row a score. What all rows share stands once, above them; what differs gets a column.

    `labels` is the shape of the label pack (images, views, classes), for the fp16 reference; `grid`: of the images.
    """
    facts = [
        {
            "protocol": s.protocol,
            "student": s.student,
            "epochs": str(s.epochs),
            "ipc": str(s.ipc),
            "seeds": str(len(s.accuracy)),
            "labels in fp16": human(reference_bytes(labels, s.ipc, grid)),
        }
        for s in scores
    ]
    shared = {name for name in facts[0] if len({row[name] for row in facts}) == 1}
    told = [f"{name} {facts[0][name]}" for name in facts[0] if name in shared]
    lines = [", ".join(told[start : start + 4]) for start in range(0, len(told), 4)]
    own = [name for name in facts[0] if name not in shared]
    table = Table(
        title="\n".join([f"top-1 on test in percent, {_tested(row['protocol'] for row in facts)}", *lines]),
        box=SIMPLE_HEAD,
        pad_edge=False,
    )
    table.add_column("set")
    for name in (*own, "accuracy", "images", "labels", "teacher", "total"):
        table.add_column(name, justify="right", no_wrap=True)
    for s, row in zip(scores, facts, strict=True):
        sizes = (s.image_bytes, s.label_bytes, s.teacher_bytes, s.total_bytes)
        mean = f"{s.mean:.1f} ± {s.std:.1f}"
        table.add_row(s.name, *(row[name] for name in own), mean, *(human(size) for size in sizes))
    return table


def study_table(path: Path) -> Table:
    """A study's summary.csv, one row an entry and ipc; `seconds` are those of selecting."""
    with path.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    table = Table(title=f"top-1 in percent, mean ± std over {rows[0]['seeds']} seeds", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("selector", no_wrap=True)
    for name in ("ipc", "accuracy", "images", "labels", "in fp16", "seconds"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        sizes = [human(int(row[key])) for key in ("image_bytes", "label_bytes", "fp16_label_bytes")]
        accuracy = f"{float(row['accuracy']):.1f} ± {float(row['std']):.1f}"
        table.add_row(row["selector"], row["ipc"], accuracy, *sizes, f"{float(row['seconds']):.2f}")
    return table


def label_study_table(path: Path) -> Table:
    """The summary.csv of the study of codecs: a row a codec and ratio, bytes of the file beside fp16's and fp32's."""
    with path.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    divergences = [key for key in rows[0] if key.startswith("kl_t")]
    sizes = f"in fp16 {human(int(rows[0]['fp16_bytes']))}, in fp32 {human(int(rows[0]['fp32_bytes']))}"
    table = Table(title=f"labels, {sizes}; top-1 in percent, mean ± std over seeds", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("codec", no_wrap=True)
    told = [f"KL T={key[4:]}" for key in divergences]
    for name in ("ratio", "bytes", "bits per class", *told, "agreement", "accuracy"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        if row["note"]:
            table.add_row(row["codec"], row["ratio"], "not reached")
            continue
        errors = [f"{float(row[key]):.3f}" if row[key] else "" for key in (*divergences, "agreement")]
        accuracy = f"{float(row['accuracy']):.1f} ± {float(row['std']):.1f}" if row["accuracy"] else ""
        bits = f"{float(row['bits_per_class']):,.0f}"
        table.add_row(row["codec"], row["ratio"], f"{int(row['bytes']):,}", bits, *errors, accuracy)
    return table


def resilience_table(path: Path) -> Table:
    """The summary.csv of the study of resilience: a row a selector and ratio, drops in points from uncompressed."""
    with path.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    fp16 = human(int(rows[0]["fp16_label_bytes"]))
    title = f"ipc {rows[0]['ipc']}, labels in fp16 {fp16}\ntop-1 in percent, mean ± std over {rows[0]['seeds']} seeds"
    table = Table(title=title, box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("selector", no_wrap=True)
    for name in ("R_C", "ratio", "labels", "accuracy", "drop"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        place = (row["selector"], f"{float(row['label_rate']):.2f}", row["ratio"] or "uncompressed")
        if row["note"]:
            table.add_row(*place, "not reached")
            continue
        accuracy = f"{float(row['accuracy']):.1f} ± {float(row['std']):.1f}"
        drop = f"{float(row['drop']):.1f} ± {float(row['drop_std']):.1f}" if row["ratio"] else ""
        table.add_row(*place, human(int(row["label_bytes"])), accuracy, drop)
    return table


def variants_table(path: Path) -> Table:
    """The summary.csv of a study of variants: a row a variant and ipc; `seconds` are those of selection and synthesis,
    `gain` is over the rung before."""
    with path.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    title = f"top-1 in percent, {_tested(row['protocol'] for row in rows)}, mean ± std over {rows[0]['seeds']} seeds"
    protocols = {row["protocol"] for row in rows}
    told = f"{title}\n{protocols.pop()}" if len(protocols) == 1 else f"{title}\nprotocols differ: see summary.csv"
    table = Table(title=told, box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("variant", no_wrap=True)
    gains = ["gain"] if "gain" in rows[0] else []
    for name in ("ipc", "accuracy", *gains, "images", "labels", "in fp16", "teachers", "seconds"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        keys = ("image_bytes", "label_bytes", "fp16_label_bytes", "teacher_bytes")
        accuracy = f"{float(row['accuracy']):.1f} ± {float(row['std']):.1f}"
        gain = [f"{float(row['gain']):+.1f}" if row["gain"] else ""] if gains else []
        sizes = [human(int(row[key])) for key in keys]
        table.add_row(row["variant"], row["ipc"], accuracy, *gain, *sizes, f"{float(row['seconds']):.1f}")
    return table


def sizes_table(path: Path) -> Table:
    """The summary.csv of the study of sizes: a row an entry, mean accuracy in a column a size (MDC, Table 1, turned).
    `degradation`: what it lacks, on average over sizes, of runs made for each size; `seconds` are those of all the runs
    that an entry takes."""
    with path.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    tested = _tested(row["protocol"] for row in rows)
    title = f"top-1 in percent, {tested}, by images a class: mean over {rows[0]['seeds']} seeds"
    protocols = {row["protocol"] for row in rows}
    told = protocols.pop() if len(protocols) == 1 else "protocols differ: see summary.csv"
    table = Table(title=f"{title}\n{told}", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("entry", no_wrap=True)
    for name in (*dict.fromkeys(row["size"] for row in rows), "degradation", "seconds"):
        table.add_column(name, justify="right", no_wrap=True)
    for entry in dict.fromkeys(row["entry"] for row in rows):
        own = [row for row in rows if row["entry"] == entry]
        means, last = [f"{float(row['accuracy']):.1f}" for row in own], own[-1]
        average, lacking = f"{means[-1]} ± {float(last['std']):.1f}", last["degradation"]
        table.add_row(
            entry,
            *means[:-1],
            average,
            f"{float(lacking):.1f}" if lacking else "",
            f"{float(last['seconds']):.1f}",
        )
    return table


def _tested(protocols: Iterable[str]) -> str:
    """When students were tested."""
    return "last epoch, or the best of tests where told" if any("best of" in p for p in protocols) else "last epoch"


def inspect(path: Path) -> RenderableType:
    """Every file of an artifact's folder (or one file), and in each every array with dtype, shape and bytes."""
    require(path.exists(), f"{path} is neither a folder, a file nor a tag NAME@vX.Y.Z; give one of them")
    table = Table("array", "dtype", "shape", title=str(path))
    table.add_column("bytes", justify="right")
    notes: list[RenderableType] = []
    root = path if path.is_dir() else path.parent
    total = 0
    for file in _files(path):
        name = file.relative_to(root).as_posix()
        size = store.folder_bytes(file) if file.is_dir() else file.stat().st_size
        total += size
        table.add_row(f"[bold]{name}[/bold]", "", "", f"{size:,}")
        rows: list[tuple[str, str, list[int], int]] = []
        if file.suffix == ".safetensors":
            header = read_header(file)
            rows = [("header", "", [], header.n_bytes)]
            rows += [(key, entry.dtype, list(entry.shape), entry.n_bytes) for key, entry in header.arrays.items()]
            notes += [escape(f"{name}: {key} = {value}") for key, value in header.metadata.items()]
        elif file.suffix == ".parquet":
            rows = [("rows", "", [pq.read_metadata(file).num_rows], size)]
        elif file.suffix == ".zarr":
            array = zarr.open_array(file, mode="r")
            rows = [("array", str(array.dtype), list(array.shape), size)]
        for label, dtype, shape, n_bytes in rows:
            table.add_row(f"  {escape(label)}", dtype, str(shape), f"{n_bytes:,}")
    table.add_row("total", "", "", f"{total:,}")
    return Group(table, *notes)


def _files(path: Path) -> list[Path]:
    """Files below a folder, a Zarr array counting as one; or the path itself."""
    if path.is_file() or path.suffix == ".zarr":
        return [path]
    arrays = sorted(path.rglob("*.zarr"))
    inside = [p for p in path.rglob("*") if p.is_file() and not any(array in p.parents for array in arrays)]
    return sorted([*arrays, *inside])


def _made(folder: Path) -> list[Path]:
    """Artifacts at a stage's place: the folder itself, or one a key below it."""
    if (folder / "artifact.json").is_file():
        return [folder]
    return sorted(path.parent for path in folder.glob("*/artifact.json"))


def _manifest(folder: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads((folder / "artifact.json").read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{folder / 'artifact.json'} is damaged; remove {folder} and run `dvc repro`") from error
    return content


def _packed_labels(path: Path) -> dict[str, Any] | None:
    """Shape of a label pack from its header; None where there is no pack."""
    if not path.is_file():
        return None
    shape: dict[str, Any] = json.loads(read_header(path).metadata["dcpipe"])["shape"]
    return shape
