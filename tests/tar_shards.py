"""Tar shards in the form of WebDataset, of members that the tests choose."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

Members = Iterable[tuple[str, bytes]]


def member(name: str, **fields: Any) -> tarfile.TarInfo:
    """The header of a member."""
    info = tarfile.TarInfo(name)
    for key, value in fields.items():
        setattr(info, key, value)
    return info


def write_shard(
    path: Path, members: Mapping[str, bytes] | Members, format: int = tarfile.USTAR_FORMAT, mode: Any = "w"
) -> Path:
    """An archive of these members, in their order."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode, format=format) as archive:
        for name, content in members.items() if isinstance(members, Mapping) else members:
            archive.addfile(member(name, size=len(content)), io.BytesIO(content))
    return path
