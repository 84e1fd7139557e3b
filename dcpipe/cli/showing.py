"""Commands that show what is on disk, for people or, as JSON, for programs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rich.console import Console

from dcpipe.release import remote, tags
from dcpipe.reports import states, tables
from dcpipe.reports.contents import contents
from dcpipe.reports.printing import print_table
from dcpipe.reports.verification import verify_all
from dcpipe.types import DataError
from dcpipe.types.paths import is_url


def print_json(content: Any) -> None:
    """Print JSON for a program."""
    print(json.dumps(content, indent=1, ensure_ascii=False))


def status(root: Path, as_json: bool) -> None:
    """What is built in a workspace."""
    found = states.state(root)
    if as_json:
        print_json(found.as_json())
    else:
        print_table(tables.status(found))


def verification(root: Path, as_json: bool) -> None:
    """Which artifacts of a workspace are whole. Raises `DataError`, after printing, if one is damaged."""
    found = verify_all(root / "data")
    if as_json:
        print_json(found.as_json(root))
    else:
        for line in found.lines(root):
            print(line)
    if found.damaged:
        raise DataError("\n".join(found.damaged))
    if not as_json:
        print(f"{len(found.whole)} artifacts are whole." if found.whole else "There is no artifact below data/ yet.")


def inspect(what: str, repo: str | None, as_json: bool) -> None:
    """What is in an artifact, a file, or the release of a tag or URL."""
    path = Path(what)
    if is_url(what):
        path = remote.fetch(what)
    elif tags.TAG.fullmatch(what) and not path.exists():
        path = tags.fetch(what, repo)
    found = contents(path)
    if as_json:
        print_json(found.as_json())
    else:
        # Shapes must not be cut off at the width of the terminal.
        Console(soft_wrap=True).print(tables.inspect(found))
