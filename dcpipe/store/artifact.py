"""Artifact folders: files, and the manifest `artifact.json`, which describes them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dcpipe.store import tensors
from dcpipe.store.documents import checked, reading
from dcpipe.store.files import PARTIAL, replacing, sync, sync_entries
from dcpipe.store.hashing import sha256_all
from dcpipe.store.manifest import (
    MANIFEST,
    Manifest,
    content_digest,
    digest_of,
    locate,
    provenance_digest,
    read_manifest,
    written,
)
from dcpipe.types import DataError, ImageTable, Teacher, require

__all__ = ["SCHEMA", "Artifact", "digest_of", "folder_bytes", "open_artifact", "publish"]

# Raised whenever the meaning of bytes on disk changes. DVC tracks it, so all stages run again then.
SCHEMA = 1


@dataclass(frozen=True)
class Artifact:
    """A verified folder. The keys of `meta` depend on `kind`; `digest` identifies the content, without the lineage."""

    path: Path
    kind: str
    meta: dict[str, Any]
    files: dict[str, dict[str, Any]]
    lineage: dict[str, Any]
    digest: str
    covered: bool = True  # whether a digest covers the lineage too

    def file(self, name: str) -> Path:
        """The verified file `name`; raises `DataError` where the manifest does not list it, for nothing then vouches
        for its bytes."""
        require(
            name in self.files,
            f"{self.path / MANIFEST} does not list {name}, so nothing vouches for its bytes; get the artifact again",
        )
        return locate(self.path, name)


def hash_files(root: Path) -> dict[str, dict[str, Any]]:
    """Relative path -> {sha256, bytes} of every file below `root`, except the manifest and unfinished files."""
    paths = sorted(p for p in root.rglob("*") if p.is_file() and p != root / MANIFEST and p.suffix != PARTIAL)
    digests = sha256_all(paths, again=True)
    return {
        path.relative_to(root).as_posix(): {"bytes": path.stat().st_size, "sha256": digest}
        for path, digest in zip(paths, digests, strict=True)
    }


def folder_bytes(root: Path) -> int:
    """The bytes of all files below `root`, measured on disk."""
    return sum(path.stat().st_size for path in root.rglob("*") if path.is_file())


def publish(folder: Path, out: Path, kind: str, meta: dict[str, Any], lineage: dict[str, Any]) -> Artifact:
    """Write the manifest into the finished `folder`, then rename the folder to `out`, replacing an existing `out`.

    This is atomic: either everything is on disk under its final name, or nothing is.
    """
    for leftover in folder.rglob(f"*{PARTIAL}"):
        leftover.unlink()
    files = hash_files(folder)
    digest = content_digest(SCHEMA, kind, meta, files)
    # Apart from the digest, which covers whole files: only to say which array a damaged one spoils.
    arrays = {name: tensors.hash_arrays(folder / name) for name in files if name.endswith(".safetensors")}
    history = json.loads(json.dumps(lineage))  # as it will be read: keys are text
    content = {
        "schema": SCHEMA,
        "noun": kind,
        "digest": digest,
        "meta": meta,
        "files": files,
        "arrays": arrays,
        "lineage": history,
        "provenance": provenance_digest(history, arrays),
    }
    checked(Manifest, content, folder / MANIFEST, "correct the stage that wrote it")  # or nobody could read it
    # Files must be on disk before the manifest that lists them; most were synced when they were written.
    for name in files:
        sync(folder / name)
    with replacing(folder / MANIFEST) as partial:
        partial.write_bytes(written(content))
    out.parent.mkdir(parents=True, exist_ok=True)
    source = folder
    if folder.stat().st_dev != out.parent.stat().st_dev:
        source = _copied(folder, out)
    old = out.with_name(out.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if out.exists():
        out.replace(old)
    source.replace(out)
    sync_entries(out.parent)
    shutil.rmtree(old, ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)  # it only exists if it was copied
    return Artifact(out, kind, meta, files, lineage, digest)


def _copied(folder: Path, out: Path) -> Path:
    """A copy of `folder` on the disk of `out`, because a folder cannot be renamed from one disk to another."""
    copy = out.with_name(out.name + PARTIAL)
    shutil.rmtree(copy, ignore_errors=True)
    try:
        shutil.copytree(folder, copy)
        for path in copy.rglob("*"):
            if path.is_file():
                sync(path)
    except BaseException:  # usually a full disk, where half of a copy is in the way
        shutil.rmtree(copy, ignore_errors=True)
        raise
    return copy


def open_artifact(path: Path, kind: str, *, again: bool = False) -> Artifact:
    """Read the manifest of a folder and verify every byte of the files that it lists.

    A file that this process has verified and that has not changed since, as far as its size and times tell, is not read
    again, unless `again` asks for it: that is for artifacts from strangers.

    Raises `DataError`, which names the folder or file, if one is missing, truncated or changed, or has another kind or
    schema.
    """
    manifest = read_manifest(path, SCHEMA, kind)
    return _verified(path, manifest, again)


@dataclass(frozen=True)
class Verified:
    """An artifact that this run has verified: small enough to be sent to a worker, which opens it without reading every
    byte again."""

    path: str
    kind: str
    digest: str

    @classmethod
    def of(cls, artifact: Artifact) -> Verified:
        """The name of an open artifact."""
        return cls(str(artifact.path.absolute()), artifact.kind, artifact.digest)

    @classmethod
    def teacher(cls, teacher: Teacher) -> Verified | None:
        """The artifact that a teacher was read from, or None."""
        return None if teacher.origin is None else cls(teacher.origin[0], "teacher", teacher.origin[1])

    @classmethod
    def teachers(cls, teachers: Iterable[Teacher]) -> tuple[Verified, ...] | None:
        """The artifacts that all of some teachers were read from; None if one of them is only in memory."""
        found = [cls.teacher(teacher) for teacher in teachers]
        stored = tuple(artifact for artifact in found if artifact is not None)
        return stored if len(stored) == len(found) else None

    @classmethod
    def images(cls, table: ImageTable) -> Verified | None:
        """The artifact that a table was opened from, or None."""
        return None if table.origin is None else cls(table.origin[0], "images", table.origin[1])

    def open(self) -> Artifact:
        """The artifact. Raises `DataError` if another one is there now, or none."""
        path = Path(self.path)
        manifest = read_manifest(path, SCHEMA, self.kind)
        require(
            manifest.digest == self.digest, f"{path} was replaced while a stage was reading it; run `dvc repro` again"
        )
        return _artifact(path, manifest)


def verify(path: Path) -> Artifact:
    """As `open_artifact`, of any kind; every byte is read now."""
    return _verified(path, read_manifest(path, SCHEMA), again=True)


def _verified(path: Path, manifest: Manifest, again: bool) -> Artifact:
    artifact = _artifact(path, manifest)
    verify_files(path, artifact.files, manifest.arrays, again=again)
    return artifact


def _artifact(path: Path, manifest: Manifest) -> Artifact:
    files = {name: record.model_dump(by_alias=True) for name, record in manifest.files.items()}
    return Artifact(path, manifest.noun, manifest.meta, files, manifest.lineage, manifest.digest, manifest.covered)


def verify_files(
    root: Path, files: dict[str, dict[str, Any]], arrays: dict[str, dict[str, str]], *, again: bool
) -> None:
    """Compare the size and SHA-256 of each file with those in the manifest. For `again`, see `open_artifact`.

    Raises `DataError`, which names the first file that differs, and the arrays in it that differ according to `arrays`:
    file -> array -> SHA-256.
    """
    for name, record in files.items():
        path = locate(root, name)
        size = path.stat().st_size
        require(
            size == record["bytes"],
            f"{path} has {size} bytes, {record['bytes']} were recorded; run `dvc checkout --force` or pull the release "
            "again",
        )
    with reading(root, "an artifact", "make its files readable"):
        found = sha256_all([root / name for name in files], again=again)
    for (name, record), digest in zip(files.items(), found, strict=True):
        require(
            digest == record["sha256"],
            f"{root / name} is corrupt: SHA-256 {digest[:12]}…, recorded {record['sha256'][:12]}…"
            f"{_where(root / name, digest, record, arrays.get(name, {}))}; "
            "run `dvc checkout --force` or pull the release again",
        )


def _where(path: Path, digest: str, record: dict[str, Any], arrays: dict[str, str]) -> str:
    """The arrays of a damaged file that differ, for an error message; "" if no digests of arrays were recorded."""
    if digest == record["sha256"] or not arrays:
        return ""
    try:
        present = tensors.hash_arrays(path)
    except DataError:
        return ", damaged in its header"
    if present[""] != arrays.get(""):
        return ", damaged in its header"
    damaged = (repr(name) for name, value in arrays.items() if present.get(name) != value)
    return f", damaged in array {', '.join(damaged)}"
