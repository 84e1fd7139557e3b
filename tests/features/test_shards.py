"""Parts of the features: those of one process, with and without a shortlist."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sent import DIGEST, POLICY, ROOT, STAGING, make_teacher, publish_images, publish_teacher, sent_bytes

from dcpipe import images, networks, store
from dcpipe.features import extract, label_rates, shards
from dcpipe.features.shards import KEYS, Job, extract_part, measure_part, work_of
from dcpipe.types import DataError, ImageTable

CPU = torch.device("cpu")
CLASSES = ("ant", "bee", "cow")
N, SIZE, VIEWS, ROWS = 11, 8, 4, 4
SOURCE = np.random.default_rng(0)
PIXELS = SOURCE.integers(0, 256, (N, SIZE, SIZE, 3), dtype=np.uint8)
IDS = SOURCE.permutation(90)[:N].astype(np.int64)
RATES = {"input": "logits", "coefficient": "sample", "eps2": 0.5}
TEACHER = make_teacher(CLASSES, SIZE)


@pytest.fixture
def job(tmp_path: Path) -> Job:
    images = publish_images(tmp_path / "images", PIXELS, np.arange(N) % 3, IDS, CLASSES, ROWS)
    teacher = publish_teacher(tmp_path / "teacher", TEACHER)
    work_of.forget()
    return Job(
        store.Verified.of(images),
        store.Verified.of(teacher),
        str(tmp_path),
        POLICY,
        VIEWS,
        json.dumps(RATES),
        False,
        64,
        "cpu",
    )


def expected(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    network = networks.from_teacher(TEACHER, CPU)
    vectors, logits = extract(network, TEACHER, PIXELS[rows], batch_size=64, device=CPU)
    rates = label_rates(
        network,
        TEACHER,
        PIXELS[rows],
        IDS[rows],
        policy=POLICY,
        n_views=VIEWS,
        rate_options=RATES,
        batch_size=64,
        device=CPU,
    )
    return vectors, logits, rates


def spans() -> list[np.ndarray]:
    return [np.arange(N)[start : start + ROWS] for start in range(0, N, ROWS)]


def test_parts_are_those_of_the_functions_in_process(job: Job) -> None:
    for part in (2, 0, 1):
        extract_part(job, part)
        work_of.forget()  # as in another process
    work = work_of(job)
    for rows in spans():
        for array, values in zip((work.vectors, work.logits, work.rates), expected(rows), strict=True):
            assert np.array_equal(array.array[rows[0] : rows[-1] + 1], values)
    assert work.rates.missing() == []


def test_a_part_is_decoded_while_another_one_is_computed(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first part holds the device until the second is decoded; no two compute at a time."""
    decoded, computing = threading.Event(), []
    read, compute = images.read_part, shards.extract

    def reading(table: ImageTable, part: int) -> Any:
        found = read(table, part)
        if part == 1:
            decoded.set()
        return found

    def extracting(*args: Any, **options: Any) -> Any:
        computing.append(1)
        assert decoded.wait(timeout=60) and len(computing) == 1
        found = compute(*args, **options)
        computing.pop()
        return found

    monkeypatch.setattr(images, "read_part", reading)
    monkeypatch.setattr(shards, "extract", extracting)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(partial(extract_part, job), (0, 1, 2)))
    for rows in spans():
        found = work_of(job).vectors.array[rows[0] : rows[-1] + 1]
        assert np.array_equal(found, expected(rows)[0])


def test_with_a_shortlist_only_its_images_are_measured(job: Job) -> None:
    job = replace(job, shortlist=True)
    work, rank = work_of(job), np.full(N, -1)
    for part in range(3):
        extract_part(job, part)
    assert work.logits.missing() == [] and work.rates.missing() == [0, 1, 2]
    listed = np.array([1, 9, 10])  # none in the second part
    rank[listed] = [0, 1, 0]
    store.write_columns(Path(job.folder) / KEYS, {"id": IDS, "label": np.arange(N) % 3, "rank": rank})
    for part in range(3):
        measure_part(job, part)
    found = work_of(job).rates.array[:]
    np.testing.assert_array_equal(found[[1]], expected(np.array([1]))[2])
    np.testing.assert_array_equal(found[[9, 10]], expected(np.array([9, 10]))[2])
    assert np.flatnonzero(found).tolist() == listed.tolist() and work.rates.missing() == []


def test_an_artifact_that_was_replaced_is_refused(job: Job, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"teacher was replaced while a stage was reading it; run `dvc repro` again$"):
        extract_part(replace(job, teacher=replace(job.teacher, digest=DIGEST)), 0)


def test_a_shard_of_imagenet_takes_few_bytes() -> None:
    images, teacher = (store.Verified(f"{ROOT}/data/{name}", name, DIGEST) for name in ("images", "teacher"))
    options = json.dumps({"input": "tempered", "temperature": 20.0, "coefficient": "literal", "stored_views": 300})
    job = Job(images, teacher, STAGING, POLICY, 300, options, True, 256, "cuda")
    assert hash(job) == hash(replace(job)) and job != replace(job, device="cpu")
    for work in (extract_part, measure_part):
        assert sent_bytes(partial(work, job), [624, 625]) < 3000
