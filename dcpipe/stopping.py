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
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from dcpipe.types import DataError, describe_os_error

GRACE_SECONDS = 5.0
STOPPED = "stopped; what is finished is kept, run `dvc repro` to continue"


def write_any_text() -> None:
    """Let standard output replace what its encoding lacks (ASCII has no plus-minus sign) instead of failing."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")


@contextmanager
def stopping_in_one_sentence(name: str) -> Iterator[None]:
    """Run the block of a command; errors that a user can do something about end the process in one sentence."""
    write_any_text()
    stopped_by: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        """Raise an interrupt; leave after a few seconds where the block does not end, because a task runs on."""
        if not stopped_by:
            stopped_by.append(number)
            timer = threading.Timer(GRACE_SECONDS, leave, (f"{name}: {STOPPED}", 128 + number))
            timer.daemon = True
            timer.start()
        raise KeyboardInterrupt

    main_thread = threading.current_thread() is threading.main_thread()
    earlier = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)} if main_thread else {}
    try:
        yield
    except DataError as error:
        _fail(name, str(error))
    except MemoryError:
        _fail(name, "out of memory; lower the stage's batch_size")
    except OSError as error:
        _fail(name, f"{describe_os_error(error)}, then run `dvc repro` to continue")
    except KeyboardInterrupt:
        leave(f"{name}: {STOPPED}", 128 + (stopped_by[0] if stopped_by else signal.SIGINT))
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)


def _fail(name: str, sentence: str) -> None:
    sys.stderr.write(f"{name}: {sentence}\n")
    sys.exit(1)


def leave(sentence: str, code: int) -> None:
    """End the process at once, without waiting for threads: what they have finished is on disk."""
    sys.stderr.write(f"{sentence}\n")
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
