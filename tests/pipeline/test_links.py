"""Data is on the disk once: DVC links it to its cache, and no stage writes into a file that is linked."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from workspaces import TINY, Workspace

pytestmark = pytest.mark.pipeline


@pytest.fixture
def linked(copy_of_line: Workspace) -> Workspace:
    """The line with hard links; where the disk has reflinks, files have no link counts to look at."""
    told = copy_of_line.run(sys.executable, "-m", "dcpipe.cli.links")
    if "by hardlink" not in told:
        pytest.skip(f"this disk makes no hard links, or better ones: {told}")
    copy_of_line.run("dvc", "checkout", "--relink")
    return copy_of_line


def tracked(root: Path) -> Iterator[Path]:
    """The files that DVC has in its cache, as dvc.lock names them."""
    lock = yaml.safe_load((root / "dvc.lock").read_text(encoding="utf-8"))
    for stage in lock["stages"].values():
        for out in stage["outs"]:
            path = root / out["path"]
            yield from (file for file in (path.rglob("*") if path.is_dir() else [path]) if file.is_file())


def content(root: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in tracked(root)}


def damaged(root: Path) -> list[Path]:
    """The objects of the cache whose MD5 is not their name."""
    objects = [path for path in (root / ".dvc/cache/files/md5").glob("??/*") if path.is_file()]
    assert len(objects) > 20
    return [
        path
        for path in objects
        if hashlib.md5(path.read_bytes()).hexdigest() != path.parent.name + path.name.removesuffix(".dir")
    ]


def test_every_file_has_two_names_after_a_second_repro(linked: Workspace) -> None:
    before = content(linked.root)
    linked.params(evaluation={**TINY["evaluation"], "epochs": 1, "baselines": []})
    linked.run("dvc", "repro", "evaluation")
    after = content(linked.root)
    same = {path.name for path in after if after[path] == before.get(path) and "evaluation" in path.parts}
    changed = {path.name for path in after if after[path] != before.get(path) and "evaluation" in path.parts}
    assert {"spectra.csv", "condensed.png"} <= same and {"metrics.json", "accuracy_bytes.csv"} <= changed
    assert {path: path.stat().st_nlink for path in after if path.stat().st_nlink < 2} == {}
    assert damaged(linked.root) == []


def test_a_stage_run_by_hand_leaves_the_cache_as_it_is(linked: Workspace) -> None:
    linked.params(evaluation={**TINY["evaluation"], "epochs": 1, "baselines": []})
    before = content(linked.root)
    for stage in ("sources", "selection", "evaluation", "release"):  # without DVC, which removes what is there
        linked.stage(stage)
    after = content(linked.root)
    assert any(after[path] != before[path] for path in before if path.name == "metrics.json")
    assert damaged(linked.root) == []
