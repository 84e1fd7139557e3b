"""SIGKILL at random moments: the next run goes on, and the artifact's digest is that of an unbroken run."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress

import pytest
from workspaces import TINY, Workspace

from dcpipe import store

pytestmark = pytest.mark.pipeline
LONG = {
    "teacher": ("data/teacher/convnet", "teacher"),
    "features": ("data/features", "features"),
    "softlabels": ("data/softlabels", "softlabels"),
    "compression": ("data/compression", "compression"),
    "evaluation": ("data/evaluation/scores", "scores"),
}


def progress(workspace: Workspace) -> list[str]:
    """Everything on the benches now."""
    root = workspace.root / ".dcpipe/scratch"
    return sorted(str(p.relative_to(root)) for p in root.rglob("*") if p.is_file() and p.suffix != ".lock")


@pytest.mark.parametrize("noun", LONG)
def test_killed_at_random_moments_ends_the_same(copy_of_line: Workspace, noun: str) -> None:
    out, kind = LONG[noun]
    folder = copy_of_line.root / out
    unbroken = store.open_artifact(folder, kind).digest
    words = [noun, "convnet"] if noun == "teacher" else [noun]
    env = {"DCPIPE_CHECKPOINT_SECONDS": "0"}  # a checkpoint every epoch, so that kills fall between them
    started = time.monotonic()
    shutil.rmtree(folder)
    copy_of_line.stage(*words, **env)
    whole = time.monotonic() - started
    assert store.open_artifact(folder, kind).digest == unbroken
    shutil.rmtree(folder)
    chance = random.Random(noun)
    killed = 0
    while killed < 2:
        started = time.monotonic()
        process = copy_of_line.start(sys.executable, "-m", f"flows.{words[0]}", *words[1:], **env)
        with suppress(subprocess.TimeoutExpired):
            process.wait(whole * chance.uniform(0.55, 0.95))
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            killed += 1
        process.communicate()
        if folder.exists():  # it had ended before the kill, because the machine is less busy than before: start over
            whole = time.monotonic() - started
            shutil.rmtree(folder)
    copy_of_line.stage(*words, **env)
    assert store.open_artifact(folder, kind).digest == unbroken


def test_a_killed_labelling_goes_on_where_it_was(copy_of_line: Workspace) -> None:
    """Shards that exist are not made again: their files keep their modification time."""
    folder = copy_of_line.root / "data/softlabels"
    unbroken = store.open_artifact(folder, "softlabels").digest
    shutil.rmtree(folder)
    process = copy_of_line.start(sys.executable, "-m", "flows.softlabels")
    deadline = time.monotonic() + 60
    shards: list[str] = []
    while not shards and time.monotonic() < deadline:
        shards = [name for name in progress(copy_of_line) if "labels.zarr/c/" in name and not name.endswith(".partial")]
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    root = copy_of_line.root / ".dcpipe/scratch"
    kept = {
        name.split("labels.zarr/")[1]: (root / name).stat().st_mtime_ns for name in shards if (root / name).exists()
    }
    assert kept, "the run published before it could be killed"
    copy_of_line.stage("softlabels")
    assert store.open_artifact(folder, "softlabels").digest == unbroken
    for name, changed in kept.items():
        assert (folder / "labels.zarr" / name).stat().st_mtime_ns == changed


def test_changed_parameters_start_anew(copy_of_line: Workspace) -> None:
    """What an older setting left on the bench is not taken for the new one's."""
    copy_of_line.params(softlabels={**TINY["softlabels"], "seed": 7})
    copy_of_line.stage("softlabels")
    other = store.open_artifact(copy_of_line.root / "data/softlabels", "softlabels").digest
    copy_of_line.params()
    copy_of_line.stage("softlabels")
    assert store.open_artifact(copy_of_line.root / "data/softlabels", "softlabels").digest != other


def test_a_flipped_byte_stops_the_next_stage_by_name(copy_of_line: Workspace) -> None:
    path = copy_of_line.root / "data/synthesis/images.parquet"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.unlink()  # it may be a link into DVC's cache
    path.write_bytes(content)
    output = copy_of_line.run(sys.executable, "-m", "flows.softlabels", ok=False)
    assert "data/synthesis/images.parquet is corrupt" in output
    assert "run `dvc checkout --force` or pull the release again" in output
    copy_of_line.run("dvc", "checkout", "--force", "data/synthesis")  # the remedy works when it is typed
    copy_of_line.stage("softlabels")
