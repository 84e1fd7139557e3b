"""How a stage's command ends when it cannot go on: one sentence, an exit code of the kind, and nothing lost.

| what happened | exit code |
|---|---|
| bad input, a disk or a path that does not allow something, too little memory | 1 |
| Ctrl-C (SIGINT) | 130 |
| SIGTERM | 143 |

Anything else is a bug and keeps its traceback.
"""

from __future__ import annotations

import io
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from dcpipe import logs
from dcpipe.types import DataError, describe_os_error

GRACE_SECONDS = 5.0
STOPPED = "stopped; what is finished is kept, run `dvc repro` to continue"
_log = logging.getLogger(__name__)


def write_any_text() -> None:
    """Let standard output replace what its encoding lacks (ASCII has no plus-minus sign) instead of failing."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")


@contextmanager
def stopping_in_one_sentence(name: str, level: str | None = None) -> Iterator[None]:
    """Run the block of a command, which shows its messages after `name`; errors that a user can do something about end
    the process in one sentence. `level` is a name of `logs.LEVELS`, by default that of `DCPIPE_LOG`."""
    write_any_text()
    with logs.shown(name) as handler:
        try:
            handler.setLevel(logs.level(level))
        except DataError as error:
            _fail(str(error))
        with _stopping():
            yield


@contextmanager
def _stopping() -> Iterator[None]:
    stopped_by: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        """Raise an interrupt; leave after a few seconds where the block does not end, because a task runs on."""
        if not stopped_by:
            stopped_by.append(number)
            timer = threading.Timer(GRACE_SECONDS, leave, (STOPPED, 128 + number))
            timer.daemon = True
            timer.start()
        raise KeyboardInterrupt

    main_thread = threading.current_thread() is threading.main_thread()
    earlier = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)} if main_thread else {}
    try:
        yield
    except KeyboardInterrupt:
        leave(STOPPED, 128 + (stopped_by[0] if stopped_by else signal.SIGINT))
    except Exception as error:
        if sentence := sentence_of(error):
            _fail(sentence)
        _log.debug("a bug", exc_info=True)  # for the file: Python prints the traceback
        raise
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)


def sentence_of(error: BaseException) -> str:
    """What a user is told about an error that a user can do something about; empty for a bug."""
    if isinstance(error, DataError):
        return str(error)
    if isinstance(error, MemoryError):
        return "out of memory; lower the stage's batch_size"
    if isinstance(error, OSError):
        return f"{describe_os_error(error)}, then run `dvc repro` to continue"
    return ""


def _fail(sentence: str) -> None:
    _log.error("%s", sentence)
    sys.exit(1)


def leave(sentence: str, code: int) -> None:
    """End the process at once, without waiting for threads: what they have finished is on disk."""
    _log.log(logging.ERROR if code else logging.WARNING, "%s", sentence)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
