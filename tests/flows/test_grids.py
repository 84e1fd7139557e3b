"""Stored grids in the flows: labels are of the decoded images, bytes of the stored ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from condensed import decoded_by_hand
from releases import CLASSES, SIZE, VIEWS, Parts, parts

from dcpipe import networks, softlabels, store
from dcpipe.config import params, presets
from dcpipe.config.params import CompressionBlock
from dcpipe.dataset import CondensedDataset
from dcpipe.dataset.targets import HardLabels, PackLabels
from dcpipe.types import DataError
from dcpipe.views import multiformation
from flows.contenders import contender_of, labels_of, smaller
from flows.running.reporting import Plain
from flows.running.runtime import Run
from flows.softlabels import softlabels_stage, write_labels

CPU = torch.device("cpu")


@pytest.fixture
def some() -> Parts:
    return parts(grid=2)


def run_of(noun: str) -> Run:
    whole = params.parse(yaml.safe_load(presets.text("digits")))
    updates = {
        "softlabels": whole.softlabels.model_copy(update={"teachers": ["main"], "views": VIEWS, "mix": "none"}),
        "compression": CompressionBlock(codec="none"),
    }
    return Run(noun, whole.model_copy(update=updates), Plain(noun), device=CPU)


def logits_by_hand(run: Run, some: Parts) -> np.ndarray:
    """Labels of the decoded images, from the function of arrays."""
    block, whole = run.params.softlabels, decoded_by_hand(some.images)
    return softlabels.label_block(
        [networks.from_teacher(some.teacher, CPU)],
        [some.teacher],
        torch.from_numpy(whole.images),
        whole.ids,
        np.arange(len(whole)),
        policy=block.augmentation.policy(block.seed, block.mix),
        n_views=VIEWS,
        size=SIZE,
        batch_size=block.batch_size,
    )


def test_the_stage_labels_decoded_images(scratch: Path, some: Parts) -> None:
    data = scratch.parent / "data"
    for noun, folder, save in (
        ("synthesis", data / "synthesis", lambda staging: store.save_set(staging, some.images)),
        ("teacher", data / "teacher" / "main", lambda staging: store.save_teacher(staging, some.teacher)),
    ):
        folder.parent.mkdir(exist_ok=True, parents=True)
        staging = scratch.parent / f"{noun}-bench"
        staging.mkdir()
        store.publish(staging, folder, noun, save(staging), {})
    run = run_of("softlabels")
    softlabels_stage(run)
    labels = store.load_soft_labels(data / "softlabels")
    assert labels.ids.tolist() == decoded_by_hand(some.images).ids.tolist() and labels.classes == CLASSES
    np.testing.assert_allclose(labels.logits[:], logits_by_hand(run, some), rtol=2e-3, atol=2e-3)


def test_a_contender_of_grids(tmp_path: Path, some: Parts) -> None:
    run = run_of("evaluation")
    images, whole = some.images, decoded_by_hand(some.images)
    folder = tmp_path / "own"
    own = contender_of(run, "dm", images, {"main": some.teacher}, folder)
    assert own.images is images and own.image_bytes == (folder / "images.parquet").stat().st_size
    assert own.label_bytes == (folder / "labels.safetensors").stat().st_size > 2 * 48 * VIEWS * 3
    labels = own.labels()
    assert isinstance(labels, PackLabels) and labels.pack.ids.tolist() == whole.ids.tolist()
    ours = CondensedDataset(own.images, labels, own.policy)
    theirs = CondensedDataset(whole, labels, own.policy)
    for one, other in zip(ours.batch(np.arange(48)), theirs.batch(np.arange(48)), strict=True):
        assert torch.equal(one, other)
    expected = torch.from_numpy(logits_by_hand(run, some)[:, 0]).float().softmax(1)
    torch.testing.assert_close(ours.batch(np.arange(48))[1], expected, rtol=2e-3, atol=2e-3)
    hard = contender_of(run, "dm", images, {}, tmp_path / "hard")
    said = hard.labels()
    assert isinstance(said, HardLabels) and said.one_hot.argmax(1).tolist() == whole.labels.tolist()
    assert (hard.image_bytes, hard.label_bytes) == (own.image_bytes, 0)


def test_labels_of_any_grids_are_of_decoded_images(tmp_path: Path, some: Parts) -> None:
    run = run_of("study")
    labels = labels_of(run, some.images, {"main": some.teacher}, tmp_path)
    assert labels.logits.shape == (48, VIEWS, 3) and labels.ids.tolist() == some.images.decoded_ids.tolist()
    with pytest.raises(DataError, match=r"^labels are of decoded images, these have grid 2; decode them first$"):
        write_labels(run, tmp_path / "other", some.images, {"main": some.teacher})


@pytest.mark.parametrize("by", ["images", "cells"])
@pytest.mark.parametrize("kind", ["pack", "hard"])
def test_a_smaller_contender_is_the_same_images_with_the_same_labels(
    tmp_path: Path, some: Parts, kind: str, by: multiformation.By
) -> None:
    """What students of the first two images a class see, and from which labels, are those of the whole set."""
    run = run_of("evaluation")
    teachers = {"main": some.teacher} if kind == "pack" else {}
    whole = contender_of(run, "mdc", some.images, teachers, tmp_path / "own")
    first = smaller(whole, 2, by, tmp_path / "first")
    assert (first.kind, first.name, first.ipc, whole.ipc) == ("mdc 2", f"{whole.name}, first 2", 2, 4)
    assert first.image_bytes == (tmp_path / "first" / "images.parquet").stat().st_size != whole.image_bytes
    assert first.label_bytes == whole.label_bytes
    expected = multiformation.subset(some.images, 2, by)
    assert np.array_equal(first.images.images, expected.images) and len(first.images.decoded_ids) == 2 * 4 * 3
    ours = CondensedDataset(first.images, first.labels(), first.policy)
    theirs = CondensedDataset(whole.images, whole.labels(), whole.policy)
    place = [theirs.images.ids.tolist().index(number) for number in ours.images.ids]
    for one, other in zip(ours.batch(np.arange(24)), theirs.batch(np.array(place)), strict=True):
        assert torch.equal(one, other)
