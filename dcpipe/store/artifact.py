"""Artifact folders: files, and the manifest `artifact.json`, which describes them."""

from __future__ import annotations

import hashlib
import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dcpipe.store import tensors
from dcpipe.store.files import PARTIAL, replacing, sync, sync_entries
from dcpipe.types import DataError, require

# Raised whenever the meaning of bytes on disk changes. DVC tracks it, so all stages run again then.
SCHEMA = 1
MANIFEST = "artifact.json"


@dataclass(frozen=True)
class Artifact:
    """A verified folder. The keys of `meta` depend on `kind`; `digest` identifies the content, without the lineage."""

    path: Path
    kind: str
    meta: dict[str, Any]
    files: dict[str, dict[str, Any]]
    lineage: dict[str, Any]
    digest: str


def digest_of(value: Any) -> str:
    """SHA-256 of a JSON value in canonical form."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def hash_file(path: Path) -> str:
    """SHA-256 of the bytes of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def hash_files(root: Path) -> dict[str, dict[str, Any]]:
    """Relative path -> {sha256, bytes} of every file below `root`, except the manifest and unfinished files."""
    paths = sorted(p for p in root.rglob("*") if p.is_file() and p != root / MANIFEST and p.suffix != PARTIAL)
    with ThreadPoolExecutor(max_workers=4) as pool:  # hashing releases the GIL
        digests = list(pool.map(hash_file, paths))
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
    digest = digest_of({"schema": SCHEMA, "noun": kind, "meta": meta, "files": files})
    content = {
        "schema": SCHEMA,
        "noun": kind,
        "digest": digest,
        "meta": meta,
        "files": files,
        # Not part of the digest, which covers whole files; only used to name the damaged array of a file.
        "arrays": {name: tensors.hash_arrays(folder / name) for name in files if name.endswith(".safetensors")},
        "lineage": lineage,
    }
    # Files must be on disk before the manifest that lists them; most were synced when they were written.
    for name in files:
        sync(folder / name)
    with replacing(folder / MANIFEST) as partial:
        partial.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", encoding="utf-8")
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
    shutil.copytree(folder, copy)
    for path in copy.rglob("*"):
        if path.is_file():
            sync(path)
    return copy


def open_artifact(path: Path, kind: str) -> Artifact:
    """Read the manifest of a folder and verify every byte of the files that it lists.

    Raises `DataError`, which names the folder or file, if one is missing, truncated or changed, or has another kind or
    schema.
    """
    manifest = path / MANIFEST
    require(
        manifest.is_file(),
        f"{path} contains no {kind} (no {MANIFEST}); run `dvc repro` or `dvc pull` to make it",
    )
    try:
        content = json.loads(manifest.read_text(encoding="utf-8"))
        stored_schema, stored_kind = content["schema"], content["noun"]
        files, meta, lineage, digest = (
            content["files"],
            content["meta"],
            content["lineage"],
            content["digest"],
        )
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{manifest} is damaged ({error!r}); remove {path} and run `dvc repro`") from error
    require(
        stored_schema == SCHEMA,
        f"{path} has schema {stored_schema}, but this version of dcpipe reads {SCHEMA}; run `dvc repro` to rebuild it",
    )
    require(
        stored_kind == kind,
        f"{path} contains {stored_kind!r}, expected {kind!r}; give the folder of the right stage",
    )
    expected = digest_of({"schema": SCHEMA, "noun": kind, "meta": meta, "files": files})
    require(
        digest == expected,
        f"{manifest} is damaged: its digest does not match; remove {path} and run `dvc repro`",
    )
    verify_files(path, files, content.get("arrays", {}))
    return Artifact(path, kind, meta, files, lineage, digest)


def verify_files(root: Path, files: dict[str, dict[str, Any]], arrays: dict[str, dict[str, str]]) -> None:
    """Compare the size and SHA-256 of each file with those in the manifest.

    Raises `DataError`, which names the first file that differs, and the arrays in it that differ according to `arrays`:
    file -> array -> SHA-256.
    """
    for name, record in files.items():
        path = root / name
        require(path.is_file(), f"{path} is missing; run `dvc checkout` or pull the release again")
        size = path.stat().st_size
        require(
            size == record["bytes"],
            f"{path} has {size} bytes, {record['bytes']} were recorded; run `dvc checkout` or pull the release again",
        )
    with ThreadPoolExecutor(max_workers=4) as pool:
        digests = pool.map(hash_file, [root / name for name in files])
    for (name, record), digest in zip(files.items(), digests, strict=True):
        require(
            digest == record["sha256"],
            f"{root / name} is corrupt: SHA-256 {digest[:12]}…, recorded {record['sha256'][:12]}…"
            f"{_where(root / name, digest, record, arrays.get(name, {}))}; "
            "run `dvc checkout` or pull the release again",
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
