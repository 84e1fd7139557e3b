"""`artifact.json`: what it may say, how it is written, and what it vouches for.

Two digests cover it. `digest` names the content (kind, metadata and files); it is what releases are known by.
`provenance` covers the rest: `lineage`, and `arrays`, which says what part of a damaged file is affected. The text must
also be exactly what `written` gives, so that a changed blank is noticed too. Manifests of older versions have no
`provenance`; they are read, and `Manifest.covered` says that no digest covers their history.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field, StringConstraints

from dcpipe.store.documents import Strict, checked, parse, read_bytes, shown
from dcpipe.types import DataError, require

MANIFEST = "artifact.json"
MAX_BYTES = 64 * 2**20  # manifests of older versions hold the ids of up to a million images
MAX_FILES = 100_000
MAX_NAME = 1000  # characters of a path inside an artifact
_CACHED = re.compile(r"/files/md5/[0-9a-f]{2}/[0-9a-f]{30}$")  # where DVC's cache has a file
_MAX_PART = 255  # what file systems allow of one folder's or file's name


def plain_name(name: str) -> str:
    """A path inside an artifact, unchanged: relative, by slashes, within the folder on every system.

    Raises `ValueError` for anything else.
    """
    parts = name.split("/")
    if not 0 < len(name) <= MAX_NAME or any(len(part.encode()) > _MAX_PART for part in parts):
        raise ValueError(f"a name of a file has 1 to {MAX_NAME} characters, {_MAX_PART} bytes between slashes")
    if not name.isprintable() or any(sign in name for sign in '\\:"<>|?*'):
        raise ValueError('a name of a file has only printable characters, and none of \\ : " < > | ? *')
    if any(part in ("", ".", "..") for part in parts):
        raise ValueError("a name of a file must be relative and lead nowhere out of the folder")
    if name == MANIFEST:
        raise ValueError("the manifest cannot vouch for itself")
    return name


Hex = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Name = Annotated[str, AfterValidator(plain_name)]


class FileRecord(Strict):
    """Size and digest of one file."""

    n_bytes: int = Field(alias="bytes", ge=0, lt=2**63)
    sha256: Hex


class Manifest(Strict):
    """The whole of `artifact.json`."""

    schema_number: int = Field(alias="schema")
    noun: str = Field(min_length=1, max_length=100)
    digest: Hex
    meta: dict[str, Any]
    files: dict[Name, FileRecord] = Field(max_length=MAX_FILES)
    arrays: dict[Name, dict[str, Hex]] = Field(default={}, max_length=MAX_FILES)
    lineage: dict[str, Any]
    provenance: Hex | None = None

    @property
    def covered(self) -> bool:
        """Whether `lineage` and `arrays` are covered by a digest."""
        return self.provenance is not None


def digest_of(value: Any) -> str:
    """SHA-256 of a JSON value in canonical form."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def content_digest(schema: int, kind: str, meta: Any, files: Any) -> str:
    """The digest that names an artifact's content."""
    return digest_of({"schema": schema, "noun": kind, "meta": meta, "files": files})


def provenance_digest(lineage: Any, arrays: Any) -> str:
    """The digest of where an artifact comes from, and of the arrays in its files."""
    return digest_of({"arrays": arrays, "lineage": lineage})


def written(content: dict[str, Any]) -> bytes:
    """The bytes of a manifest."""
    return (json.dumps(content, indent=1, sort_keys=True) + "\n").encode()


def read_manifest(path: Path, schema: int, kind: str | None = None) -> Manifest:
    """The manifest of the folder `path`, its digests checked; of `kind`, or of any.

    Raises `DataError` naming the file and what is wrong with it. No file that it lists is opened.
    """
    manifest, remedy = path / MANIFEST, f"remove {path} and run `dvc repro`"
    _refuse_link(manifest)
    require(
        manifest.is_file(),
        f"{path} contains no {kind or 'artifact'} (no {MANIFEST}); run `dvc repro` or `dvc pull` to make it",
    )
    data = read_bytes(manifest, MAX_BYTES, remedy)
    return parse_manifest(data, path, schema, kind, remedy, "run `dvc repro` to rebuild it")


def parse_manifest(
    data: bytes, folder: Path | str, schema: int, kind: str | None, remedy: str, rebuild: str
) -> Manifest:
    """The manifest with the bytes `data`, its digests checked; of `kind`, or of any. Errors name `folder`, a path or a
    URL, and end in `remedy`, or in `rebuild` for another schema."""
    manifest = f"{folder}/{MANIFEST}"
    content = parse(data, manifest, remedy)
    if isinstance(content, dict) and isinstance(content.get("schema"), int):
        require(
            content["schema"] == schema,
            f"{folder} has schema {shown(content['schema'])}, but this version of dcpipe reads {schema}; {rebuild}",
        )
    found = checked(Manifest, content, manifest, remedy)
    require(
        kind is None or found.noun == kind,
        f"{folder} contains {shown(found.noun)}, expected {kind!r}; give the folder of the right stage",
    )
    damaged = f"{manifest} is damaged: its"
    same = found.digest == content_digest(schema, found.noun, content["meta"], content["files"])
    require(same, f"{damaged} digest does not match; {remedy}")
    if "provenance" in content:  # null is no older version, which has no such key
        expected = provenance_digest(content["lineage"], content.get("arrays", {}))
        require(found.provenance == expected, f"{damaged} provenance digest does not match; {remedy}")
        same = data == written(content)  # older versions could order keys in another way
        require(same, f"{manifest} is damaged: it is not written as dcpipe writes it; {remedy}")
    return found


def locate(root: Path, name: str) -> Path:
    """The file `name` of an artifact, which must be one: raises `DataError` where it is missing, where it or a folder
    on the way to it is a symbolic link, and for a name that leaves the folder."""
    try:
        parts = plain_name(name).split("/")
    except ValueError as error:
        raise DataError(f"{root} has no file {shown(name)}: {error}; get the artifact again") from error
    path = root
    for part in parts:
        path = path / part
        _refuse_link(path)
    require(path.is_file(), f"{path} is missing; run `dvc checkout --force` or pull the release again")
    return path


def _refuse_link(path: Path) -> None:
    """Links into a cache of DVC, whose cache type may be `symlink`, are files of the workspace; others are refused."""
    require(
        not path.is_symlink() or _CACHED.search(path.resolve().as_posix()) is not None,
        f"{path} is a symbolic link that leads out of DVC's cache; put the file itself there",
    )
