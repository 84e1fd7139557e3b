"""A workspace of its own for every test that runs the real commands: a Git and DVC repository with tiny parameters."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import yaml

ROOT = Path(__file__).resolve().parents[2]
EACH = """
import importlib, json, pathlib, shutil, sys, yaml
from flows.running.runtime import run_stage
stage = sys.argv[1]
function = getattr(importlib.import_module(f"flows.{stage}"), f"{stage}_stage")
for name, content in json.loads(pathlib.Path("cases.json").read_text()).items():
    pathlib.Path("params.yaml").write_text(yaml.safe_dump(content))
    run_stage(function, stage)
    shutil.copytree(f"data/{stage}", f"cases/{name}")
"""
REFUSALS = """
import importlib, json, pathlib, sys, yaml
from flows.running.runtime import main
del sys.argv[1:]
for name, (stage, content) in json.loads(pathlib.Path("cases.json").read_text()).items():
    pathlib.Path("params.yaml").write_text(yaml.safe_dump(content))
    print(f"case {name}", flush=True)
    try:
        main(getattr(importlib.import_module(f"flows.{stage}"), f"{stage}_stage"), stage)
    except SystemExit as end:
        print(f"ended with {end.code}", flush=True)
"""
AUGMENTATION = {"scale_min": 0.6, "flip": 0.0}
TINY: dict[str, Any] = {
    "images": {"source": "digits", "options": {"test_share": 0.2, "seed": 0}, "size": 8, "minival": 0.1},
    "teacher": {
        "networks": {"convnet": {"network": "convnet-d2-w8"}},
        "training": {"epochs": 6, "batch_size": 64, "optimizer": "adamw", "lr": 0.01, "augmentation": AUGMENTATION},
    },
    "features": {"teacher": "convnet", "label_rate": {"views": 4, "stored_views": 8}, "augmentation": AUGMENTATION},
    "selection": {"method": "score", "ipc": 3, "options": {"alpha": 5.0, "beta": 1.0}},
    "synthesis": {"method": "none"},
    "softlabels": {"teachers": ["convnet"], "views": 8, "augmentation": AUGMENTATION, "mix": "cutmix_labels"},
    "compression": {"codec": "svd", "ratio": 2},
    "evaluation": {"student": "convnet-d2-w8", "epochs": 4, "batch_size": 10, "temperature": 4.0},
    "release": {"name": "tiny-digits", "licence": "CC-BY-4.0"},
}


def stages_run(output: str) -> list[str]:
    """The stages that a `dvc repro` ran, in order, without the listing of sources, which always runs."""
    return [stage for stage in re.findall(r"Running stage '([^']+)'", output) if stage != "data/dvc.yaml:sources"]


@dataclass
class Workspace:
    """A copy of the project with its own data, run through real commands."""

    root: Path
    env: dict[str, str] = field(default_factory=dict)
    first_repro: str = ""  # what the first `dvc repro` printed

    def copy(self, folder: Path) -> Workspace:
        """A copy in `folder`, with a cache and a remote of its own."""
        root = folder / "workspace"
        shutil.copytree(self.root, root, symlinks=True)
        return Workspace(
            root, {**self.env, "DCPIPE_CACHE": str(folder / "cache"), "DCPIPE_REMOTE": str(folder / "remote")}
        )

    def start(self, *command: str, **env: str) -> subprocess.Popen[str]:
        """Start a command in a process group of its own."""
        return subprocess.Popen(
            command,
            cwd=self.root,
            env={**self.env, **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, *command: str, ok: bool = True, **env: str) -> str:
        """Run a command to its end and return what it printed; with `ok`, it must succeed."""
        process = self.start(*command, **env)
        output, _ = process.communicate(timeout=600)
        assert not ok or process.returncode == 0, f"{command} ended with {process.returncode}:\n{output}"
        assert ok or process.returncode != 0, f"{command} should have failed:\n{output}"
        return output

    def stage(self, *words: str, **env: str) -> str:
        """Run one stage's flow."""
        return self.run(sys.executable, "-m", f"flows.{words[0]}", *words[1:], **env)

    def each(self, stage: str, cases: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, Path]]:
        """Run one stage's flow with other blocks of params.yaml for each case, all in one process, because starting one
        takes longer than the work. Gives the name and the artifact of each case."""
        contents = {name: {**TINY, **blocks} for name, blocks in cases.items()}
        (self.root / "cases.json").write_text(json.dumps(contents), encoding="utf-8")
        self.run(sys.executable, "-c", EACH, stage)
        yield from ((name, self.root / "cases" / name) for name in cases)

    def refusals(self, cases: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
        """What the stage of the first block of each case prints, whose command line must refuse it; all in one
        process."""
        contents = {name: (next(iter(blocks)), {**TINY, **blocks}) for name, blocks in cases.items()}
        (self.root / "cases.json").write_text(json.dumps(contents), encoding="utf-8")
        told = self.run(sys.executable, "-c", REFUSALS)
        found = dict(re.findall(r"^case (\w+)\n(.*?)^ended with 1$", told, re.MULTILINE | re.DOTALL))
        assert list(found) == list(cases), told
        return found

    def kill(self, noun: str, place: Callable[[], int], wanted: int, **env: str) -> list[int]:
        """Run a stage's flow until `place` is `wanted` or more, then SIGKILL it; the places it had, the last when it
        was dead."""
        process = self.start(sys.executable, "-m", f"flows.{noun}", **env)
        places, deadline = [place()], time.monotonic() + 300
        while places[-1] < wanted and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
            places.append(place())
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        told, _ = process.communicate()
        assert process.returncode == -signal.SIGKILL, f"{noun} ended before it could be killed:\n{told}"
        return [*places, place()]

    def kept(self, name: str) -> dict[str, Any]:
        """The checkpoint of that name that a broken synthesis has left; empty without one."""
        for path in self.root.glob(f".dcpipe/scratch/data-synthesis-*.notes/{name}"):
            content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
            return content
        return {}

    def params(self, **blocks: Any) -> None:
        """Write params.yaml: the tiny ones, with blocks replaced."""
        (self.root / "params.yaml").write_text(yaml.safe_dump({**TINY, **blocks}), encoding="utf-8")

    def commit(self, message: str) -> None:
        """Commit everything Git would track."""
        self.run("git", "add", "-A")
        self.run("git", "commit", "-q", "--allow-empty", "-m", message)
