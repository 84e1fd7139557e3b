"""Rankings with Zipf's law, against the law written out label by label."""

import numpy as np
import pytest
import torch
from codec_cases import decode, encode, held_pairs, labels
from hypothesis import given, settings
from hypothesis import strategies as st

from dcpipe.compression import join, payload
from dcpipe.compression.zipf import Zipf
from dcpipe.types import DataError, LabelShape

SHAPE = LabelShape(4, 5, 20)
ROWS = np.arange(4)


def law(label: np.ndarray, k: int, exponent: float) -> np.ndarray:
    """log p of one label: the k largest logits ranked, the rest tied at rank k + 1."""
    ranks = np.full(len(label), k + 1.0)
    for rank, c in enumerate(sorted(range(len(label)), key=lambda c: (-label[c], c))[:k], start=1):
        ranks[c] = rank
    powers = ranks**-exponent
    return np.log(powers / powers.sum())


def counts_of(codec: Zipf, shape: LabelShape) -> np.ndarray:
    return codec.per_view + (np.arange(shape.images * shape.views) < codec.extra)


@pytest.mark.parametrize("exponent", [1.0, 2.5])
def test_decodes_to_the_log_of_zipfs_law(exponent: float) -> None:
    codec = Zipf.plan(SHAPE, 107, exponent=exponent)
    assert (codec.per_view, codec.extra) == (5, 7)
    logits = labels(SHAPE)
    decoded = decode(codec, encode(codec, logits, ROWS, SHAPE), *held_pairs(codec, SHAPE), SHAPE)
    for label, found, k in zip(logits.flatten(0, 1).numpy(), decoded.double(), counts_of(codec, SHAPE), strict=True):
        np.testing.assert_allclose(found, law(label, k, exponent), atol=1e-5)
        # At another temperature students see Zipf's law again, with exponent s / T.
        softened = torch.softmax(found / 4, dim=0)
        np.testing.assert_allclose(softened, np.exp(law(label, k, exponent / 4)), atol=1e-6)


def divergence(logits: np.ndarray, counts: np.ndarray, exponent: float) -> float:
    """Mean KL(labels || law) of one image's views."""
    total = 0.0
    for label, k in zip(logits.astype(np.float64), counts, strict=True):
        p = np.exp(label - label.max())
        p /= p.sum()
        total += float((p[p > 0] * (np.log(p[p > 0]) - law(label, k, exponent)[p > 0])).sum())
    return total / len(logits)


def test_the_fitted_exponent_is_the_best_of_each_image() -> None:
    logits = labels(SHAPE)
    logits[1] /= 10  # flat labels
    logits[2] *= 10  # sure ones
    codec = Zipf.plan(SHAPE, 120, exponent="fitted")  # 8 for exponents; 112 entries of 20 labels
    assert (codec.per_view, codec.extra) == (5, 12)  # the third image has views of both lengths
    exponents = encode(codec, logits, ROWS, SHAPE)["exponents"].astype(np.float64)
    assert exponents[1] < exponents[0] < exponents[2]
    for image, found in enumerate(exponents):
        counts = counts_of(codec, SHAPE).reshape(4, 5)[image]
        best = divergence(logits[image].numpy(), counts, found)
        for other in np.linspace(0.02, 20, 200):
            assert best <= divergence(logits[image].numpy(), counts, other) + 1e-5


def test_recovers_what_was_planted() -> None:
    shape = LabelShape(3, 40, 300)
    rng, planted = np.random.default_rng(0), [0.75, 1.5, 3.0]
    ranks = np.stack([[rng.permutation(300) + 1 for _ in range(40)] for _ in planted])
    logits = torch.from_numpy(-np.array(planted)[:, None, None] * np.log(ranks)).float()
    codec = Zipf.plan(shape, 10**6, exponent="fitted")
    assert (codec.per_view, codec.extra) == (299, 0)
    arrays = encode(codec, logits, np.arange(3), shape)
    assert arrays["classes"].dtype == np.uint16
    np.testing.assert_allclose(arrays["exponents"], planted, rtol=1e-3)
    decoded = decode(codec, arrays, *held_pairs(codec, shape), shape)
    torch.testing.assert_close(decoded, torch.log_softmax(logits, dim=2).flatten(0, 1), rtol=2e-3, atol=2e-3)


