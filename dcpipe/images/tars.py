"""Tar shards in the form of WebDataset: one pass finds where the images are, and what their labels are.

The members of a sample have one name up to the first dot, its key: `n01/0001.jpg`, `n01/0001.cls`. An image is a .jpg,
.jpeg, .png or .webp; its label is the number in the .cls, or else an entry of the .json, or else the name in the .txt.
Other members are passed over. After this pass, an image is read by its place in the file, without any header.

An archive may be a stranger's: members never become files, nothing is read that has no bound, and what is not a plain
file in the archive is refused. A packed archive (.tar.gz) is refused too, because it has no places to read from.
"""

from __future__ import annotations

import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from dcpipe.images.listing import is_hidden
from dcpipe.images.places import MAX_FILE, Place
from dcpipe.store.documents import MAX_NAME, loads, shown
from dcpipe.store.documents import reason as words
from dcpipe.types import DataError, require

IMAGES = frozenset({"jpg", "jpeg", "png", "webp"})
LABELS = ("cls", "json", "txt")
# The samples of a shard, in order: the image's name, its first byte and its size; the number of its class, or its name.
SCHEMA = pa.schema(
    [
        ("name", pa.string()),
        ("start", pa.int64()),
        ("size", pa.int64()),
        ("label", pa.int64()),
        ("class", pa.string()),
    ]
)
_BLOCK = 512  # bytes of a header; two empty ones are the end
_MAX_HEADER = _MAX_LABEL = 2**20  # bytes of a long name in a header, and of a file with a label
_PACKED = {b"\x1f\x8b": "gzip", b"BZ": "bzip2", b"\xfd7": "xz", b"\x28\xb5": "zstd"}


@dataclass
class _Sample:
    """The members of one key: name, start and size of the image, and the contents of files with labels."""

    image: tuple[str, int, int] | None = None
    labels: dict[str, bytes] = field(default_factory=dict)


