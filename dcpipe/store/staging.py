"""Staging folders: where a stage's output grows until it is whole.

DVC deletes a stage's outputs before it runs, so unfinished work lives elsewhere: in
`DCPIPE_SCRATCH/<out>-<fingerprint>` (default `.dcpipe/scratch` of the workspace). The fingerprint covers
parameters, inputs and code. A killed run finds its folder again; a changed one starts anew; a change back goes on.

`<out>.lock` is locked by the run that writes `out`; the system frees it when that process ends, however it ends.
`<out>.owner` holds its process number, for the sentence that a second run is refused with.
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

from dcpipe.store.artifact import SCHEMA, Artifact, digest_of, folder_bytes, publish
from dcpipe.store.files import PARTIAL, replacing
from dcpipe.types import DataError, require

_FINGERPRINT = re.compile(r"-[0-9a-f]{16}(\.notes)?")


@dataclass(frozen=True)
class StagingDir:
    """A scratch folder bound to the output it will become. `root` becomes the artifact; the folder of `store.Notes` at
    `notes` does not (checkpoints, partial results)."""

    root: Path
    notes: Path
    out: Path
    lineage: dict[str, Any]

    def publish(self, kind: str, meta: dict[str, Any]) -> Artifact:
        """Turn the folder into the artifact at `out`; see `store.publish`."""
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
def staging_dir(out: Path, lineage: dict[str, Any], state: dict[str, Any] | None = None) -> Iterator[StagingDir]:
    """Lock `out` for one run and give its staging folder; `lineage` is what its content is a function of.

    `state` is what else must be as it was for unfinished work to be continued, but is not recorded in the artifact
    because it differs between machines, such as times of files.

    Raises `DataError` when another process has it locked.
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
            f"another run is writing {out} (process {process}); wait for it to end, or stop it, then run again"
        ) from error
    try:
        with replacing(owner) as partial:
            partial.write_text(str(os.getpid()), encoding="utf-8")
        source = {"schema": SCHEMA, "lineage": lineage} | ({"state": state} if state else {})
        fingerprint = digest_of(source)[:16]
        staging = StagingDir(root / f"{name}-{fingerprint}", root / f"{name}-{fingerprint}.notes", out, lineage)
        for folder in (staging.root, staging.notes):
            folder.mkdir(exist_ok=True)
            for torn in folder.rglob(f"*{PARTIAL}"):  # a kill in mid-write leaves them
                torn.unlink()
        yield staging
    finally:
        lock.release()


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
    """Delete every staging folder that no run has locked; (bytes freed, outputs left alone as their runs go on).

    Only folders named as those of an output that was staged here are touched: the scratch root may be shared with
    others.
    """
    freed, held = 0, []
    root = scratch_root()
    # Both, as some systems remove a lock's file when it is given up.
    for name in sorted({path.stem for kind in ("lock", "owner") for path in root.glob(f"*.{kind}")}):
        folders = [p for p in root.glob(f"{name}-*") if _FINGERPRINT.fullmatch(p.name.removeprefix(name))]
        try:
            with FileLock(root / f"{name}.lock", timeout=0):
                for folder in folders:
                    freed += folder_bytes(folder)
                    shutil.rmtree(folder)
        except Timeout:
            held.append(name)
    return freed, held
