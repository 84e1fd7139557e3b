"""`dask scheduler` and `dask worker`, started by hand as people start them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Scheduler:
    """A scheduler on loopback and some workers of one thread each; their log is `dask.log` in `folder`, where they
    run."""

    def __init__(
        self, folder: Path, n_workers: int, *options: str, env: Mapping[str, str], port: int | None = None
    ) -> None:
        self.port = port or free_port()
        self.address = f"tcp://127.0.0.1:{self.port}"
        self.folder, self.env, self.processes = folder, env, list[subprocess.Popen[bytes]]()
        self._start("scheduler", "--host", self.address, "--dashboard-address", "127.0.0.1:0")
        for _ in range(n_workers):
            self._start("worker", self.address, "--nthreads", "1", "--death-timeout", "60", *options)

    def _start(self, *words: str) -> None:
        command = [str(Path(sys.executable).with_name("dask")), *words]
        with (self.folder / "dask.log").open("ab") as log:
            started = subprocess.Popen(
                command, cwd=self.folder, env=dict(self.env), stdout=log, stderr=log, start_new_session=True
            )
        self.processes.append(started)

    def workers(self) -> list[int]:
        """The process ids of the workers that nannies have started."""
        nannies = {process.pid for process in self.processes[1:]}
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                parent = int((entry / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()[1])
                if parent in nannies and b"spawn_main" in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
            except OSError:  # it has ended
                continue
        return found

    def kill_scheduler(self) -> None:
        """End the scheduler alone, at once."""
        self.processes[0].kill()

    def kill(self) -> None:
        """End everything."""
        for process in self.processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