def test_extreme_labels_have_finite_exponents() -> None:
    shape = LabelShape(2, 3, 10)
    logits = torch.zeros(2, 3, 10)
    logits[1, :, 4] = 60000.0
    codec = Zipf.plan(shape, 30, exponent="fitted")
    arrays = encode(codec, logits, np.arange(2), shape)
    assert arrays["exponents"].tolist() == [0.0, 32.0]
    decoded = decode(codec, arrays, *held_pairs(codec, shape), shape)
    assert torch.isfinite(decoded).all()
    torch.testing.assert_close(decoded[:3], torch.full((3, 10), -np.log(10.0)).float())


@settings(deadline=None, max_examples=150)
@given(
    st.builds(LabelShape, st.integers(1, 6), st.integers(1, 300), st.integers(2, 1000)),
    st.floats(1, 600),
    st.sampled_from([1.0, "fitted"]),
)
def test_the_budget_is_used_up_to_one_entry(shape: LabelShape, ratio: float, exponent: float | str) -> None:
    count, entry = shape.images * shape.views, 1 if shape.classes <= 256 else 2
    fixed = 2 * shape.images if exponent == "fitted" else 0
    budget = max(int(shape.reference_bytes / ratio), count * entry + fixed)
    codec = Zipf.plan(shape, budget, exponent=exponent)
    size = payload(codec.specs(shape))
    assert size == entry * counts_of(codec, shape).sum() + fixed <= budget
    assert budget - size < entry or (codec.per_view, codec.extra) == (shape.classes - 1, 0)


@settings(deadline=None, max_examples=25)
@given(
    st.builds(LabelShape, st.integers(1, 5), st.integers(1, 7), st.integers(2, 30)),
    st.sampled_from([1.0, "fitted"]),
    st.data(),
)
def test_blocks_and_order_do_not_matter(shape: LabelShape, exponent: float | str, data: st.DataObject) -> None:
    least = shape.images * (shape.views + 2)
    codec = Zipf.plan(shape, least + data.draw(st.integers(0, shape.reference_bytes)), exponent=exponent)
    logits = labels(shape).round()  # many ties
    whole = encode(codec, logits, np.arange(shape.images), shape)
    at = data.draw(st.lists(st.integers(1, shape.images), max_size=3))
    parts = [part for part in np.split(np.arange(shape.images), sorted(set(at))) if len(part)]
    joined = join([encode(codec, logits[part], part, shape) for part in parts])
    assert all(np.array_equal(joined[name], whole[name]) for name in whole)
    rows, stored = held_pairs(codec, shape)
    order = np.array(data.draw(st.permutations(range(len(rows)))))
    decoded = decode(codec, joined, rows[order], stored[order], shape)
    assert torch.equal(decoded, decode(codec, whole, rows, stored, shape)[torch.from_numpy(order)])


@pytest.mark.parametrize(
    ("exponent", "number"),
    [
        (0.0, "input should be greater than 0"),
        (-1.0, "input should be greater than 0"),
        ("best", "input should be a valid number"),
        (None, "input should be a valid number"),
    ],
)
def test_options_are_checked(exponent: object, number: str) -> None:
    with pytest.raises(DataError) as caught:
        Zipf.plan(SHAPE, 10**6, exponent=exponent)
    assert str(caught.value) == f"codec 'zipf': exponent is {exponent!r}: {number} or input should be 'fitted'"


def test_the_smallest_size_is_named() -> None:
    with pytest.raises(DataError) as caught:
        Zipf.plan(SHAPE, 19)
    assert str(caught.value) == (
        "codec 'zipf': its arrays take at least 20 bytes (40.00x below fp16) but the budget leaves 19 after the "
        "header; choose a smaller ratio, codec 'prune' or codec 'prune_topk'"
    )
    with pytest.raises(DataError, match=r"^codec 'zipf': its arrays take at least 28 bytes "):
        Zipf.plan(SHAPE, 27, exponent="fitted")
    with pytest.raises(
        DataError,
        match=r"^codec 'zipf' supports up to 65536 classes, but there are 65537; choose "
        r"codec 'svd'$",
    ):
        Zipf.plan(LabelShape(1, 2, 65537), 10**9)
