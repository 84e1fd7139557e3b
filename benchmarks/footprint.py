"""Claim: stages take little more memory than importing what they need, read little more than they must, and leave
everything on disk once.

    python benchmarks/footprint.py --images 200000

A temporary workspace has so many JPEG files of 32 pixels in 100 folders, a tenth of them for test. Stages run as
`dvc repro` runs them, one after another. Printed for each stage:

* `peak`: the most memory of its own that it had (looked at every 10 ms; files that are mapped into memory are not its
  own, because the system may drop them), and how much more that is than that of a process that has only imported the
  stage and checked params.yaml;
* `read`: bytes that it asked the system for, less those of that process, and the ratio to the bytes that it must read,
  each once: the source for images; the images for features; vectors, R_C and keys for selection; the row groups of
  picked images, and the ids and labels of all, for synthesis; and its own output, of which it computes the digests.
  Digests of inputs are not among them, because the stage before has them.

`disk` compares the bytes in use below data/ and DVC's cache with those of the artifacts. At most 300 MB, 1.3 and 1.1.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import yaml
from PIL import Image

from dcpipe import store

ROOT = Path(__file__).resolve().parents[1]
CLASSES = 100
MEMORY, READ, DISK = 300e6, 1.3, 1.1
PARAMS: dict[str, Any] = {
    "images": {"source": "imagefolder", "size": 32, "minival": 0.0},
    "teacher": {
        "networks": {"main": {"network": "convnet-d3-w16"}},
        "training": {"epochs": 1, "batch_size": 256},
    },
    "features": {"teacher": "main", "label_rate": {"views": 2}},
    "selection": {"method": "score", "ipc": 10},
    "synthesis": {"method": "none"},
    "softlabels": {"teachers": ["main"], "views": 10},
    "compression": {"codec": "svd", "ratio": 4},
    "evaluation": {"student": "convnet-d2-w4", "epochs": 1, "batch_size": 50, "baselines": []},
    "release": {"name": "footprint", "licence": "unstated"},
}
# Runs a stage, or only imports it and checks params.yaml, and writes what that took into a file.
MEASURED = """
import atexit, importlib, json, pathlib, runpy, sys, threading, time
out, runs, stage = sys.argv[1:]
peak = 0
def look():
    global peak
    status = pathlib.Path("/proc/self/status").read_text()
    peak = max(peak, 1024 * int(status.partition("RssAnon:")[2].split()[0]))
def watch():
    while True:
        look()
        time.sleep(0.01)
def report():
    look()
    read = int(pathlib.Path("/proc/self/io").read_text().split()[1])
    pathlib.Path(out).write_text(json.dumps({"read": read, "peak": peak}))
threading.Thread(target=watch, daemon=True).start()
atexit.register(report)
importlib.import_module(f"flows.{stage}")
from dcpipe.config import params
params.load()
if runs == "run":
    sys.argv = [f"flows.{stage}"]
    runpy.run_module(f"flows.{stage}", run_name="__main__", alter_sys=True)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=200_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="footprint-") as folder:
        workspace, source = Path(folder) / "workspace", Path(folder) / "source"
        subprocess.run(["git", "clone", "-q", str(ROOT), str(workspace)], check=True)
        source_bytes = write(source, arguments.images)
        content = {**PARAMS, "images": {**PARAMS["images"], "options": {"path": str(source)}}}
        (workspace / "params.yaml").write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
        os.chdir(workspace)
        print(f"{arguments.images:,} files, {source_bytes / 1e6:.0f} MB")
        run(sys.executable, "-m", "dcpipe.cli.links")
        run(sys.executable, "-m", "flows.sources")
        measure("images", source_bytes)
        run(sys.executable, "-m", "flows.teacher", "main")
        for stage in ("features", "selection", "synthesis"):
            measure(stage, needed(stage))
        disk()


