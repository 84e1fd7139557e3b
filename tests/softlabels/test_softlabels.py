"""Soft labels of a whole set, shard by shard: all of them, resumed after a kill, and refused where they cannot be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sent import make_teacher, publish_teacher

from dcpipe import networks, store
from dcpipe.shards import is_shard
from dcpipe.softlabels import fill, label_block, shape_of, shards
from dcpipe.types import DataError, ImageSet, ViewPolicy

CPU = torch.device("cpu")
CLASSES = ("ant", "bee", "cow", "dog")
N, VIEWS, SIZE = 7, 5, 8
IDS = np.array([31, 4, 15, 92, 65, 35, 8])
POLICY = ViewPolicy(scale_min=0.3, seed=2)
TEACHER = make_teacher(CLASSES, SIZE)
PIXELS = np.random.default_rng(0).integers(0, 256, (N, SIZE, SIZE, 3), dtype=np.uint8)
IMAGES = ImageSet(PIXELS, np.arange(N) % len(CLASSES), IDS, CLASSES)
# Other batch sizes take other paths through a convolution: fp32 sums differ, and fp16 rounds them a step apart.
CLOSE = {"rtol": 2e-3, "atol": 2e-3}


def labels() -> np.ndarray:
    return label_block(
        [networks.from_teacher(TEACHER, CPU)],
        [TEACHER],
        torch.from_numpy(PIXELS),
        IDS,
        np.arange(N),
        policy=POLICY,
        n_views=VIEWS,
        size=SIZE,
        batch_size=8,
    )


def filled(folder: Path, tasks: Callable[..., Any], images: ImageSet = IMAGES) -> store.Blocks:
    blocks = store.create_blocks(folder / "labels.zarr", shape_of(images, VIEWS), "float16", rows=2)
    teachers = {"main": TEACHER}
    fill(blocks, images, teachers, policy=POLICY, batch_size=8, device=CPU, map_tasks=tasks)
    return blocks


def test_a_store_is_filled_with_the_labels_of_every_image(scratch: Path) -> None:
    seen: list[tuple[str, dict[str, Any]]] = []

    def tasks(work: Callable[[int], None], items: list[int], label: Callable[[int], str], **options: Any) -> None:
        for item in items:
            seen.append((label(item), options))
            work(item)

    blocks = filled(scratch.parent, tasks)
    np.testing.assert_allclose(blocks.array[:], labels(), **CLOSE)
    assert [name for name, _ in seen] == [f"softlabels[{shard:05d}]" for shard in range(4)]
    assert all(options == {"retries": 2, "workers": 2, "progress": "softlabels"} for _, options in seen)


def test_a_killed_labelling_goes_on_with_the_shards_that_are_missing(scratch: Path) -> None:
    done: list[int] = []

    def tasks(work: Callable[[int], None], items: list[int], label: Any, **options: Any) -> None:
        for item in items:
            if len(done) == 2:
                raise KeyboardInterrupt
            work(item)
            done.append(item)

    with pytest.raises(KeyboardInterrupt):
        filled(scratch.parent, tasks)
    assert done == [0, 1]
    blocks = filled(scratch.parent, lambda work, items, label, **options: done.extend(work(i) or i for i in items))
    assert done == [0, 1, 2, 3]
    np.testing.assert_allclose(blocks.array[:], labels(), **CLOSE)


def test_grids_and_teachers_of_other_classes_are_refused(scratch: Path) -> None:
    with pytest.raises(DataError, match=r"^soft labels need decoded images, but these have grid 2; decode them first$"):
        shape_of(replace(IMAGES, grid=2), VIEWS)
    with pytest.raises(DataError, match=r"class 0 is 'ant' on one side and 'dog' on the other"):
        filled(scratch.parent, print, replace(IMAGES, classes=CLASSES[::-1]))


def test_only_what_is_on_disk_is_sent_to_workers(scratch: Path) -> None:
    """Of images and teachers in memory another process knows nothing."""
    teacher = store.load_teacher(publish_teacher(scratch.parent / "teacher", TEACHER).path)
    store.save_set(scratch.parent, IMAGES)
    file = store.SetFile.at(scratch.parent / "images.parquet", IMAGES)
    sent: list[bool] = []
    for number, (given, where) in enumerate([(TEACHER, None), (TEACHER, file), (teacher, None), (teacher, file)]):

        def tasks(work: Callable[[int], None], items: list[int], label: Any, **options: Any) -> None:
            sent.append(is_shard(work))
            list(map(work, items))

        blocks = store.create_blocks(scratch.parent / f"{number}.zarr", shape_of(IMAGES, VIEWS), "float16")
        fill(
            blocks,
            IMAGES,
            {"main": given},
            policy=POLICY,
            batch_size=8,
            device=CPU,
            map_tasks=tasks,
            file=where,
        )
        np.testing.assert_array_equal(blocks.array[:], labels())
        assert shards.work_of.kept is None, "the networks stay in memory"
    assert sent == [False, False, False, True]
