"""What Prefect adds to a stage: the same stage with `off`, with `auto` and no server, and with a server.

    python benchmarks/prefect_share.py            in a workspace where `dvc repro` has run once

Starts a server of its own on loopback. Each figure is the median of three runs of the selection stage.
"""

from __future__ import annotations

import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request


def run(**env: str) -> float:
    """Median seconds of `python -m flows.selection`."""
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "flows.selection"], check=True, capture_output=True, env={**os.environ, **env}
        )
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def main() -> None:
    """Print the three figures and both shares."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}/api"
    off = run(DCPIPE_PREFECT="off")
    nobody = run(DCPIPE_PREFECT="auto", PREFECT_API_URL=url)
    with tempfile.TemporaryDirectory() as home:
        server = subprocess.Popen(
            ["prefect", "server", "start", "--port", str(port)],
            env={**os.environ, "PREFECT_HOME": home},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            for _ in range(120):
                try:
                    urllib.request.urlopen(f"{url}/health", timeout=2).close()
                    break
                except OSError:
                    time.sleep(0.5)
            served = run(DCPIPE_PREFECT="require", PREFECT_API_URL=url)
        finally:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()
    print(f"off {off:.2f} s; auto without a server {nobody:.2f} s; with a server {served:.2f} s")
    print(f"Prefect's share: {nobody - off:.2f} s without a server, {served - off:.2f} s with one")


if __name__ == "__main__":
    main()
