"""What the pipeline reads from outside changes: a folder of images, and the names of teachers."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from workspaces import TINY, Workspace, stages_run

from dcpipe import images

pytestmark = pytest.mark.pipeline


def write_folder(folder: Path, per_class: int) -> None:
    """Distinct images in three classes, 20 of each in val."""
    rng = np.random.default_rng(0)
    for split, n in (("train", per_class), ("val", 20)):
        for name in "abc":
            (folder / split / name).mkdir(parents=True)
            for i in range(n):
                pixels = Image.fromarray(rng.integers(0, 255, (8, 8, 3), dtype=np.uint8))
                pixels.save(folder / split / name / f"{i:05d}.png", compress_level=0)


def names(workspace: Workspace) -> Counter[str]:
    """How often each file is in train or minival."""
    found: Counter[str] = Counter()
    for split in ("train", "minival"):
        for file in (workspace.root / "data/images" / split).glob("*.parquet"):
            found.update(row["image"]["path"] for row in pq.read_table(file).to_pylist())
    return found


def test_changes_of_the_source_are_noticed(make_workspace: Callable[[str], Workspace], tmp_path: Path) -> None:
    """A broken image is removed as the message says, and parts of the old listing are not mixed with new ones; after a
    finished run, `dvc repro` notices a changed image."""
    workspace, folder = make_workspace("folder"), tmp_path / "set"
    write_folder(folder, images.PART_ROWS // 3 + 100)
    block = {"source": "imagefolder", "options": {"path": str(folder)}, "size": 8, "minival": 0.1}
    workspace.params(images=block, compression={"codec": "none"})
    broken = folder / "train/c/00700.png"  # in the second part
    broken.write_bytes(b"broken")
    output = workspace.run(sys.executable, "-m", "flows.images", ok=False)
    assert "images is corrupt: train/c/00700.png (its 6 bytes" in output and "Traceback" not in output
    broken.unlink()
    workspace.run("dvc", "repro", "images")
    files = {path.relative_to(folder).as_posix() for path in (folder / "train").rglob("*.png")}
    assert names(workspace) == Counter(files), "every image once"
    assert stages_run(workspace.run("dvc", "repro", "images")) == []
    os.utime(folder / "train/a/00000.png", ns=(1, 1))
    assert stages_run(workspace.run("dvc", "repro", "images")) == ["images"]
    folder.rename(folder.with_name("elsewhere"))  # as in a clone on another machine
    assert stages_run(workspace.run("dvc", "repro", "images")) == []


def test_a_renamed_teacher_makes_nothing_stale_in_a_clone(copy_of_line: Workspace, tmp_path: Path) -> None:
    copy_of_line.params(
        teacher={**TINY["teacher"], "networks": {"other": {"network": "convnet-d2-w8"}}},
        features={**TINY["features"], "teacher": "other"},
        softlabels={**TINY["softlabels"], "teachers": ["other"]},
    )
    output = copy_of_line.run("dvc", "repro", "softlabels")
    assert "moved data/teacher/convnet to .dcpipe/former/teacher/convnet" in output
    copy_of_line.run("dvc", "remote", "add", "-q", "-d", "r", str(tmp_path / "pushed"))
    copy_of_line.commit("Rename the teacher")
    copy_of_line.run("dvc", "push", "-q")
    clone = Workspace(tmp_path / "clone", {**copy_of_line.env, "DCPIPE_CACHE": str(tmp_path / "other-cache")})
    copy_of_line.run("git", "clone", "-q", ".", str(clone.root))
    clone.run("dvc", "pull", "-q", "images", "teacher@other", "features", "selection", "synthesis", "softlabels")
    clone.run("dvc", "pull", "-q", "data/dvc.yaml")
    assert clone.run("dvc", "status", "--json", "synthesis", "softlabels").strip() == "{}"
    assert stages_run(clone.run("dvc", "repro", "softlabels")) == []
