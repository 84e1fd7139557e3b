"""Labels to a pack, block by block: the file stays within its budget, and a killed run encodes nothing twice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from codec_cases import KINDS, POLICY, labels, name_of
from view_cases import stored_views

from dcpipe import store, views
from dcpipe.compression import CODECS, packing
from dcpipe.compression.field import Field
from dcpipe.compression.svd import Svd
from dcpipe.types import BudgetError, DataError, LabelPack, LabelShape, SoftLabels, StoredViews, ViewPolicy, ViewSource

SHAPE = LabelShape(9, 40, 12)
IDS = np.random.default_rng(1).permutation(100)[: SHAPE.images].astype(np.int64)
CPU = torch.device("cpu")


class InterruptionError(Exception):
    """Simulates the kill of a run."""


def soft_labels(policy: ViewSource = POLICY) -> SoftLabels:
    return SoftLabels(labels(SHAPE).half().numpy(), policy, IDS, tuple("abcdefghijkl"), ("teacher",))


def stored_policy(mix: str = "cutmix_images") -> StoredViews:
    return stored_views(SHAPE.images, SHAPE.views, mix=mix)


def one_by_one(encode: packing.Encode, starts: Sequence[int]) -> None:
    for start in starts:
        encode(start)


def packed(
    notes: Path, kind: str, policy: ViewSource = POLICY, ratio: float = 2.0, each: Any = one_by_one
) -> LabelPack:
    """The pack of a kind of codec at a ratio, by blocks that are saved in `notes`."""
    notes.mkdir(exist_ok=True)
    budget = int(SHAPE.reference_bytes / ratio) + 2**12 * (kind == "none")
    codec = packing.plan(name_of(kind), KINDS[kind], SHAPE, policy, budget)
    return packing.pack(name_of(kind), codec, soft_labels(policy), notes, CPU, each)


@pytest.mark.parametrize("policy", [POLICY, stored_policy()], ids=["drawn", "stored"])
@pytest.mark.parametrize("kind", ["svd", "topk", "lowrank_int8", "field", "prune"])
def test_the_file_is_within_its_budget_except_for_stored_views(kind: str, policy: ViewSource, tmp_path: Path) -> None:
    """Stored views are not part of the budget, so the same budget means the same for every codec."""
    pack = packed(tmp_path / "notes", kind, policy, ratio=1.2)
    size = store.save_pack(tmp_path / "pack", pack)
    extra = policy.n_bytes if isinstance(policy, StoredViews) else 0
    assert size == (tmp_path / "pack").stat().st_size
    assert 0.7 * SHAPE.reference_bytes / 1.2 < size - extra <= SHAPE.reference_bytes / 1.2


@pytest.mark.parametrize("each", [1, 2, 5])
@pytest.mark.parametrize("kind", ["svd", "cur", "topk", "lowrank_int8", "field", "prune-batch"])
def test_a_pack_is_its_blocks_encoded_and_joined(
    kind: str, each: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Blocks hold as many images as fit their bytes, but no more than an eighth of all: kills then cost little."""
    policy, n, k = replace(POLICY, seed=5), SHAPE.images, SHAPE.views
    monkeypatch.setattr(packing, "BLOCK_BYTES", each * 4 * k * SHAPE.classes)
    found = packed(tmp_path / "notes", kind, policy)
    rows_each = min(each, 2)  # an eighth of nine images, rounded up
    starts = range(0, n, rows_each)
    assert len(list((tmp_path / "notes").iterdir())) == len(starts)
    codec = CODECS[name_of(kind)](**found.settings)
    blocks = []
    for start in starts:
        rows = np.arange(n)[start : start + rows_each]
        drawn = views.draw(policy, np.repeat(IDS[rows], k), np.tile(np.arange(k), len(rows)), n)
        blocks.append(codec.encode(labels(SHAPE)[rows], rows, SHAPE, drawn))
    assert found.arrays.keys() == blocks[0].keys()
    for name, array in found.arrays.items():
        np.testing.assert_array_equal(array, np.concatenate([block[name] for block in blocks]))
    assert (found.shape, found.policy) == (SHAPE, policy)
    np.testing.assert_array_equal(found.ids, IDS)


