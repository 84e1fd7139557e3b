"""A plan against what the pipeline really leaves on disk."""

from __future__ import annotations

import json

import pytest
from workspaces import Workspace

pytestmark = pytest.mark.pipeline

# Stage -> (its folder, how far its bytes may be from those that were planned, as a share). Arrays and packs are
# counted, manifests and the sizes of encoded images are guessed.
EXPECTED = {
    "images": ("images", 0.05),
    "teacher@convnet": ("teacher/convnet", 0.2),
    "features": ("features", 0.05),
    "selection": ("selection", 0.4),  # a manifest and 30 picks
    "synthesis": ("synthesis", 0.3),
    "softlabels": ("softlabels", 0.05),
    "compression": ("compression", 0.1),
}


def test_bytes_and_files_are_those_on_disk(line: Workspace) -> None:
    planned = {row["stage"]: row for row in plan_of(line)["stages"]}
    told = []
    for stage, (place, share) in EXPECTED.items():
        files = [path for path in (line.root / "data" / place).rglob("*") if path.is_file()]
        n_bytes = sum(path.stat().st_size for path in files)
        assert planned[stage]["files"] == len(files), f"{stage}: {sorted(path.name for path in files)}"
        off = abs(planned[stage]["bytes"] - n_bytes) / n_bytes
        told.append(f"{stage}: {planned[stage]['bytes']} planned, {n_bytes} on disk")
        assert off <= share, told
    evaluation = [path for path in (line.root / "data" / "evaluation").rglob("*") if path.is_file()]
    assert planned["evaluation"]["files"] == len(evaluation), sorted(path.name for path in evaluation)
    release = [path for path in (line.root / "data" / "release").rglob("*") if path.is_file()]
    assert planned["release"]["files"] == len(release), sorted(path.name for path in release)


def test_counts_are_those_of_the_images(line: Workspace) -> None:
    manifest = json.loads((line.root / "data" / "images" / "artifact.json").read_text(encoding="utf-8"))
    counts = plan_of(line)["counts"]
    assert {split: counts[split] for split in ("train", "minival", "test")} == manifest["meta"]["counts"]


def plan_of(workspace: Workspace, *arguments: str) -> dict[str, list[dict[str, int]]]:
    told = workspace.run("dcpipe", "plan", "--device", "h100", "--json", *arguments)
    content: dict[str, list[dict[str, int]]] = json.loads(told)
    return content
