"""Shards of a label store: those of one process, from files alone."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from sent import DIGEST, POLICY, ROOT, STAGING, imagenet_set, make_teacher, publish_teacher, sent_bytes

from dcpipe import networks, store
from dcpipe.softlabels import label_block
from dcpipe.softlabels.labelling import equal_scales
from dcpipe.softlabels.shards import Job, Work, work_of, write_shard
from dcpipe.types import DataError, Ensemble, ImageSet
from dcpipe.views import multiformation

CPU = torch.device("cpu")
CLASSES = ("ant", "bee", "cow")
SIZE, VIEWS = 8, 5
SOURCE = np.random.default_rng(0)
PIXELS = SOURCE.integers(0, 256, (6, SIZE, SIZE, 3), dtype=np.uint8)
IDS = SOURCE.permutation(90)[:6].astype(np.int64)
TEACHERS = (make_teacher(CLASSES, SIZE, 0), make_teacher(CLASSES, SIZE, 1))


@pytest.mark.parametrize(("grid", "ensemble"), [(1, "mean"), (2, "mean"), (1, "equal_norms")])
def test_shards_are_those_of_the_function_in_process(grid: int, ensemble: Ensemble, tmp_path: Path) -> None:
    images = ImageSet(PIXELS, np.arange(6) % 3, IDS, CLASSES, grid)
    store.save_set(tmp_path, images)
    teachers = tuple(
        store.Verified.of(publish_teacher(tmp_path / f"teacher-{number}", teacher))
        for number, teacher in enumerate(TEACHERS)
    )
    n = 6 * grid**2
    blocks = store.create_blocks(tmp_path / "labels.zarr", (n, VIEWS, 3), "float16", rows=4)
    job = Job(
        store.SetFile.at(tmp_path / "images.parquet", images),
        teachers,
        POLICY,
        7,
        str(blocks.path),
        blocks.array.shape,
        4,
        "cpu",
        ensemble,
    )
    whole = multiformation.decoded(images)
    models, pixels = [networks.from_teacher(teacher, CPU) for teacher in TEACHERS], torch.from_numpy(whole.images)
    scales = None
    if ensemble == "equal_norms":
        scales = equal_scales(models, list(TEACHERS), pixels, whole.ids, policy=POLICY, size=SIZE, batch_size=7)
        assert abs(scales[0] - 1) > 0.01
    for shard in reversed(blocks.missing()):
        work_of.forget()  # as in another process
        write_shard(job, shard)
        rows = np.arange(n)[blocks.span(shard)]
        expected = label_block(
            models,
            list(TEACHERS),
            pixels,
            whole.ids,
            rows,
            policy=POLICY,
            n_views=VIEWS,
            size=SIZE,
            batch_size=7,
            scales=scales,
        )
        assert np.array_equal(blocks.array[rows[0] : rows[-1] + 1], expected)
    assert blocks.missing() == [] and len(blocks) > 1


def test_a_teacher_of_other_classes_is_refused(tmp_path: Path) -> None:
    images = ImageSet(PIXELS, np.arange(6) % 3, IDS, CLASSES)
    blocks = store.create_blocks(tmp_path / "labels.zarr", (6, VIEWS, 3), "float16")
    other = make_teacher(CLASSES[::-1], SIZE)
    with pytest.raises(
        DataError, match=r"^teacher 'main' and images: class 0 is 'cow' on one side and 'ant' on the other"
    ):
        Work.of(blocks, images, {"main": other}, POLICY, 7, CPU)


def test_a_shard_of_imagenet_takes_few_bytes() -> None:
    """Most of it are the names of the classes; of 50,000 images it holds no list."""
    teachers = tuple(store.Verified(f"{ROOT}/data/teacher/{name}", "teacher", DIGEST) for name in ("one", "other"))
    shape = (50_000, 300, 1000)
    job = Job(imagenet_set(), teachers, POLICY, 256, f"{STAGING}/labels.zarr", shape, 80, "cuda")
    assert hash(job) == hash(replace(job)) and job != replace(job, batch_size=1)
    names = len(job.images.meta)
    assert names < 32_000
    assert sent_bytes(partial(write_shard, job), list(range(50))) < names + 3000
