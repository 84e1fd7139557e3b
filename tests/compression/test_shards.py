"""Encoded blocks: those of one process, from a label store on disk and the settings of a codec."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from codec_cases import KINDS, POLICY, labels, name_of
from sent import ROOT, STAGING, sent_bytes
from view_cases import stored_views

from dcpipe import store
from dcpipe.compression import packing, shards
from dcpipe.compression.shards import IDS, Job, Work, job_of, save_block, work_of
from dcpipe.shards import is_shard
from dcpipe.types import DataError, LabelPack, LabelShape, SoftLabels, ViewSource

CPU = torch.device("cpu")
SHAPE = LabelShape(9, 40, 12)
NAMES = np.random.default_rng(1).permutation(100)[: SHAPE.images].astype(np.int64)


def soft_labels(folder: Path | None = None, policy: ViewSource = POLICY) -> SoftLabels:
    """Labels in memory or, if there is a folder, in a store on disk."""
    logits: Any = labels(SHAPE).half().numpy()
    if folder is not None:
        blocks = store.create_blocks(folder / "labels.zarr", logits.shape, "float16", rows=4)
        for block in blocks.missing():
            blocks.write(block, logits[blocks.span(block)])
        logits = store.open_blocks(blocks.path)
    return SoftLabels(logits, policy, NAMES, tuple("abcdefghijkl"), ("teacher",))


def pack_of(kind: str, given: SoftLabels, notes: Path, each: Callable[..., object]) -> LabelPack:
    notes.mkdir()
    codec = packing.plan(name_of(kind), KINDS[kind], SHAPE, given.policy, int(SHAPE.reference_bytes / 2))
    return packing.pack(name_of(kind), codec, given, notes, CPU, each)


@pytest.mark.parametrize("kind", ["svd", "rpca", "topk", "lowrank_int8", "field", "prune-batch"])
def test_a_pack_of_blocks_from_other_processes_is_the_same(kind: str, tmp_path: Path) -> None:
    """`field` hands over transposed arrays, whose memory must not be saved as it lies."""
    seen: list[bool] = []

    def elsewhere(encode: Callable[[int], object], starts: Sequence[int]) -> None:
        seen.append(is_shard(encode))
        for start in reversed(starts):
            work_of.forget()
            encode(start)

    def here(encode: Callable[[int], object], starts: Sequence[int]) -> None:
        seen.append(is_shard(encode))
        for start in starts:
            encode(start)

    found = pack_of(kind, soft_labels(tmp_path), tmp_path / "elsewhere", elsewhere)
    expected = pack_of(kind, soft_labels(), tmp_path / "here", here)
    assert seen == [True, False]
    assert (found.codec, found.settings, found.shape) == (expected.codec, expected.settings, expected.shape)
    assert found.ids.tolist() == NAMES.tolist() and found.arrays.keys() == expected.arrays.keys()
    for name, array in expected.arrays.items():
        assert np.array_equal(found.arrays[name], array), name
    sizes = [store.save_pack(tmp_path / f"pack-{number}", pack) for number, pack in enumerate((found, expected))]
    assert sizes[0] == sizes[1]
    assert (tmp_path / "pack-0").read_bytes() == (tmp_path / "pack-1").read_bytes()


def test_only_labels_in_a_store_with_drawn_views_have_a_job(tmp_path: Path) -> None:
    codec = packing.plan("svd", {}, SHAPE, POLICY, int(SHAPE.reference_bytes / 2))
    stored = stored_views(SHAPE.images, SHAPE.views, mix="none")
    whole = soft_labels(tmp_path)
    for given, sent in [(whole, True), (soft_labels(), False), (replace(whole, policy=stored), False)]:
        job = job_of("svd", Work(codec, given, 2, tmp_path, CPU))
        assert (job is not None) == sent
    work = Work(codec, whole, 2, tmp_path, CPU)
    job = job_of("svd", work)
    assert job is not None and np.load(tmp_path / IDS).tolist() == NAMES.tolist()
    work_of.forget()
    opened = work_of(job)
    assert (opened.codec, opened.rows, opened.folder, opened.device) == (codec, 2, tmp_path, CPU)
    assert opened.labels.ids.tolist() == NAMES.tolist() and opened.labels.policy == POLICY


def test_a_block_that_is_saved_is_not_encoded_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    codec = packing.plan("svd", {}, SHAPE, POLICY, int(SHAPE.reference_bytes / 2))
    job = job_of("svd", Work(codec, soft_labels(tmp_path), 2, tmp_path, CPU))
    assert job is not None
    save_block(job, 4)
    changed = (tmp_path / "00000004.safetensors").stat().st_mtime_ns
    monkeypatch.setattr(shards, "checked", None)
    save_block(job, 4)
    assert (tmp_path / "00000004.safetensors").stat().st_mtime_ns == changed


def test_bad_labels_are_refused_by_the_id_of_their_image(tmp_path: Path) -> None:
    given = soft_labels()
    given.logits[4, 38, 11] = np.nan
    with pytest.raises(DataError, match=rf"^soft labels of image {NAMES[4]} \(row 4\) contain NaN"):
        shards.checked(given, np.array([3, 4]))


def test_a_shard_of_imagenet_takes_few_bytes() -> None:
    """The ids of 50,000 images are in a file."""
    settings = '{"rank": 37, "shared": 12, "bits": [8, 8, 4], "rounds": 3}'
    job = Job(f"{ROOT}/data/softlabels/labels.zarr", POLICY, "lowrank_int8", settings, 80, f"{STAGING}.notes", "cuda")
    assert hash(job) == hash(replace(job)) and job != replace(job, rows=81)
    assert sent_bytes(partial(save_block, job), range(0, 50_000, 80)) < 3000
