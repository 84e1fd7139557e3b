"""Digests of files in a small database, which the processes of a workspace share.

A file is known by its device and inode, because an artifact is hashed in its staging folder and renamed afterwards, and
it is taken for unchanged if its size and the time of its content are the same. The time of its status is left out: DVC
changes it when it links a file to its cache. So a change that puts the old time back is not noticed here, as it is not
by DVC either; releases and `dcpipe.store.artifact.verify` read every byte.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_TABLE = "CREATE TABLE IF NOT EXISTS digests (file TEXT PRIMARY KEY, state TEXT NOT NULL, sha256 TEXT NOT NULL)"


@dataclass(frozen=True)
class SharedDigests:
    """The database at `path`. One that cannot be read or written is no error: files are hashed again then."""

    path: Path

    def find(self, status: os.stat_result) -> str | None:
        """The digest of the file with this status; None if it is not known, or was of another content."""
        rows = self._run("SELECT sha256 FROM digests WHERE file = ? AND state = ?", (_file(status), _state(status)))
        return str(rows[0][0]) if rows else None

    def add(self, status: os.stat_result, digest: str) -> None:
        """Remember the digest of the file with this status; it replaces that of an earlier file with the same inode."""
        self._run("INSERT OR REPLACE INTO digests VALUES (?, ?, ?)", (_file(status), _state(status), digest))

    def _run(self, statement: str, values: tuple[str, ...]) -> list[Any]:
        try:
            with closing(sqlite3.connect(self.path, timeout=10)) as database, database:
                database.execute(_TABLE)
                return database.execute(statement, values).fetchall()
        except sqlite3.Error:
            return []


# As text, because an inode may have 64 bits, which SQLite's integers do not hold.
def _file(status: os.stat_result) -> str:
    return f"{status.st_dev}:{status.st_ino}"


def _state(status: os.stat_result) -> str:
    return f"{status.st_size}:{status.st_mtime_ns}"