def read_index(shard: Place, stream: Any, size: int, label_key: str) -> pa.Table:
    """The samples in a shard of `size` bytes, open as `stream`: a table with `SCHEMA`, in the order of their first
    members.

    Raises `DataError` for what cannot be read at random (a packed or damaged archive, links, sparse files), for a
    sample with two images, without an image or without a label, and for a member that is there twice.
    """
    samples: dict[str, _Sample] = {}
    with _in_one_sentence(shard):
        for member in _members(shard, stream, size):
            _take(shard, member, stream, samples)
    rows = [_row(shard, key, sample, label_key) for key, sample in samples.items()]
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def _members(shard: Place, stream: Any, size: int) -> Iterator[tarfile.TarInfo]:
    """The members that are plain files, whose bytes are all there."""
    packed = _PACKED.get(stream.read(2))
    require(
        packed is None,
        f"{shard} is packed with {packed}, so that nothing in it can be read by its place; unpack it to .tar, which "
        "takes hardly more room because images are packed already",
    )
    stream.seek(0)
    end = 0
    with tarfile.open(fileobj=_Headers(stream), mode="r:", errors="backslashreplace") as archive:  # type: ignore[call-overload]
        while (member := archive.next()) is not None:
            archive.members.clear()  # or the list would grow with the archive
            name = shown(member.name)
            require(
                not member.issparse() and (member.isreg() or member.isdir()),
                f"{shard}: its member {name} is no plain file but {_kind(member)}; write the archive again with the "
                "files themselves (tar --dereference --hard-dereference)",
            )
            end = member.offset_data + member.size
            require(
                member.size >= 0 and end <= size,
                f"{shard} has {size:,} bytes, but its member {name} claims {member.size:,} from byte "
                f"{member.offset_data:,}; the archive is cut off or damaged, so download it or write it again",
            )
            if member.isreg():
                yield member
    _check_end(shard, stream, -(-end // _BLOCK) * _BLOCK, size)


def _kind(member: tarfile.TarInfo) -> str:
    if member.issparse():
        return "sparse"
    return f"a link to {shown(member.linkname)}" if member.islnk() or member.issym() else "a device or the like"


def _check_end(shard: Place, stream: Any, end: int, size: int) -> None:
    """The mark of the end must be there, and nothing after it: tar programs stop reading at the first mark."""
    stream.seek(end)
    rest = stream.read(min(_MAX_HEADER, size - end))
    require(
        len(rest) >= _BLOCK,
        f"{shard} stops without the mark of its end, so images may be missing; download it or write it again",
    )
    require(
        not rest.strip(b"\0"),
        f"{shard} goes on after the mark of its end, as if archives had been joined by cat; keep them as shards of "
        "their own",
    )


def _take(shard: Place, member: tarfile.TarInfo, stream: Any, samples: dict[str, _Sample]) -> None:
    """Add a member to its sample, if it is an image or may hold a label."""
    parts = [part for part in member.name.split("/") if part not in ("", ".")]
    if not parts or any(map(is_hidden, parts)):
        return
    name = "/".join(parts)
    stem, _, suffix = parts[-1].partition(".")
    key, suffix = "/".join([*parts[:-1], stem]), suffix.lower()
    if suffix not in IMAGES and suffix not in LABELS:
        return
    require(
        len(name) <= MAX_NAME, f"{shard}: its member {shown(name)} has a name of {len(name):,} characters; shorten it"
    )
    sample = samples.setdefault(key, _Sample())
    if suffix in LABELS:
        require(suffix not in sample.labels, f"{shard}: its member {shown(name)} is there twice; remove one")
        require(
            member.size <= _MAX_LABEL,
            f"{shard}: its member {shown(name)} has {member.size:,} bytes, more than the {_MAX_LABEL:,} that a label "
            "may have; shorten it",
        )
        stream.seek(member.offset_data)
        sample.labels[suffix] = stream.read(member.size)
        return
    if sample.image is not None:
        again = "is there twice; remove one" if sample.image[0] == name else "is the second image of its key; rename it"
        raise DataError(f"{shard}: its member {shown(name)} {again}")
    require(
        0 < member.size <= MAX_FILE,
        f"{shard}: its member {shown(name)} has {member.size:,} bytes, but an image has 1 to {MAX_FILE:,}; remove it",
    )
    sample.image = (name, member.offset_data, member.size)


def _row(shard: Place, key: str, sample: _Sample, label_key: str) -> dict[str, Any]:
    if sample.image is None:
        raise DataError(
            f"{shard}: the key {shown(key)} has a .{next(iter(sample.labels))} but no image "
            f"(.{', .'.join(sorted(IMAGES))}); add or remove it"
        )
    label = _label(shard, key, sample.labels, label_key)
    name, start, size = sample.image
    number, text = (label, None) if isinstance(label, int) else (None, label)
    return {"name": name, "start": start, "size": size, "label": number, "class": text}


def _label(shard: Place, key: str, files: dict[str, bytes], label_key: str) -> int | str:
    """The label of a sample: from its .cls, or else its .json, or else its .txt."""
    where = f"{shard}: key {shown(key)}"
    if "cls" in files:
        text = _text(files["cls"], f"{where}: its .cls")
        require(
            text.isascii() and text.isdigit() and len(text) <= 18,
            f"{where}: its .cls is {shown(text)}, expected the number of a class from 0; write that",
        )
        return int(text)
    if "json" in files:
        try:
            content = loads(files["json"])
        except (ValueError, RecursionError) as error:
            raise DataError(f"{where}: its .json is damaged ({words(error)}); write it again") from error
        label = content.get(label_key) if isinstance(content, dict) else None
        if label is None and "txt" not in files:
            found = ", ".join(shown(name)[1:-1] for name in list(content)[:5]) if isinstance(content, dict) else ""
            raise DataError(
                f"{where}: its .json has no entry {label_key!r}{f', only {found}' if found else ''}; set "
                "images.options.label_key"
            )
        if label is not None:
            valid = isinstance(label, str) or (type(label) is int and 0 <= label <= sys.maxsize)
            require(
                valid,
                f"{where}: {label_key!r} of its .json is {shown(label)}, expected the number or the name of a class; "
                "set images.options.label_key",
            )
            return label if isinstance(label, int) else str(label)
    if "txt" in files:
        return _text(files["txt"], f"{where}: its .txt")
    raise DataError(f"{where} has an image but no label (.cls, .json or .txt); add one or remove the image")


def _text(data: bytes, what: str) -> str:
    try:
        text = data.decode("utf-8").strip()
    except UnicodeDecodeError as error:
        raise DataError(f"{what} is no UTF-8 text; write it again") from error
    require(len(text) <= MAX_NAME, f"{what} has {len(text):,} characters, too many for a class; give images a .cls")
    return text


class _Headers:
    """A file of which `tarfile` reads the headers; those tell their own sizes, which are not trusted."""

    def __init__(self, file: Any) -> None:
        self.tell, self.seek, self._read = file.tell, file.seek, file.read

    def read(self, size: int) -> Any:
        if not 0 <= size <= _MAX_HEADER:
            raise tarfile.ReadError(f"a header claims to have {size:,} bytes")
        return self._read(size)


@contextmanager
def _in_one_sentence(shard: Place) -> Iterator[None]:
    try:
        yield
    except DataError:
        raise
    except OSError as error:
        raise DataError(f"{shard} cannot be read ({error.strerror or words(error)}); restore it") from error
    except Exception as error:  # a damaged header makes `tarfile` raise errors of several kinds
        raise DataError(f"{shard} is no tar archive, or is damaged ({words(error)}); write it again") from error
