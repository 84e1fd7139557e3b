"""Messages of commands and stages: one tree of Python's loggers, named `dcpipe`.

Modules report to loggers of this tree, such as `dcpipe.shards.attempts`. A command shows them on standard error
(`shown`), and a stage also keeps them in a file (`kept`). Who imports dcpipe decides what is shown.

| `DCPIPE_LOG` | option | what is shown |
|---|---|---|
| `warning` | `-q` | what goes wrong |
| not set, `info` | | also what is done, with its numbers, and the progress of long work |
| `debug` | `-v` | everything, with time, level and logger |

The option of a command counts for more than the variable. The file always has everything.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dcpipe.types import DataError, describe_os_error

VARIABLE = "DCPIPE_LOG"
LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING}
FOLDER = Path(".dcpipe/logs")  # of the workspace; Git and DVC ignore it
KEPT = 100  # files; a `dvc repro` makes about ten
UNDER_WAY = {"under_way": True}  # `extra` of a message about progress, which a bar replaces on a terminal
_TREE = "dcpipe"
_log = logging.getLogger(__name__)


def logger(name: str) -> logging.Logger:
    """The logger `name` of the tree. Flows use it, because a module that is run by `python -m` has no name."""
    return logging.getLogger(f"{_TREE}.{name}")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add `-v` and `-q` to a command; `options.level` is then None, or a name in `LEVELS`."""
    both = parser.add_mutually_exclusive_group()
    texts = {"debug": ("-v", "--verbose", "say everything"), "warning": ("-q", "--quiet", "say only what goes wrong")}
    for name, (short, long, text) in texts.items():
        both.add_argument(short, long, dest="level", action="store_const", const=name, help=f"{text} (or {VARIABLE})")


def level(option: str | None = None) -> int:
    """The level of an option, else of `DCPIPE_LOG`. Raises `DataError` for a value that is none."""
    wanted = option or os.environ.get(VARIABLE) or "info"
    if wanted not in LEVELS:
        raise DataError(f"{VARIABLE} is {wanted[:80]!r}; use one of {', '.join(LEVELS)}")
    return LEVELS[wanted]


class Terminal(logging.Handler):
    """Writes to whatever standard error is at the time, one line per line of a message, after a name.

    Signs that would drive a terminal are written as escapes, because names in files are those of strangers.
    """

    def __init__(self, name: str) -> None:
        super().__init__(logging.INFO)
        self.title = name

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, unless a bar shows the same."""
        if getattr(record, "under_way", False) and sys.stderr.isatty():
            return
        start = f"{self.title}: "
        if self.level <= logging.DEBUG:
            start = f"{time.strftime('%H:%M:%S', time.localtime(record.created))} {record.levelname.lower()} {start}"
        try:
            # A piece of work may have the name of the stage.
            text = self.format(record).removeprefix(f"{self.title}: ")
            lines = (f"{start}{printable(line)}\n" for line in text.splitlines() or [""])
            sys.stderr.write("".join(lines))
            sys.stderr.flush()
        except Exception:  # a pipe that nobody reads any more must not stop the work
            self.handleError(record)


def is_shown(level: int) -> bool:
    """Whether messages of a level are written to standard error."""
    handlers = logging.getLogger(_TREE).handlers
    return any(isinstance(handler, Terminal) and handler.level <= level for handler in handlers)


@contextmanager
def shown(name: str) -> Iterator[Terminal]:
    """A context manager in which messages are written to standard error after `name`, from level `info` on; the level
    of the handler that it gives may be changed."""
    handler = Terminal(name)
    with added(handler):
        yield handler


@contextmanager
def kept(name: str, root: Path = Path()) -> Iterator[None]:
    """A context manager in which messages of all levels are written to a new file in `.dcpipe/logs` of the workspace
    `root`, named for the time, `name` and the process. The last `KEPT` files are kept.

    Where there is no workspace, or the file cannot be written, there is none.
    """
    if not (root / "params.yaml").is_file():
        yield
        return
    folder = root.absolute() / FOLDER
    words = "-".join("".join(sign if sign.isalnum() else " " for sign in name).split())
    path = folder / f"{time.strftime('%Y%m%d-%H%M%S')}-{words}-{os.getpid()}.log"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for old in sorted(folder.glob("*.log"))[: 1 - KEPT]:
            old.unlink(missing_ok=True)
        handler = logging.FileHandler(path, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        _log.warning("there is no log of this run: %s", describe_os_error(error))
        yield
        return
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s"))
    with added(handler):
        try:
            yield
        finally:
            handler.close()


@contextmanager
def added(handler: logging.Handler) -> Iterator[None]:
    """A context manager that adds a handler to the tree, whose records then go no further: handlers of the root, such
    as Prefect's, would write them twice."""
    tree = logging.getLogger(_TREE)
    before = tree.level, tree.propagate
    tree.setLevel(logging.DEBUG)
    tree.propagate = False
    tree.addHandler(handler)
    try:
        yield
    finally:
        tree.removeHandler(handler)
        tree.setLevel(before[0])
        tree.propagate = before[1]


def printable(line: str) -> str:
    """A line for a terminal, which names in a stranger's files must not drive: control signs are escaped."""
    return "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in line)
