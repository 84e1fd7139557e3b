"""Workbenches: where a stage's output grows until it is whole.

DVC deletes a stage's outputs before it runs, so unfinished work lives elsewhere: in
`DCPIPE_SCRATCH/<out>-<fingerprint>` (default `.dcpipe/scratch` of the workspace). The fingerprint covers
parameters, inputs and code. A killed run finds its bench again; a changed one starts anew; a change back goes on.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dcpipe.store.artifact import SCHEMA, Artifact, digest_of, folder_bytes, publish
from dcpipe.types import DataError, require

_BENCH = re.compile(r"-[0-9a-f]{16}(\.notes)?")


@dataclass(frozen=True)
class StagingDir:
    """A scratch folder bound to the output it will become. `root` becomes the artifact; `notes` does not
    (checkpoints, partial results)."""

    root: Path
    notes: Path
    out: Path
    lineage: dict[str, Any]

    def keep(self, name: str, **arrays: npt.NDArray[Any]) -> None:
        """Note arrays under a name, all or nothing; a killed run finds them with `kept`."""
        path = self.notes / f"{name}.npz"
        beside = path.with_suffix(".partial")
        with beside.open("wb") as stream:
            np.savez(stream, **arrays)  # type: ignore[arg-type]  # NumPy types the keywords as its own options
        beside.replace(path)

    def kept(self, name: str) -> dict[str, npt.NDArray[Any]] | None:
        """What `keep` noted, or None."""
        path = self.notes / f"{name}.npz"
        if not path.exists():
            return None
        with np.load(path, allow_pickle=False) as state:
            return dict(state)

    def publish(self, kind: str, meta: dict[str, Any]) -> Artifact:
        """Turn the bench into the artifact at `out`; see `store.publish`."""
        artifact = publish(self.root, self.out, kind, meta, self.lineage)
        shutil.rmtree(self.notes, ignore_errors=True)
        return artifact


def scratch_root() -> Path:
    """`DCPIPE_SCRATCH` (an absolute path), or `.dcpipe/scratch` of the current folder."""
    configured = os.environ.get("DCPIPE_SCRATCH")
    if configured is None:
        return Path.cwd() / ".dcpipe" / "scratch"
    root = Path(configured)
    require(root.is_absolute(), f"DCPIPE_SCRATCH={configured!r} is relative; give an absolute path")
    return root


@contextmanager
def staging_dir(out: Path, lineage: dict[str, Any]) -> Iterator[StagingDir]:
    """Hold the bench of `out` for one run; `lineage` is what its content is a function of.

    Raises `DataError` when another process holds it.
    """
    root = scratch_root()
    root.mkdir(parents=True, exist_ok=True)
    name = "-".join(Path(os.path.relpath(out)).parts).replace("..", "up")
    with (root / f"{name}.lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.seek(0)
            owner = lock.read().strip() or "unknown"
            raise DataError(
                f"another run is writing {out} (process {owner}); wait for it to end, or stop it, then run again"
            ) from error
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        fingerprint = digest_of({"schema": SCHEMA, "lineage": lineage})[:16]
        staging = StagingDir(root / f"{name}-{fingerprint}", root / f"{name}-{fingerprint}.notes", out, lineage)
        staging.root.mkdir(exist_ok=True)
        staging.notes.mkdir(exist_ok=True)
        for torn in staging.root.rglob("*.partial"):  # a kill in mid-write leaves them
            torn.unlink()
        yield staging


def need_space(n_bytes: int, what: str) -> None:
    """Refuse work whose output cannot fit on the scratch disk; raises `DataError` with both figures."""
    root = scratch_root()
    root.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(root).free
    require(
        n_bytes <= free,
        f"{what} needs {n_bytes / 1e9:.2f} GB but {root} has {free / 1e9:.2f} GB free; "
        "free some space or set DCPIPE_SCRATCH to a larger disk",
    )


def clean() -> tuple[int, list[str]]:
    """Delete every bench that no run holds; (bytes freed, outputs left alone as their runs go on).

    Only what a bench's name fits is touched: the scratch root may be a folder shared with others.
    """
    freed, held = 0, []
    root = scratch_root()
    for path in sorted(root.glob("*.lock")):
        benches = [p for p in root.glob(f"{path.stem}-*") if _BENCH.fullmatch(p.name.removeprefix(path.stem))]
        with path.open("a+") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                held.append(path.stem)
                continue
            for staging in benches:
                freed += folder_bytes(staging)
                shutil.rmtree(staging)
    return freed, held
