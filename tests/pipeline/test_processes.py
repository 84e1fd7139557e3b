"""A teacher trained in two processes by the stage: killed, resumed, and started by torchrun itself."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import pytest
from workspaces import TINY, Workspace

from dcpipe import store

pytestmark = pytest.mark.pipeline
TWO = {"DCPIPE_PROCESSES": "2", "DCPIPE_CHECKPOINT_SECONDS": "0"}
NETWORKS = {"convnet": {"network": "resnet10-w4"}}  # with batch norm
TRAINING = {**TINY["teacher"]["training"], "epochs": 4, "batch_size": 128, "sync_batchnorm": True}


def ranks(workspace: Workspace) -> list[str]:
    """The command lines of the processes that train in this workspace."""
    listed = subprocess.run(["ps", "-axww", "-o", "command="], capture_output=True, text=True, check=True).stdout
    mine = [line for line in listed.splitlines() if str(workspace.root) in line and "dcpipe.teacher.ranks" in line]
    return [line for line in mine if "dcpipe.training.torchrun" not in line]


def wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.1)
    return condition()


def test_a_training_in_two_processes_survives_a_kill(copy_of_line: Workspace) -> None:
    """The stage alone is killed: its processes end too. It goes on where they were, and ends as an unbroken training,
    which is started here by the user's own torchrun."""
    workspace = copy_of_line
    workspace.params(teacher={"networks": NETWORKS, "training": TRAINING})
    stage = workspace.start(sys.executable, "-m", "flows.teacher", "convnet", **TWO)
    checkpoint = ".dcpipe/scratch/data-teacher-*.notes/checkpoint.pt"
    assert wait_until(lambda: any(workspace.root.glob(checkpoint)) or stage.poll() is not None, 300)
    assert len(ranks(workspace)) == 2
    stage.send_signal(signal.SIGKILL)
    assert wait_until(lambda: not ranks(workspace), 60), "they train on into a folder that nobody has locked"
    stage.communicate()
    assert stage.returncode == -signal.SIGKILL

    workspace.stage("teacher", "convnet", **TWO)
    folder = workspace.root / "data/teacher/convnet"
    resumed = store.open_artifact(folder, "teacher")
    shutil.rmtree(folder)
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    workspace.run(sys.executable, *torchrun, "-m", "flows.teacher", "convnet")
    assert store.open_artifact(folder, "teacher").digest == resumed.digest
    assert (folder / "history.json").read_text(encoding="utf-8").count('"processes": 2') == TRAINING["epochs"]
