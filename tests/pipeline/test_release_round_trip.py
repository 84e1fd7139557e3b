"""Publish two versions of a condensed dataset, pull each by its tag somewhere else, verify, load, train an epoch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader
from workspaces import TINY, Workspace

import dcpipe
from dcpipe import networks, store
from dcpipe.types import DataError

pytestmark = pytest.mark.pipeline


def test_two_versions_pulled_by_tag_load_and_train(
    copy_of_line: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = copy_of_line
    workspace.commit("version 1")
    assert "tiny-digits@v1.0.0" in workspace.run("dcpipe", "publish", "tiny-digits@v1.0.0")
    short = {**TINY["evaluation"], "baselines": []}
    workspace.params(compression={"codec": "prune", "ratio": 2}, evaluation=short)
    refused = workspace.run("dcpipe", "publish", "tiny-digits@v2.0.0", ok=False)
    assert "Traceback" not in refused  # not committed, and not reproduced either
    workspace.run("dvc", "repro")
    workspace.commit("version 2")
    workspace.run("dcpipe", "publish", "tiny-digits@v2.0.0")

    bare = tmp_path / "hub.git"
    workspace.run("git", "clone", "-q", "--bare", ".", str(bare))
    digests = set()
    for tag, codec in (("tiny-digits@v1.0.0", "svd"), ("tiny-digits@v2.0.0", "prune")):
        out = tmp_path / tag
        workspace.run("dcpipe", "pull", tag, "--repo", str(bare), "--out", str(out))
        digests.add(store.open_artifact(out, "release").digest)
        release = dcpipe.load(out)
        assert release.pack is not None and release.pack.codec == codec
        assert len(release.images) == 30
    assert len(digests) == 2

    monkeypatch.setenv("DCPIPE_CACHE", str(tmp_path / "cache"))
    release = dcpipe.load("tiny-digits@v1.0.0", repo=str(bare), ipc=2)
    dataset = release.dataset(temperature=4.0)
    dataset.set_epoch(0)
    assert len(dataset) == 20
    torch.manual_seed(0)
    student = networks.build("convnet-d2-w8", 10, 8)
    optimizer = torch.optim.AdamW(student.parameters(), lr=0.01)
    before = [parameter.detach().clone() for parameter in student.parameters()]
    seen = 0
    for images, targets in DataLoader(dataset, batch_size=7, shuffle=True):
        loss = -(targets * torch.log_softmax(student(images) / 4.0, dim=1)).sum(1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        assert torch.isfinite(loss)
        seen += len(images)
    assert seen == 20
    assert any(not torch.equal(a, b) for a, b in zip(before, student.parameters(), strict=True))

    path = tmp_path / "tiny-digits@v1.0.0" / "labels.safetensors"
    path.chmod(0o644)
    content = bytearray(path.read_bytes())
    content[np.random.default_rng(0).integers(len(content))] ^= 16
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"labels\.safetensors is corrupt"):
        dcpipe.load(tmp_path / "tiny-digits@v1.0.0")
