"""Parts of the table of images: those of one process, whoever writes them, and none is written twice."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from image_sources import write_set
from sent import STAGING, sent_bytes

from dcpipe import images
from dcpipe.images import shards
from dcpipe.images.index import placed
from dcpipe.images.shards import Job, Original, changed_parts, parts_of, splits_of, write_again, write_part
from dcpipe.store.columns import read_columns
from dcpipe.store.image_index import read_index


@pytest.fixture
def job(make_source: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Job:
    """Parts of 16 of 50 images, a fifth of which become minival."""
    train, test = make_source(n=50, seed=1)[0], make_source(n=20, seed=2)[0]

    def source(**options: Any) -> dict[str, Any]:

        return {"train": train, "test": test}

    monkeypatch.setitem(images.SOURCES, "listed", source)
    monkeypatch.setattr(shards, "PART_ROWS", 16)
    splits_of.forget()
    for name in ("made", "notes"):
        (tmp_path / name).mkdir()
    return Job(Original("listed", "{}", "", 0.2, 7), 6, str(tmp_path / "made"), str(tmp_path / "notes"))


def test_every_image_is_in_one_part(job: Job) -> None:
    splits = splits_of(job.original)
    assert parts_of(splits.rows) == [("train", 0), ("train", 1), ("train", 2), ("minival", 0), ("test", 0), ("test", 1)]
    together = np.sort(np.concatenate([splits.rows["train"], splits.rows["minival"]]))
    assert together.tolist() == list(range(50)) and splits.rows["test"].tolist() == list(range(20))
    again = images.split_minival(splits.train.labels, 0.2, 7)
    assert [rows.tolist() for rows in again] == [splits.rows[name].tolist() for name in ("train", "minival")]


def test_a_part_has_its_rows_and_their_report(job: Job) -> None:
    splits = splits_of(job.original)
    for part in parts_of(splits.rows):
        report = write_part(job, part)
        split, index = part
        rows = splits.rows[split][16 * index : 16 * index + 16]
        source = splits.test if split == "test" else splits.train
        encoded, expected = images.inspect_part(source, rows, splits.train.classes, 6, rows)
        assert report == expected
        stored = read_columns(job.path(part), {"id": "int64", "label": "int64"})
        assert stored["id"].tolist() == rows.tolist() == [row.id for row in encoded]
        assert stored["label"].tolist() == source.labels[rows].tolist()
    assert job.path(("test", 1)) == Path(job.folder) / "test" / "part-00001.parquet"


def test_the_same_part_has_the_same_bytes_in_any_order(job: Job, tmp_path: Path) -> None:
    parts = parts_of(splits_of(job.original).rows)
    for part in parts:
        write_part(job, part)
    first = {part: job.path(part).read_bytes() for part in parts}
    other = replace(job, folder=str(tmp_path / "other"), notes=str(tmp_path / "other"))
    (tmp_path / "other").mkdir()
    splits_of.forget()  # as in another process
    for part in parts[::-1]:
        write_part(other, part)
    assert {part: other.path(part).read_bytes() for part in parts} == first


@pytest.mark.parametrize("lost", ["part", "report", "neither"])
def test_a_part_that_is_there_with_its_report_is_not_read_again(
    job: Job, lost: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    part, calls, inspect = ("train", 1), list[int](), images.inspect_part
    report = write_part(job, part)
    note = Path(job.notes) / "train-00001.json"
    assert images.PartReport.from_json(json.loads(note.read_text(encoding="utf-8"))) == report
    {"part": job.path(part), "report": note}.get(lost, job.path(("train", 9))).unlink(missing_ok=True)
    monkeypatch.setattr(shards, "inspect_part", lambda *given: calls.append(1) or inspect(*given))
    assert write_part(job, part) == report
    assert calls == ([] if lost == "neither" else [1]) and job.path(part).exists() and note.exists()


def test_a_part_of_an_index_is_that_of_any_process_and_is_not_made_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"path": str(tmp_path / "set"), **write_set(tmp_path / "set", "imagefolder")}
    for name in ("made", "notes"):
        (tmp_path / name).mkdir()
    original = Original("imagefolder", json.dumps(options), "", 0.2, 7)
    job, part = Job(original, 6, str(tmp_path / "made"), str(tmp_path / "notes"), copies=False), ("minival", 0)
    splits_of.forget()
    report = write_part(job, part)
    splits = splits_of(original)
    rows = splits.rows["minival"]
    encoded, expected = images.inspect_part(splits.train, rows, splits.train.classes, 6, rows)
    assert report == expected
    first, stored = job.path(part).read_bytes(), read_index(job.path(part), np.arange(len(rows)))
    assert stored == placed(splits.train, rows, encoded, "imagefolder")
    assert [tmp_path / "set" / image.file for image in stored] == [tmp_path / "set" / image.path for image in encoded]
    with monkeypatch.context() as patch:
        patch.setattr(shards, "inspect_part", None)
        assert write_part(job, part) == report
    job.path(part).unlink()
    assert write_part(job, part) == report and job.path(part).read_bytes() == first


@pytest.mark.parametrize("copies", [True, False])
def test_parts_are_written_again_with_other_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, copies: bool) -> None:
    """As if the source had no other images: the same bytes as where the part had these rows from the start."""
    options = {"path": str(tmp_path / "set"), **write_set(tmp_path / "set", "imagefolder")}
    for name in ("made", "notes"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(shards, "PART_ROWS", 8)
    original = Original("imagefolder", json.dumps(options), "", 0.2, 7)
    job = Job(original, 6, str(tmp_path / "made"), str(tmp_path / "notes"), copies)
    splits_of.forget()
    before = splits_of(original).rows
    for part in parts_of(before):
        write_part(job, part)
    first = {part: job.path(part).read_bytes() for part in parts_of(before)}
    after = {**before, "train": np.delete(before["train"], [10, 12])}
    changed = changed_parts(before, after)
    assert [part for part, _ in changed] == [("train", 1), ("train", 2), ("train", 3)]
    assert np.array_equal(np.concatenate([rows for _, rows in changed]), after["train"][8:])
    for given in changed:
        write_again(job, given)
    stored = [read_columns(job.path(part), {"id": "int64", "label": "int64"}) for part, _ in changed]
    assert np.concatenate([columns["id"] for columns in stored]).tolist() == after["train"][8:].tolist()
    labels = splits_of(original).train.labels[after["train"][8:]]
    assert np.concatenate([columns["label"] for columns in stored]).tolist() == labels.tolist()
    for part, rows in changed_parts(after, before):
        write_again(job, (part, rows))
    assert {part: job.path(part).read_bytes() for part in first} == first


def test_a_shard_of_imagenet_takes_few_bytes() -> None:
    original = Original("imagefolder", json.dumps({"path": "/mnt/imagenet/train"}), "0" * 64, 0.01, 0)
    job = Job(original, 224, STAGING, f"{STAGING}.notes")
    assert hash(job) == hash(replace(job)) and job != replace(job, size=64)
    assert sent_bytes(partial(write_part, job), [("train", 624), ("train", 625)]) < 3000
