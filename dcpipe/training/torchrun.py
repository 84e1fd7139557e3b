"""Start torchrun for a training, wait for it, and say in one sentence why it failed.

Three kinds of processes: the stage calls `launch`, which starts torchrun's agent (`python -m dcpipe.training.torchrun`,
with torchrun's own arguments), and the agent starts one process per rank. Each lets go when another dies:

* A rank that fails writes the reason into a file, because the report of torchrun may blame a rank that only waited for
  it. The agent then ends the other ranks, and writes which of them died without a word (out of memory, for example).
* All ranks read from a pipe that the stage holds open, and end when it closes: so when the stage is killed, or stops
  waiting because the agent is gone, no rank goes on writing checkpoints into a folder that another run may have locked.

Process 0 reports its epochs to the stage as lines of JSON on standard output.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from dcpipe.store.files import replacing
from dcpipe.types import DataError, describe_os_error

FOLDER, LOG, DEATHS = "DCPIPE_RANKS_FOLDER", "torchrun.log", "deaths.json"


@dataclass(frozen=True)
class Failure:
    """Why a rank failed: the sentence of a `DataError`, or an error of another kind. `at`: seconds since the epoch."""

    rank: int
    at: float
    kind: str
    text: str


def launch(module: str, argument: Path, processes: int, report: Callable[[dict[str, float]], None]) -> None:
    """Run `python -m module argument` in so many processes of this machine under torchrun, until all of them end.

    What they print, and the reports of failures, are in `torchrun.log` beside the argument.

    Args:
        module: calls `report` and `failures_written`.
        argument: a file; the notes on failures are written beside it.
        processes: at least 2.
        report: called with each row that process 0 reports.

    Raises `DataError` if a process fails: with its own sentence if it was one, else with the number of the process
    and what happened to it.
    """
    folder = argument.absolute().parent
    for old in (*folder.glob("failed-*.json"), folder / DEATHS):
        old.unlink(missing_ok=True)
    threads = str(max(1, (os.cpu_count() or 1) // processes))
    environment = {"OMP_NUM_THREADS": threads, **os.environ, FOLDER: str(folder)}
    command = [sys.executable, "-m", "dcpipe.training.torchrun", "--standalone", f"--nproc-per-node={processes}"]
    with (folder / LOG).open("ab") as log:
        agent = subprocess.Popen(
            [*command, "--module", module, str(argument.absolute())],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        assert agent.stdin is not None and agent.stdout is not None
        threading.Thread(target=_let_go, args=(agent,), daemon=True).start()
        try:
            _pass_on(agent.stdout, report)
        finally:
            agent.terminate()
            with suppress(BrokenPipeError):
                agent.stdin.close()
            agent.wait()
            agent.stdout.close()
    if agent.returncode != 0:
        raise DataError(_sentence(folder, processes, agent.returncode))


def _let_go(agent: subprocess.Popen[str]) -> None:
    """Close the pipe of the ranks when the agent ends: if it was killed, they are still there."""
    agent.wait()
    with suppress(BrokenPipeError, ValueError):
        assert agent.stdin is not None
        agent.stdin.close()


def _pass_on(lines: IO[str], report: Callable[[dict[str, float]], None]) -> None:
    """Report the rows of process 0 until all processes have closed their output. Other lines are of libraries."""
    for line in lines:
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict) and "epoch" in row:
            report(row)


def report(row: dict[str, float]) -> None:
    """In a rank: report a row to the stage."""
    sys.stdout.write(json.dumps(row) + "\n")
    sys.stdout.flush()


@contextmanager
def failures_written(folder: Path) -> Iterator[None]:
    """In a rank: run the block; if it fails, write why into `folder` and end the process. Also end it when the stage
    is gone."""
    threading.Thread(target=_end_with_the_stage, daemon=True).start()
    try:
        yield
    except Exception as error:
        rank = int(os.environ["RANK"])
        text = describe_os_error(error) if isinstance(error, OSError) else str(error)
        failure = Failure(rank, time.time(), type(error).__name__, text)
        with replacing(folder / f"failed-{rank}.json") as partial:
            partial.write_text(json.dumps(asdict(failure)), encoding="utf-8")
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)  # not through destructors, which may wait for ranks that are gone


def _end_with_the_stage() -> None:
    while os.read(0, 1):
        pass
    os._exit(1)


def _sentence(folder: Path, processes: int, code: int) -> str:
    """The sentence about a failed training, from the notes of ranks and agent."""
    notes = [json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("failed-*.json")]
    failures = sorted((Failure(**note) for note in notes), key=lambda failure: failure.at)
    deaths = _deaths(folder, {failure.rank for failure in failures})
    # A rank whose neighbour has died fails too, with a `RuntimeError` of its connection.
    own = [
        failure for failure in failures if not (deaths and failure.kind.endswith(("RuntimeError", "DistBackendError")))
    ]
    if own:
        first = own[0]
        if first.kind == "DataError":
            return first.text
        if first.kind == "MemoryError":
            return f"process {first.rank} of {processes} ran out of memory; lower the stage's batch_size"
        lines = first.text.strip().splitlines() or ["no message"]
        what = f"process {first.rank} of {processes} failed: {first.kind}: {lines[0][:300]}"
    elif deaths:
        rank, name = deaths[0]
        what = f"process {rank} of {processes} was ended by {name}"
        what += ", perhaps for want of memory" if name == "SIGKILL" else ""
    else:
        what = f"torchrun ended with code {code}"
    return f"{what}; see {folder / LOG}, then run `dvc repro` to continue"


def _deaths(folder: Path, spoke: set[int]) -> list[tuple[int, str]]:
    """The ranks that a signal has ended and that wrote no reason, with its name. The agent ends ranks by SIGTERM."""
    path = folder / DEATHS
    codes: dict[str, int] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    silent = [(int(rank), -code) for rank, code in codes.items() if code < 0 and int(rank) not in spoke]
    return [(rank, signal.Signals(number).name) for rank, number in sorted(silent) if number != signal.SIGTERM]


def agent(arguments: list[str]) -> None:
    """The process between stage and ranks: torchrun, which also writes down how ranks have ended."""
    from torch.distributed import run
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    torchrun: Any = run  # its functions have no types
    try:
        torchrun.run(torchrun.parse_args(arguments))
    except ChildFailedError as error:
        codes = {str(rank): failure.exitcode for rank, failure in error.failures.items()}
        with replacing(Path(os.environ[FOLDER]) / DEATHS) as partial:
            partial.write_text(json.dumps(codes), encoding="utf-8")
        sys.stderr.write(f"{error}\n")
        sys.exit(1)


if __name__ == "__main__":
    agent(sys.argv[1:])
