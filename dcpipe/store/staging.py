"""Staging folders, in which the output of a stage is built until it is complete.

DVC deletes the outputs of a stage before it runs, so unfinished work is stored elsewhere: in
`DCPIPE_SCRATCH/<out>-<fingerprint>` (by default `.dcpipe/scratch` of the workspace). The fingerprint covers parameters,
inputs and code. So an interrupted run finds its folder again, a changed run starts from the beginning, and after
changing back, the earlier work is continued.

The run that writes `out` locks `<out>.lock`; the system releases the lock when the process ends in any way.
`<out>.owner` contains its process number, for the error message of a second run.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from rich.filesize import decimal

from dcpipe.store.artifact import SCHEMA, Artifact, digest_of, folder_bytes, publish
from dcpipe.store.files import PARTIAL, replacing
from dcpipe.types import DataError, require
from dcpipe.types.paths import local_path

INDEXES = "source-indexes"
_FINGERPRINT = re.compile(r"-[0-9a-f]{16}(\.notes)?")


@dataclass(frozen=True)
class StagingDir:
    """A scratch folder for the output `out`. `root` becomes the artifact; `notes`, a folder for `store.Notes` with
    checkpoints and partial results, does not."""

    root: Path
    notes: Path
    out: Path
    lineage: dict[str, Any]

    def publish(self, kind: str, meta: dict[str, Any], **told: Any) -> Artifact:
        """Turn the folder into the artifact at `out`; see `store.publish`. What is `told` besides is recorded with the
        lineage, so that it is no part of the content."""
        artifact = publish(self.root, self.out, kind, meta, {**self.lineage, **told})
        shutil.rmtree(self.notes, ignore_errors=True)
        return artifact


def scratch_root() -> Path:
    """`DCPIPE_SCRATCH` (an absolute path), or `.dcpipe/scratch` of the current folder."""
    configured = os.environ.get("DCPIPE_SCRATCH")
    if configured is None:
        return Path.cwd() / ".dcpipe" / "scratch"
    root = local_path(configured, "DCPIPE_SCRATCH")
    require(root.is_absolute(), f"DCPIPE_SCRATCH={configured!r} is relative; give an absolute path")
    return root


@contextmanager
def staging_dir(out: Path, lineage: dict[str, Any], state: dict[str, Any] | None = None) -> Iterator[StagingDir]:
    """A context manager that locks `out` and gives its staging folder; the content must be a function of `lineage`.

    Unfinished work is continued only if `state` has not changed either. It is not recorded in the artifact, because it
    differs between machines, for example the modification times of files.

    Raises `DataError` if another process has locked `out`.
    """
    root = scratch_root()
    root.mkdir(parents=True, exist_ok=True)
    name = "-".join(Path(os.path.relpath(out)).parts).replace("..", "up")
    owner = root / f"{name}.owner"
    lock = FileLock(root / f"{name}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        process = owner.read_text(encoding="utf-8") if owner.exists() else "unknown"
        raise DataError(
            f"another run is writing {out} (process {process}); wait until it ends, or stop it, then run again"
        ) from error
    try:
        with replacing(owner) as partial:
            partial.write_text(str(os.getpid()), encoding="utf-8")
        source = {"schema": SCHEMA, "lineage": lineage} | ({"state": state} if state else {})
        fingerprint = digest_of(source)[:16]
        staging = StagingDir(root / f"{name}-{fingerprint}", root / f"{name}-{fingerprint}.notes", out, lineage)
        for folder in (staging.root, staging.notes):
            folder.mkdir(exist_ok=True)
            for leftover in folder.rglob(f"*{PARTIAL}"):  # a kill while writing leaves such files
                leftover.unlink()
        yield staging
    finally:
        lock.release()


def index_folder() -> Path:
    """A folder for what is found in a source by reading all of it. Every process of a run looks there first."""
    folder = scratch_root() / INDEXES
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def need_space(
    n_bytes: int,
    what: str,
    folder: Path | None = None,
    remedy: str = "free some space or set DCPIPE_SCRATCH to a larger disk",
) -> None:
    """Raises `DataError`, with both sizes, if an output cannot fit on the disk of `folder`, by default that of
    scratch."""
    root = folder or scratch_root()
    root.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(root).free
    require(n_bytes <= free, f"{what} needs {decimal(n_bytes)} but {root} has {decimal(free)} free; {remedy}")


def clean() -> tuple[int, list[str]]:
    """Delete every staging folder that no run has locked, and the indexes of sources. Returns the bytes freed and the
    outputs that are locked.

    Only folders of outputs that were staged here are deleted, because other programs may use the scratch root too.
    """
    root, locked = scratch_root(), []
    freed = folder_bytes(root / INDEXES)
    shutil.rmtree(root / INDEXES, ignore_errors=True)
    # Both kinds of files, because some systems remove the lock file when the lock is released.
    for name in sorted({path.stem for kind in ("lock", "owner") for path in root.glob(f"*.{kind}")}):
        folders = [p for p in root.glob(f"{name}-*") if _FINGERPRINT.fullmatch(p.name.removeprefix(name))]
        try:
            with FileLock(root / f"{name}.lock", timeout=0):
                for folder in folders:
                    freed += folder_bytes(folder)
                    shutil.rmtree(folder)
        except Timeout:
            locked.append(name)
    return freed, locked