def test_a_codec_gets_the_stored_views(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`field` computes labels from boxes and flips: the stored ones, not newly drawn ones."""
    policy, seen = stored_policy("none"), []
    encode = Field.encode

    def recording(self: Field, logits: torch.Tensor, rows: np.ndarray, shape: LabelShape, drawn: views.Views) -> Any:
        seen.append((rows, drawn))
        return encode(self, logits, rows, shape, drawn)

    monkeypatch.setattr(Field, "encode", recording)
    packed(tmp_path / "notes", "field", policy)
    assert np.concatenate([rows for rows, _ in seen]).tolist() == list(range(SHAPE.images))
    for rows, drawn in seen:
        np.testing.assert_array_equal(drawn.box, policy.arrays["box"][rows].reshape(-1, 4))
        np.testing.assert_array_equal(drawn.flip, policy.arrays["flip"][rows].reshape(-1).astype(bool))


def test_a_killed_run_encodes_nothing_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = packed(tmp_path / "unbroken", "svd")
    encoded: list[list[int]] = []
    encode = Svd.encode

    def until_killed(self: Svd, logits: torch.Tensor, rows: np.ndarray, shape: LabelShape, drawn: Any) -> Any:
        encoded.append(rows.tolist())
        if len(encoded) == 3:
            raise InterruptionError
        return encode(self, logits, rows, shape, drawn)

    monkeypatch.setattr(Svd, "encode", until_killed)
    with pytest.raises(InterruptionError):
        packed(tmp_path / "notes", "svd")
    resumed = packed(tmp_path / "notes", "svd")
    assert encoded[2] == encoded[3], "the block that was not finished is encoded again"
    assert sorted(row for rows in encoded[:2] + encoded[3:] for row in rows) == list(range(SHAPE.images))
    for name, array in whole.arrays.items():
        np.testing.assert_array_equal(resumed.arrays[name], array)


def test_uncompressed_labels_are_the_store_itself(tmp_path: Path) -> None:
    """Copied block by block when the file is written, they need no notes."""
    given = soft_labels()
    codec = packing.plan("none", {}, SHAPE, POLICY, SHAPE.reference_bytes + 2**12)
    pack = packing.pack("none", codec, given, tmp_path / "absent", CPU, one_by_one)
    assert pack.arrays["logits"] is given.logits and not (tmp_path / "absent").exists()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("kind", KINDS)
def test_labels_with_nan_or_infinity_are_refused_with_the_id_of_their_image(
    kind: str, bad: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = soft_labels()
    given.logits[4, 38, 11] = bad
    monkeypatch.setitem(globals(), "soft_labels", lambda policy: given)
    with pytest.raises(DataError) as error:
        packed(tmp_path / "notes", kind, ratio=1.2)
    assert str(error.value) == (
        f"soft labels of image {IDS[4]} (row 4) contain NaN, infinity or a number beyond fp16 (65504) in view 38; "
        "check the teacher's weights and normalisation, then compute the labels again"
    )


def test_labels_that_a_codec_cannot_serve_are_refused_before_any_work() -> None:
    budget = SHAPE.reference_bytes
    with pytest.raises(DataError) as error:
        packing.plan("field", {"fresh": True}, SHAPE, stored_policy(), budget)
    assert str(error.value) == (
        "codec 'field' would use new views, but views are stored and there are only 40 per image; leave "
        "option fresh out"
    )
    packing.plan("field", {"fresh": True}, SHAPE, POLICY, budget)  # drawn views never end
    by_batch = {"granularity": "batch", "batch_size": 2}
    with pytest.raises(DataError, match=r"^codec 'prune' stores view 0 of only some images, but mix 'cutmix_labels'"):
        packing.plan("prune", by_batch, SHAPE, ViewPolicy(mix="cutmix_labels"), budget // 2)
    with pytest.raises(BudgetError, match=r"^codec 'svd': its arrays take at least \d+ bytes .* after the header"):
        packing.plan("svd", {}, SHAPE, POLICY, 600)
