"""Contenders: labels of what students see, sizes of what is stored, smaller sets, and work that is done once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from condensed import decoded_by_hand
from releases import SIZE, VIEWS, Parts, parts
from view_cases import stored_views

from dcpipe import networks, softlabels, store
from dcpipe.compression.budget import Budget
from dcpipe.config import params, presets
from dcpipe.config.params import CompressionBlock
from dcpipe.dataset import CondensedDataset
from dcpipe.dataset.targets import HardLabels, OnlineLabels, PackLabels
from dcpipe.evaluation.contenders import Labeller, smaller, uncompressed_bytes
from dcpipe.store import encoding
from dcpipe.types import BudgetError, By, DataError, LabelShape, SoftLabels, run_in_turn
from dcpipe.views import multiformation

CPU = torch.device("cpu")
WHOLE = params.parse(yaml.safe_load(presets.text("digits")))
SOFT = WHOLE.softlabels.model_copy(update={"teachers": ["main"], "views": VIEWS, "mix": "none"})


@pytest.fixture
def some() -> Parts:
    return parts(grid=2)


@pytest.fixture
def notes(tmp_path: Path) -> store.Notes:
    return store.Notes(tmp_path)


def labeller(**compression: Any) -> Labeller:
    return Labeller(SOFT, CompressionBlock(**{"codec": "none", **compression}), CPU, run_in_turn)


def logits_by_hand(some: Parts) -> np.ndarray:
    """Labels of the decoded images, computed by `label_block`."""
    whole = decoded_by_hand(some.images)
    return softlabels.label_block(
        [networks.from_teacher(some.teacher, CPU)],
        [some.teacher],
        torch.from_numpy(whole.images),
        whole.ids,
        np.arange(len(whole)),
        policy=SOFT.policy,
        n_views=VIEWS,
        size=SIZE,
        batch_size=SOFT.batch_size,
    )


def test_a_contender_of_grids(notes: store.Notes, some: Parts) -> None:
    images, whole = some.images, decoded_by_hand(some.images)
    folder = notes.folder / "own"
    own = labeller().contender("dm", images, {"main": some.teacher}, notes.within("own"))
    assert own.images is images and own.image_bytes == (folder / "images.parquet").stat().st_size
    assert own.label_bytes == (folder / "labels.safetensors").stat().st_size > 2 * 48 * VIEWS * 3
    assert sorted(path.name for path in folder.iterdir()) == ["images.parquet", "labels.safetensors"]
    labels = own.labels()
    assert isinstance(labels, PackLabels) and labels.pack.ids.tolist() == whole.ids.tolist()
    ours = CondensedDataset(own.images, labels, own.policy)
    theirs = CondensedDataset(whole, labels, own.policy)
    for one, other in zip(ours.batch(np.arange(48)), theirs.batch(np.arange(48)), strict=True):
        assert torch.equal(one, other)
    expected = torch.from_numpy(logits_by_hand(some)[:, 0]).float().softmax(1)
    torch.testing.assert_close(ours.batch(np.arange(48))[1], expected, rtol=2e-3, atol=2e-3)
    hard = labeller().contender("dm", images, {}, notes.within("hard"))
    targets = hard.labels()
    assert isinstance(targets, HardLabels) and targets.one_hot.argmax(1).tolist() == whole.labels.tolist()
    assert (hard.image_bytes, hard.label_bytes, hard.name) == (own.image_bytes, 0, "dm, hard labels")


def test_random_images_are_labelled_by_the_same_ensemble(notes: store.Notes, some: Parts) -> None:
    quiet = replace(some.teacher, weights={name: -0.5 * value for name, value in some.teacher.weights.items()})
    teachers, found = {"main": some.teacher, "quiet": quiet}, []
    for ensemble in ("mean", "equal_norms"):
        own = replace(labeller(), softlabels=SOFT.model_copy(update={"ensemble": ensemble}))
        found.append(own.soft_labels(some.images, teachers, notes.within(ensemble)).logits[:])
    assert np.abs(found[0] - found[1]).max() > 0.01


def test_a_contender_is_labelled_once(notes: store.Notes, some: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    first = labeller().contender("dm", some.images, {"main": some.teacher}, notes)
    monkeypatch.setattr(softlabels, "fill", None)
    again = labeller().contender("dm", some.images, {"main": some.teacher}, notes)
    assert (again.name, again.label_bytes) == (first.name, first.label_bytes) == ("dm, none", first.label_bytes)


def test_labels_are_made_once_for_several_budgets(
    notes: store.Notes, some: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, work = list[int](), softlabels.fill
    monkeypatch.setattr(softlabels, "fill", lambda *given, **options: calls.append(1) or work(*given, **options))
    whole, small = CompressionBlock(codec="none"), CompressionBlock(codec="prune", ratio=1.2)
    teachers = {"main": some.teacher}
    first = labeller().contender("dm", some.images, teachers, notes, {"whole": whole, "small": small})
    assert first.name == "dm, none" and len(calls) == 1
    assert {path.name for path in notes.folder.glob("*")} == {
        "images.parquet",
        "whole.safetensors",
        "small.safetensors",
    }
    second = labeller().contender("dm", some.images, teachers, notes, {"small": small, "whole": whole})
    assert second.name == "dm, prune" and len(calls) == 1
    assert second.label_bytes == (notes.folder / "small.safetensors").stat().st_size < first.label_bytes


def test_online_teachers_count_their_bytes(notes: store.Notes, some: Parts) -> None:
    hard = labeller().hard("dm", some.images, notes)
    online = hard.renamed("online", "dm, teacher online").with_online_teachers({"main": some.teacher}, 1234, CPU)
    labels = online.labels()
    assert isinstance(labels, OnlineLabels) and labels.n_images == 48
    assert (online.kind, online.label_bytes, online.teacher_bytes) == ("online", 0, 1234)
    assert hard.teacher_bytes == 0


def test_labels_of_any_grids_are_of_decoded_images(notes: store.Notes, some: Parts) -> None:
    labels = labeller().soft_labels(some.images, {"main": some.teacher}, notes)
    assert labels.logits.shape == (48, VIEWS, 3) and labels.ids.tolist() == some.images.decoded_ids.tolist()
    np.testing.assert_allclose(labels.logits[:], logits_by_hand(some), rtol=2e-3, atol=2e-3)
    whole = labeller().pack(labels, Budget(), notes, "whole")
    assert np.array_equal(whole.arrays["logits"][:], labels.logits[:])
    assert uncompressed_bytes(labels) == whole.n_bytes == (notes.folder / "whole.safetensors").stat().st_size


def test_uncompressed_labels_count_their_stored_views(notes: store.Notes) -> None:
    views = stored_views(4, 5, mix="cutmix_images")
    labels = SoftLabels(np.zeros((4, 5, 3), np.float16), views, np.arange(4), ("a", "b", "c"), ("main",))
    assert uncompressed_bytes(labels) == labeller().pack(labels, Budget(), notes, "whole").n_bytes


def test_an_impossible_budget_leaves_no_files(notes: store.Notes, some: Parts) -> None:
    labels = labeller().soft_labels(some.images, {"main": some.teacher}, notes)
    before = sorted(notes.folder.iterdir())
    with pytest.raises(BudgetError):
        labeller().pack(labels, Budget("svd", ratio=1000.0), notes, "small")
    assert sorted(notes.folder.iterdir()) == before
    with pytest.raises(BudgetError, match=r"^codec 'svd': its arrays take at least \d+ bytes"):
        labeller(codec="svd", ratio=1000.0).plan(LabelShape(48, VIEWS, 3))
    assert (
        labeller(codec="svd", ratio=1000.0).budget_error(LabelShape(48, VIEWS, 3)).startswith("codec 'svd': its arrays")
    )
    assert labeller(codec="svd", ratio=100.0).budget_error(LabelShape(48, 3000, 1000)) == ""


def test_an_option_that_the_codec_lacks_is_refused() -> None:
    with pytest.raises(DataError, match=r"^codec 'none' takes no options; remove 'rank'$"):
        labeller(codec="none", options={"rank": 3}).plan(LabelShape(48, VIEWS, 3))


@pytest.mark.parametrize("by", ["images", "cells"])
@pytest.mark.parametrize("kind", ["pack", "hard"])
def test_a_smaller_contender_is_the_same_images_with_the_same_labels(
    notes: store.Notes, some: Parts, kind: str, by: By, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What students of the first two images per class see, and from which labels, are those of the whole set."""
    teachers = {"main": some.teacher} if kind == "pack" else {}
    whole = labeller().contender("mdc", replace(some.images, by=by), teachers, notes.within("own"))
    encoded, encode = list[int](), encoding.encode_png
    monkeypatch.setattr(encoding, "encode_png", lambda image: encoded.append(1) or encode(image))
    first = smaller(whole, 2, notes.within("first"))
    assert len(encoded) == (len(first.images) if by == "cells" else 0), "the images of the whole are encoded already"
    assert (first.kind, first.name, first.ipc, whole.ipc) == ("mdc 2", f"{whole.name}, first 2", 2, 4)
    assert (first.part_of, whole.part_of) == ("mdc", "")
    store.save_set(notes.within("by hand").folder, first.images)
    assert first.image_bytes == (notes.folder / "by hand" / "images.parquet").stat().st_size != whole.image_bytes
    assert first.label_bytes == whole.label_bytes
    expected = multiformation.subset(some.images, 2, by)
    assert np.array_equal(first.images.images, expected.images) and len(first.images.decoded_ids) == 2 * 4 * 3
    ours = CondensedDataset(first.images, first.labels(), first.policy)
    theirs = CondensedDataset(whole.images, whole.labels(), whole.policy)
    place = [theirs.images.ids.tolist().index(number) for number in ours.images.ids]
    for one, other in zip(ours.batch(np.arange(24)), theirs.batch(np.array(place)), strict=True):
        assert torch.equal(one, other)
