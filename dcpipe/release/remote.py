"""Releases in an object store: s3://, gs://, hf:// or https://, without DVC and without Git.

The manifest is read first, and then each file when it is asked for. A file is downloaded in parts, continued where an
interrupted download ended, and takes its name only when its SHA-256 is that of the manifest; so every byte that is used
is verified, and no file can be larger than the manifest says. Files are kept below `cache_root()` in a folder that is
named by the SHA-256 of the manifest, so that a release that is replaced at its URL is another one here.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from filelock import FileLock

from dcpipe import store
from dcpipe.release.tags import cache_root
from dcpipe.store import urls
from dcpipe.store.files import replacing, sync
from dcpipe.store.hashing import sha256
from dcpipe.store.manifest import MANIFEST, MAX_BYTES, FileRecord, Manifest, parse_manifest
from dcpipe.types import DataError, require
from dcpipe.types.paths import local_path

PART = 16 * 2**20  # bytes of a request
AT_ONCE = 4  # requests
_REMEDY = "ask its owner to copy data/release there again"


@dataclass(frozen=True, eq=False)
class RemoteRelease:
    """A release at `url`, whose files are downloaded to `home/release` when they are asked for."""

    url: str
    home: Path
    manifest: Manifest

    @property
    def path(self) -> Path:
        """The folder with its manifest, and the files that were asked for so far."""
        return self.home / "release"

    @property
    def meta(self) -> dict[str, Any]:
        return self.manifest.meta

    @property
    def digest(self) -> str:
        return self.manifest.digest

    def file(self, name: str) -> Path:
        """The file `name`, downloaded and verified, unless it is here already, where it is only verified.

        Raises `DataError` where the manifest does not list it, where it is missing or has other bytes at the URL, and
        where the disk has no space for it.
        """
        record = self.manifest.files.get(name)
        require(record is not None, f"{self.url}/{MANIFEST} does not list {name}; {_REMEDY}")
        assert record is not None
        path, unfinished = self.path / name, self.home / "unfinished" / record.sha256
        unfinished.parent.mkdir(parents=True, exist_ok=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{unfinished}.lock"):  # another process may be downloading it
            if not _is(path, record):
                _download(urls.join(self.url, name), unfinished, record)
                unfinished.replace(path)
        return path

    def files(self) -> list[Path]:
        """All files that the manifest lists, downloaded and verified."""
        return [self.file(name) for name in self.manifest.files]


def open_release(where: str, home: Path | None = None) -> RemoteRelease:
    """The release at a URL, of which only the manifest is read.

    Raises `DataError` if there is none, or if it cannot be read. `home` is the folder for its files, by default one in
    the cache.
    """
    url = urls.checked_url(where)
    try:
        data = urls.read(urls.join(url, MANIFEST), MAX_BYTES)
    except DataError as error:
        raise DataError(f"{url} is not the folder of a release: {error}") from error
    manifest = parse_manifest(data, url, store.SCHEMA, "release", _REMEDY, "update dcpipe")
    inside = next(
        (name for name in manifest.files for part in PurePosixPath(name).parents if str(part) in manifest.files), ""
    )
    require(not inside, f"{url}/{MANIFEST} lists {inside!r}, a file in a file; {_REMEDY}")
    name = hashlib.sha256(data).hexdigest()[:24]
    found = RemoteRelease(url, home or cache_root() / "urls" / name, manifest)
    found.path.mkdir(parents=True, exist_ok=True)
    with replacing(found.path / MANIFEST) as partial:
        partial.write_bytes(data)
    return found


def fetch(where: str) -> Path:
    """The folder in the cache with all files of the release at a URL, which are downloaded if they are not there
    yet."""
    found = open_release(where)
    found.files()
    return found.path


def pull(where: str, out: Path) -> store.Artifact:
    """Download all files of the release at a URL into the new folder `out`, which appears when it is complete.

    An interrupted download is continued by the next one. Raises `DataError` as `open_release` and `file` do, and if
    `out` exists.
    """
    out = local_path(out, "the folder of a pulled release")
    require(not os.path.lexists(out), f"{out} exists; give a folder that does not, or remove it")
    name = hashlib.sha256(urls.checked_url(where).encode()).hexdigest()[:12]
    found = open_release(where, out.parent / f".pull-{out.name}-{name}")
    found.files()
    artifact = store.open_artifact(found.path, "release", again=True)
    found.path.replace(out)
    shutil.rmtree(found.home)
    return replace(artifact, path=out)


def _is(path: Path, record: FileRecord) -> bool:
    return path.is_file() and path.stat().st_size == record.n_bytes and sha256(path) == record.sha256


def _download(url: str, path: Path, record: FileRecord) -> None:
    """Fill `path` with the bytes of `url`, after those that an earlier download left there, and verify them."""
    done = path.stat().st_size if path.exists() else 0
    if done > record.n_bytes:
        path.unlink()
        done = 0
    remedy = "free some space or set DCPIPE_CACHE to a folder on a larger disk"
    store.need_space(record.n_bytes - done, url, path.parent, remedy)
    with path.open("ab") as stream:
        for start in range(done, record.n_bytes, AT_ONCE * PART):
            stop = min(start + AT_ONCE * PART, record.n_bytes)
            parts = [(first, min(first + PART, stop)) for first in range(start, stop, PART)]
            for content in urls.read_ranges(url, parts):
                stream.write(content)
    sync(path)
    if (found := sha256(path)) != record.sha256:
        path.unlink()
        raise DataError(
            f"{url} has other bytes than its release says: SHA-256 {found[:12]}…, recorded {record.sha256[:12]}…; "
            f"load it again, or {_REMEDY}"
        )