def write(source: Path, n: int) -> int:
    """Write the source; the bytes of its files."""
    generator, total = np.random.default_rng(0), 0
    bases = generator.integers(0, 256, (CLASSES, 4, 4, 3), dtype=np.uint8)
    for row in range(n):
        label, split = row % CLASSES, "val" if row // CLASSES % 10 == 0 else "train"
        folder = source / split / f"class-{label:03d}"
        if row < 20 * CLASSES:
            folder.mkdir(parents=True, exist_ok=True)
        coarse = bases[label] // 2 + generator.integers(0, 128, (4, 4, 3), dtype=np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(coarse).resize((32, 32), Image.Resampling.BICUBIC).save(buffer, format="JPEG", quality=90)
        (folder / f"{row:06d}.jpg").write_bytes(buffer.getvalue())
        total += len(buffer.getvalue())
    return total


def needed(stage: str) -> int:
    """The bytes that a stage must read."""
    images, features = Path("data/images"), Path("data/features")
    if stage == "features":
        return store.folder_bytes(images / "train")
    if stage == "selection":
        return sum(store.folder_bytes(features / name) for name in ("vectors.zarr", "label_rate.zarr")) + (
            (features / "keys.parquet").stat().st_size
        )
    picked = set(store.load_selection(Path("data/selection")).ids.tolist())
    return sum(needed_of(part, picked) for part in sorted(images.glob("*/*.parquet")))


def needed_of(part: Path, picked: set[int]) -> int:
    """The bytes of a part that a picker must read: its footer, all ids and labels, and the groups of picked images."""
    file = pq.ParquetFile(part)
    total = int.from_bytes(part.read_bytes()[-8:-4], "little")
    for place in range(file.num_row_groups):
        group = file.metadata.row_group(place)
        columns = [group.column(column) for column in range(group.num_columns)]
        wanted = not picked.isdisjoint(file.read_row_group(place, columns=["id"])["id"].to_pylist())
        total += sum(c.total_compressed_size for c in columns if wanted or not c.path_in_schema.startswith("image"))
    return total


def measure(stage: str, least: int) -> None:
    """Run a stage and print what it took."""
    found = {}
    for runs in ("import", "run"):
        out = Path("measured.json")
        run(sys.executable, "-c", MEASURED, str(out), runs, stage)
        found[runs] = json.loads(out.read_text())
    least += store.folder_bytes(Path("data") / stage)
    more, read = (found["run"][key] - found["import"][key] for key in ("peak", "read"))
    print(
        f"  {stage}: peak {found['run']['peak'] / 1e6:,.0f} MB, {more / 1e6:+,.0f} MB{mark(more <= MEMORY)}; "
        f"read {read / 1e6:,.0f} MB, {read / least:.2f} times {least / 1e6:,.1f} MB{mark(read <= READ * least)}",
        flush=True,
    )


def disk() -> None:
    """Commit everything to DVC's cache and print how much of the disk is in use."""
    names = ("images", "teacher@main", "features", "selection", "synthesis")
    run("dvc", "commit", "-f", *names)
    seen = {
        (status.st_dev, status.st_ino): status.st_size
        for root in ("data", ".dvc/cache")
        for path in Path(root).rglob("*")
        if path.is_file()
        for status in [path.stat()]
    }
    artifacts = sum(store.folder_bytes(path.parent) for path in Path("data").rglob(store.artifact.MANIFEST))
    used = sum(seen.values())
    print(f"  disk: {used / 1e6:,.0f} MB, {used / artifacts:.2f} times the artifacts{mark(used <= DISK * artifacts)}")


def mark(kept: bool) -> str:
    """Nothing, or that a limit was passed."""
    return "" if kept else " (OVER)"


def run(*command: str) -> None:
    """Run a command without Prefect and with one thread."""
    environment = {**os.environ, "DCPIPE_PREFECT": "off", "OMP_NUM_THREADS": "1", "DCPIPE_DEVICE": "cpu"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)[:200]} failed:\n{done.stdout}{done.stderr}")


if __name__ == "__main__":
    main()
