"""Paths of this machine, and URLs, which must not be taken for one: `pathlib` makes a folder `s3:` of `s3://bucket`."""

from __future__ import annotations

import re
from pathlib import Path

from dcpipe.types.base import DataError

# Any scheme of two letters or more (one letter is a drive of Windows); `pathlib` makes `s3:/` of `s3://`.
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/|(?:s3|gs|gcs|hf|https?|file|ftp):", re.IGNORECASE)


def is_url(where: str | Path) -> bool:
    """Whether `where` is meant as a URL and not as a path of this machine: also if its scheme is unknown or it is
    written wrongly, so that it is never taken for a folder with a colon in its name."""
    return _URL.match(str(where)) is not None


def local_path(where: str | Path, what: str, remedy: str = "give a path of this machine") -> Path:
    """`where` as a path. Raises `DataError`, which names `what` and repeats no password, if it is a URL."""
    if is_url(where):
        scheme = str(where).split(":")[0]
        raise DataError(f"{what} is a URL ({scheme}://…), but it has to be on this machine; {remedy}")
    return Path(where)
