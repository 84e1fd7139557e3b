"""Tables of DVCLive."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any


class DVCLive:
    """A folder of DVCLive's: one table per value, and the last values in metrics.json.

    DVCLive makes neither an experiment nor a dvc.yaml: what a stage leaves is the affair of the workspace's own one.
    """

    def __init__(self, folder: Path) -> None:
        from dvclive.live import Live

        self.live: Any = Live(str(folder), save_dvc_exp=False, dvcyaml=None, report=None)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Write the values of a step by name."""
        self.live.step = step
        for name, value in values.items():
            self.live.log_metric(name, value)
        self.live.make_summary()

    def close(self) -> None:
        """Write what is not written yet."""
        self.live.end()
