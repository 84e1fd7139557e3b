"""Properties of every codec: exact bytes, budgets, decoding any part, blocks, rebuilding from the file."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from codec_cases import (
    KINDS,
    POLICY,
    RANKED,
    SHIFTED,
    budget_of,
    decode,
    encode,
    header,
    held_pairs,
    labels,
    make,
    name_of,
    plan_file,
    save,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from dcpipe import compression, store
from dcpipe.compression import CODECS, payload
from dcpipe.types import DataError, LabelPack, LabelShape

SHAPE = LabelShape(7, 12, 9)
ROWS = np.arange(SHAPE.images)
every_kind = pytest.mark.parametrize("kind", KINDS)


@every_kind
def test_planned_bytes_are_the_bytes_of_the_file(kind: str, tmp_path: Path) -> None:
    codec = make(kind, SHAPE)
    arrays = encode(codec, labels(SHAPE), ROWS, SHAPE)
    size = save(tmp_path / "pack", kind, codec, arrays, SHAPE)
    assert size == (tmp_path / "pack").stat().st_size == header(kind, codec, SHAPE) + payload(codec.specs(SHAPE))
    assert {n: (a.shape, a.dtype.name) for n, a in arrays.items()} == codec.specs(SHAPE)


@every_kind
def test_a_pack_rebuilds_its_codec_and_decodes_the_same(kind: str, tmp_path: Path) -> None:
    codec = make(kind, SHAPE)
    arrays = encode(codec, labels(SHAPE), ROWS, SHAPE)
    save(tmp_path / "pack", kind, codec, arrays, SHAPE)
    pack = store.read_pack(tmp_path / "pack", ROWS)
    again = compression.rebuild(pack, CODECS)
    assert again == codec
    pairs = held_pairs(codec, SHAPE)
    assert torch.equal(decode(again, pack.arrays, *pairs, SHAPE), decode(codec, arrays, *pairs, SHAPE))


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from(sorted(KINDS)),
    st.builds(LabelShape, st.integers(2, 40), st.integers(1, 300), st.integers(1, 1000)),
    st.floats(1, 60),
)
def test_the_budget_is_never_exceeded(kind: str, shape: LabelShape, ratio: float) -> None:
    budget = int(shape.reference_bytes / ratio)
    try:
        codec = plan_file(kind, shape, budget)
    except DataError as error:
        smallest = int(re.search(r"at least (\d+) bytes", str(error)).group(1))
        assert budget < smallest + 1024  # the rest is the header
        return
    size = payload(codec.specs(shape)) + header(kind, codec, shape)
    assert size <= budget
    assert payload(codec.specs(shape)) > 0


@every_kind
def test_any_part_decodes_like_the_whole(kind: str) -> None:
    codec = make(kind, SHAPE)
    arrays = encode(codec, labels(SHAPE), ROWS, SHAPE)
    rows, stored = held_pairs(codec, SHAPE)
    whole = decode(codec, arrays, rows, stored, SHAPE)
    pick = np.random.default_rng(1).integers(0, len(rows), 30)
    part = decode(codec, arrays, rows[pick], stored[pick], SHAPE)
    assert part.dtype == torch.float32 and part.shape == (30, SHAPE.classes)
    torch.testing.assert_close(part, whole[torch.from_numpy(pick)], rtol=1e-6, atol=1e-5)


@every_kind
def test_blocks_join_to_the_whole(kind: str) -> None:
    codec = make(kind, SHAPE)
    logits = labels(SHAPE)
    whole = encode(codec, logits, ROWS, SHAPE)
    joined = compression.join([encode(codec, logits[part], part, SHAPE) for part in (ROWS[:3], ROWS[3:4], ROWS[4:])])
    pairs = held_pairs(codec, SHAPE)
    expected = decode(codec, whole, *pairs, SHAPE)
    # Batched products may round differently for another batch size.
    torch.testing.assert_close(decode(codec, joined, *pairs, SHAPE), expected, rtol=2e-3, atol=2e-2)
    if kind in ("none", "prune", "prune-batch"):
        assert torch.equal(decode(codec, joined, *pairs, SHAPE), expected)


@every_kind
@pytest.mark.parametrize("size", [(2, 20, 9), (2, 9, 20), (2, 8, 8)])
def test_constant_and_zero_labels(kind: str, size: tuple[int, int, int]) -> None:
    shape = LabelShape(*size)
    codec = CODECS[name_of(kind)].plan(shape, shape.reference_bytes * 2, **KINDS[kind])
    logits = torch.zeros(size)
    logits[1] = 2.5
    arrays = encode(codec, logits, np.arange(2), shape)
    rows, stored = held_pairs(codec, shape)
    decoded = decode(codec, arrays, rows, stored, shape)
    assert torch.isfinite(torch.softmax(decoded, dim=1)).all()
    if kind in SHIFTED:
        decoded = decoded - decoded[:, :1] + logits[rows, stored][:, :1]
    if kind not in RANKED:
        torch.testing.assert_close(decoded, logits[rows, stored], rtol=2e-3, atol=1e-3)


@pytest.mark.parametrize("kind", ["none", "svd", "rpca"])
def test_codecs_that_keep_all_views_show_each_image_once_an_epoch(kind: str) -> None:
    codec = make(kind, SHAPE)
    for epoch in (0, 5, SHAPE.views + 5):
        rows, stored = codec.replay(epoch, SHAPE)
        assert rows.tolist() == list(range(SHAPE.images))
        assert stored.tolist() == [epoch % SHAPE.views] * SHAPE.images


REFUSALS = {
    "none": "codec 'none': its arrays take at least 1512 bytes (1.00x below fp16) but the budget leaves 100 after the "
    "header; choose another codec or a larger budget",
    "svd": "codec 'svd': its arrays take at least 294 bytes (5.14x below fp16) but the budget leaves 100 after the "
    "header; choose a smaller ratio or codec 'prune'",
    "rpca": "codec 'rpca': its arrays take at least 294 bytes (5.14x below fp16) but the budget leaves 100 after the "
    "header; choose a smaller ratio or codec 'prune'",
    "prune": "codec 'prune': its arrays take at least 126 bytes (12.00x below fp16) but the budget leaves 100 after "
    "the header; choose a smaller ratio or granularity batch",
}


@pytest.mark.parametrize("name", REFUSALS)
def test_a_budget_below_the_smallest_size_names_it(name: str) -> None:
    with pytest.raises(DataError) as caught:
        CODECS[name].plan(SHAPE, 100)
    assert str(caught.value) == REFUSALS[name]


def test_a_message_says_what_the_header_leaves() -> None:
    with pytest.raises(DataError, match=r"take at least 294 bytes .* but the budget leaves 250 after the header"):
        compression.plan(CODECS["svd"], SHAPE, 300, {}, lambda codec: 50)


def test_the_header_counts() -> None:
    assert plan_file("svd", SHAPE, budget_of("svd", SHAPE, 1.2)).rank < make("svd", SHAPE, 1.2).rank


def test_a_budget_that_only_the_shorter_header_fits_is_met() -> None:
    """The components of the remainder are two more arrays, whose header alone may be more than is left."""
    shape = LabelShape(4, 20, 10)
    least = make("svd", shape, 1.0).plan(shape, 2 * 4 * 30)
    assert (least.rank, least.extra) == (1, 0)
    smallest = 2 * 4 * 30 + header("svd", least, shape)
    for budget in range(smallest, smallest + 400):
        planned = plan_file("svd", shape, budget)
        assert header("svd", planned, shape) + compression.payload(planned.specs(shape)) <= budget
    assert planned.extra > 0
    with pytest.raises(DataError, match="codec 'svd': its arrays take at least 240 bytes"):
        plan_file("svd", shape, smallest - 1)


def test_a_plan_beyond_its_budget_is_refused() -> None:
    class Greedy(CODECS["none"]):
        @classmethod
        def plan(cls, shape: LabelShape, budget: int) -> "Greedy":
            return cls()

    with pytest.raises(
        DataError, match="internal error: codec Greedy planned more than its budget of 10 bytes; please report it"
    ):
        compression.plan(Greedy, SHAPE, 10, {}, lambda codec: 256)


def test_a_pack_of_the_future_is_refused() -> None:
    codec = make("svd", SHAPE)
    arrays = encode(codec, labels(SHAPE), ROWS, SHAPE)
    pack = LabelPack("svd", codec.settings, arrays, SHAPE, POLICY, ROWS)
    with pytest.raises(DataError, match=f"made by codec 'quantum', but this dcpipe has {', '.join(CODECS)}; update"):
        compression.rebuild(replace(pack, codec="quantum"), CODECS)
    with pytest.raises(
        DataError, match=r"label pack has settings .*'spin': 1.* that codec 'svd' does not accept \(.*'spin'"
    ):
        compression.rebuild(replace(pack, settings={"rank": 1, "spin": 1}), CODECS)
    with pytest.raises(DataError, match=r"label pack has arrays .* but codec 'svd' with its settings makes"):
        compression.rebuild(replace(pack, settings={"rank": codec.rank + 1}), CODECS)
