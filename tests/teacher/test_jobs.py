"""A training as a description: what another process reads is what was written."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from image_tables import write_table

from dcpipe import store
from dcpipe.teacher.jobs import Job
from dcpipe.training import Recipe
from dcpipe.types import DataError, ViewPolicy

JOB = Job(
    network="convnet-d1-w4",
    weights=None,
    head=None,
    input_size=None,
    images=store.Verified("/data/images", "images", "ab" * 32),
    policy=ViewPolicy(scale_min=0.3, seed=2**63 - 1, siamese="color_crop"),
    recipe=Recipe(3, "sgd", 0.1, 5e-4, zeta=1.0 / 3.0),
    batch_size=16,
    sync_batchnorm=True,
    seed=-5,
    mean=(0.1, 0.2, 0.3),
    std=(0.25, 1.0 / 3.0, 0.2),
    checkpoint="/notes/checkpoint.pt",
    device="cpu",
)


@pytest.mark.parametrize(
    "job",
    [
        JOB,
        replace(JOB, weights="é.safetensors", head="linear", input_size=64, recipe=None, sync_batchnorm=False),
        replace(JOB, full_crops=True),
    ],
)
def test_a_job_survives_its_journey(job: Job) -> None:
    assert Job.from_json(job.to_json()) == job


def test_a_job_trains_and_goes_on_from_its_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, folder = np.random.default_rng(0), tmp_path / "parts"
    folder.mkdir()
    pixels, labels = source.integers(0, 150, (40, 8, 8, 3), dtype=np.uint8), source.integers(0, 3, 40)
    table = write_table(folder, pixels, labels, np.arange(40), 16, ("a", "b", "c"))
    monkeypatch.setattr(store, "table_of", lambda artifact, split: table)
    monkeypatch.setattr(store.Verified, "open", lambda self: None)
    job, rows = replace(JOB, checkpoint=str(tmp_path / "checkpoint.pt"), policy=ViewPolicy()), []
    network, history = job.train(rows.append)
    assert rows == history and [row["epoch"] for row in rows] == [0, 1, 2]
    for part in table.parts:  # a finished training reads no image
        part.unlink()
    again, same = job.train(rows.append)
    assert same == history and len(rows) == 3
    ours, theirs = network.state_dict(), again.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    job.check(13)
    with pytest.raises(DataError, match=r"^teacher\.training\.batch_size is 16, and the smallest batch of an epoch"):
        job.check(14)
