"""The demo as a whole: `dvc repro` from nothing, then again.

    python benchmarks/demo.py          in a workspace of your own; its data and run-cache are left alone

Works in a temporary clone, so that nothing is cached.
"""

from __future__ import annotations

import subprocess
import tempfile
import time
from pathlib import Path


def main() -> None:
    """Print both times."""
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "clone"
        subprocess.run(["git", "clone", "-q", ".", str(clone)], check=True)
        for name in ("first", "second"):
            started = time.perf_counter()
            subprocess.run(["dvc", "repro", "-q"], cwd=clone, check=True)
            print(f"{name} dvc repro: {time.perf_counter() - started:.1f} s")
        subprocess.run(["dcpipe", "status"], cwd=clone, check=True)


if __name__ == "__main__":
    main()
