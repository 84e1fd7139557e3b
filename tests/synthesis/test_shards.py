"""One batch as a shard: its size when it is sent, what it reads, and what it reports."""

from __future__ import annotations

import pickle
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scenes import EVERYTHING
from stored_worlds import StoredWorld

from dcpipe.shards import is_shard, progress
from dcpipe.synthesis import recovery, shards
from dcpipe.synthesis.checkpoints import RecoveryNotes
from dcpipe.types import DataError, ImageTable


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> StoredWorld:
    return StoredWorld(tmp_path_factory.mktemp("world"))


def job_in(world: StoredWorld, **changes: Any) -> shards.Job:
    job = shards.job_of(world.engine(replace(EVERYTHING, **changes)))
    assert job is not None
    return job


def test_a_job_at_the_size_of_imagenet_is_small(tmp_path: Path) -> None:
    """1,000 classes, 1.28 million images, 50,000 of them in the set, five observers, and long paths."""
    folder = "/a/folder/with/a/long/path" * 8
    n, classes = 1_281_167, tuple(f"a name of class {number:04d}, another name" for number in range(1000))
    labels = np.arange(n) % 1000
    origin = (f"{folder}/images", "f" * 64, "train")
    parts = tuple(Path(f"{folder}/train-{part:05d}.parquet") for part in range(-(-n // 2048)))
    table = ImageTable(parts, 2048, np.arange(n), labels, classes, 224, (0.5, 0.5, 0.5), (0.2, 0.2, 0.2), origin)
    engine = SimpleNamespace(
        context=SimpleNamespace(table=table, device="cuda"),
        chosen={f"net{number}": SimpleNamespace(origin=(f"{folder}/{number}", "e" * 64)) for number in range(5)},
        choices=replace(EVERYTHING, observers=[f"net{number}" for number in range(5)]),
        notes=RecoveryNotes(tmp_path, "d" * 64),
        start=SimpleNamespace(ids=np.arange(50_000)),
        progress=SimpleNamespace(notes=Path(folder), shared=Path(folder)),
        seed=0,
    )
    job = shards.job_of(cast(Any, engine))
    work = partial(shards.recover_batch, job)
    assert is_shard(work) and hash(job) == hash(pickle.loads(pickle.dumps(job)))
    assert len(pickle.dumps((work, 624))) < 5_000
    assert len(RecoveryNotes(tmp_path, "d" * 64).ids()) == 50_000


def test_an_opened_job_is_the_engine_that_it_came_from(stored: StoredWorld) -> None:
    job, engine = (
        job_in(stored, observers=["conv", "res"]),
        stored.engine(replace(EVERYTHING, observers=["conv", "res"])),
    )
    found = shards.work_of(pickle.loads(pickle.dumps(job))).engine
    assert list(found.observers) == ["conv", "res"] and found.notes == engine.notes
    assert [rows.tolist() for rows in found.rows] == [rows.tolist() for rows in engine.rows]
    assert (found.start.labels.tolist(), found.start.ids.tolist()) == (
        engine.start.labels.tolist(),
        engine.start.ids.tolist(),
    )
    for rows in engine.rows:
        assert np.array_equal(found.pixels(rows).numpy(), engine.pixels(rows).numpy())
    shards.work_of.forget()


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_selected_images_are_those_of_the_selection(stored: StoredWorld, data: st.DataObject) -> None:
    start = stored.start
    lazy = shards.SelectedImages(stored.table, stored.table.rows_of(start.ids))
    assert (lazy.shape, lazy.dtype, len(lazy)) == (start.images.shape, start.images.dtype, len(start))
    rows = np.array(data.draw(st.lists(st.integers(0, len(start) - 1), max_size=10)), dtype=np.int64)
    assert np.array_equal(lazy[rows], start.images[rows])


def test_other_choices_images_and_seeds_are_other_jobs(tmp_path: Path) -> None:
    world = StoredWorld(tmp_path)
    jobs = {
        job_in(world),
        job_in(world, lr=0.2),
        job_in(world, observers=["conv"]),
        shards.job_of(world.engine(seed=4)),
    }
    assert len(jobs) == 4 and job_in(world) in jobs
    world.labels = world.labels[::-1].copy()
    assert job_in(world) not in jobs


def test_a_worker_reports_the_steps_of_its_batch(stored: StoredWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recovery, "REPORT_SECONDS", -1.0)
    told: list[progress.Step] = []
    with progress.reporting_to(told.append):
        shards.recover_batch(job_in(stored, batch_size=3), 2)
    assert [(step.title, step.done, step.total) for step in told] == [("batch 3 of 3", done, 5) for done in range(1, 6)]
    assert all(step.note.startswith("match ") and "density" in step.note for step in told)
    shards.work_of.forget()


@pytest.mark.parametrize("gone", ["teacher", "ids", "statistics"])
def test_a_worker_names_what_it_lacks(tmp_path: Path, gone: str) -> None:
    world = StoredWorld(tmp_path)
    job = job_in(world)
    if gone == "teacher":
        job = replace(job, observers=tuple((name, replace(file, digest="0" * 64)) for name, file in job.observers))
    elif gone == "ids":
        (tmp_path / "notes" / "recovery-ids.pt").unlink()
    else:
        for path in (tmp_path / "shared").iterdir():
            path.unlink()
    words = {
        "teacher": r"was replaced while a stage was reading it; run `dvc repro` again$",
        "ids": r"recovery-ids\.pt was removed while images were recovered; run the stage again$",
        "statistics": r"^statistics in .*shared or mosaics in .*notes were removed while images were recovered; run",
    }
    with pytest.raises(DataError, match=words[gone]):
        shards.recover_batch(job, 0)
