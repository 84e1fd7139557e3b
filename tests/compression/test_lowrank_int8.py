"""Mean and rounded components against one image at a time in NumPy's float64."""

import itertools

import numpy as np
import pytest
import torch
from codec_cases import decode, encode, held_pairs, labels, rounded_slowly
from hypothesis import given, settings
from hypothesis import strategies as st

from dcpipe import compression
from dcpipe.compression.base import payload
from dcpipe.compression.components import component_bytes
from dcpipe.compression.lowrank_int8 import LowrankInt8
from dcpipe.types import DataError, LabelShape

SHAPES = st.builds(LabelShape, st.integers(1, 30), st.integers(1, 300), st.integers(2, 1000))


def reference(matrix: np.ndarray, rank: int, bits: float, temperature: float, mean_bits: int = 8) -> np.ndarray:
    """The codec as documented, one component at a time in the residual of the others."""
    mean = rounded_slowly(matrix.mean(0), mean_bits)
    rest = matrix - mean
    weights = np.ones(matrix.shape[1])
    if temperature > 0:
        powers = np.exp((matrix - matrix.max(1, keepdims=True)) / temperature)
        weights = np.sqrt((powers / powers.sum(1, keepdims=True)).mean(0))
        weights = np.maximum(weights / weights.max(), 1e-3)
    starts = np.linalg.svd(rest * weights, full_matrices=False)[2][:rank] / weights
    parts = [np.zeros_like(matrix) for _ in starts]
    for _ in range(2):
        for i in range(rank):
            aim = rest - sum(parts[j] for j in range(rank) if j != i)
            v = starts[i] / np.linalg.norm(starts[i])
            for _ in range(3):
                starts[i], v = v, rounded_slowly(v, bits)
                u = rounded_slowly(aim @ (weights**2 * v) / (v @ (weights**2 * v)), bits)
                v_before, v = v, aim.T @ u / (u @ u)
            whole = np.outer(u, v_before)
            parts[i] = whole * (whole * weights**2 * aim).sum() / (whole * weights**2 * whole).sum()
            starts[i] = v_before
    return mean + sum(parts)


def relative(found: torch.Tensor, logits: torch.Tensor) -> float:
    return float((found.reshape(logits.shape) - logits).norm() / logits.norm())


@pytest.mark.parametrize(("bits", "temperature"), [(8, 0.0), (6, 20.0), (4, 4.0), (3, 0.0), (1.6, 4.0)])
@pytest.mark.parametrize("size", [(3, 25, 11), (3, 11, 25)])
def test_equals_the_reference(size: tuple[int, int, int], bits: float, temperature: float) -> None:
    shape = LabelShape(*size)
    logits = labels(shape)
    mean_bits = 8 if bits == 8 else 4
    codec = LowrankInt8(2, 1, bits, 0, temperature, mean_bits)
    found = decode(codec, encode(codec, logits, np.arange(3), shape), *held_pairs(codec, shape), shape)
    for row, matrix in enumerate(logits.double().numpy()):
        expected = reference(matrix, 3 if row == 0 else 2, bits, temperature, mean_bits)
        difference = found.double().reshape(size)[row].numpy() - expected
        assert np.linalg.norm(difference) <= 4e-3 * np.linalg.norm(matrix)  # fp16 scales, a code on the edge


def test_recovers_what_was_planted() -> None:
    rng = np.random.default_rng(0)
    planted = rng.normal(size=(4, 1, 30)) + rng.normal(size=(4, 50, 2)) @ rng.normal(size=(4, 2, 30))
    shape, logits = LabelShape(4, 50, 30), torch.from_numpy(planted).float()
    for bits, error in ((8, 0.01), (6, 0.04), (4, 0.15), (3, 0.3)):
        codec = LowrankInt8(2, 0, bits, 0, 0.0)
        found = decode(codec, encode(codec, logits, np.arange(4), shape), *held_pairs(codec, shape), shape)
        assert error / 10 < relative(found, logits) < error


@settings(deadline=None, max_examples=100)
@given(
    SHAPES,
    st.floats(1, 500),
    st.sampled_from([None, 1.6, 3, 4, 6, 8]),
    st.sampled_from([None, 3, 4, 6, 8]),
    st.floats(0, 0.5),
)
def test_the_budget_is_used_up_to_one_component_of_one_image(
    shape: LabelShape, ratio: float, bits: float | None, mean_bits: int | None, share: float
) -> None:
    budget = int(shape.reference_bytes / ratio)
    smallest = shape.images * (-(-shape.classes * (mean_bits or 3) // 8) + 2)
    if budget < smallest:
        with pytest.raises(DataError, match=f"at least {smallest} bytes"):
            LowrankInt8.plan(shape, budget, bits=bits, mean_bits=mean_bits, exact_share=share)
        return
    codec = LowrankInt8.plan(shape, budget, bits=bits, mean_bits=mean_bits, exact_share=share)
    left = budget - payload(codec.specs(shape))
    assert left >= 0
    assert left < component_bytes(shape, codec.bits) or codec.rank == min(shape.views, shape.classes)
    assert bits in (None, codec.bits) and mean_bits in (None, codec.mean_bits)


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 12), st.integers(2, 12), st.integers(2, 12), st.sampled_from([4, 6, 8]), st.integers(0, 2**32))
def test_the_error_does_not_grow_with_the_budget(n: int, k: int, c: int, bits: int, seed: int) -> None:
    shape = LabelShape(n, k, c)
    logits = labels(shape, seed)
    errors = []
    for rank in range(min(k, c) + 1):
        codec = LowrankInt8(rank, 0, bits, 0, 0.0)
        found = decode(codec, encode(codec, logits, np.arange(n), shape), *held_pairs(codec, shape), shape)
        errors.append(relative(found, logits))
    # A component that is smaller than the rounding of all others may increase the error a little.
    slack = {8: 0.01, 6: 0.04, 4: 0.12}[bits]
    assert all(later <= earlier + slack for earlier, later in itertools.pairwise(errors))
    assert errors[-1] <= slack


def test_first_images_have_one_more_and_blocks_do_not_matter() -> None:
    shape = LabelShape(7, 12, 9)
    logits, codec = labels(shape), LowrankInt8(1, 3, 4, 0, 20.0)
    whole = encode(codec, logits, np.arange(7), shape)
    assert whole["scale"].shape == (10,)
    parts = [np.arange(0, 2), np.arange(2, 4), np.arange(4, 7)]
    joined = compression.join([encode(codec, logits[part], part, shape) for part in parts])
    pairs = held_pairs(codec, shape)
    torch.testing.assert_close(decode(codec, joined, *pairs, shape), decode(codec, whole, *pairs, shape))
    found = decode(codec, whole, *pairs, shape).reshape(logits.shape)
    ranks = torch.linalg.matrix_rank((found - found.mean(1, keepdim=True)).double(), rtol=1e-5)
    assert ranks.tolist() == [2, 2, 2, 1, 1, 1, 1]


def test_the_largest_logits_are_exact() -> None:
    shape = LabelShape(3, 10, 300)
    logits = labels(shape)
    codec = LowrankInt8.plan(shape, shape.reference_bytes // 3, exact_share=0.3)
    arrays = encode(codec, logits, np.arange(3), shape)
    assert codec.per_view > 1 and arrays["columns"].dtype == np.uint16
    found = decode(codec, arrays, *held_pairs(codec, shape), shape).reshape(logits.shape)
    top = logits.topk(codec.per_view, dim=-1).indices
    assert torch.equal(found.gather(-1, top), logits.gather(-1, top))


def test_widths_grow_with_the_budget() -> None:
    shape = LabelShape(10, 100, 50)
    plans = [LowrankInt8.plan(shape, shape.reference_bytes // r) for r in (400, 200, 100, 20, 10, 3, 2, 1)]
    assert [codec.bits for codec in plans] == [1.6, 1.6, 1.6, 3, 4, 4, 6, 8]
    assert [codec.mean_bits for codec in plans] == [3, 6, 6, 6, 8, 8, 8, 8]


def test_a_mean_of_fewer_bits_leaves_more_to_the_components() -> None:
    """Components approximate the labels minus the rounded mean, so they compensate for some of its rounding."""
    shape = LabelShape(4, 40, 30)
    logits = labels(shape)
    errors = {}
    for rank in (0, 3):
        for mean_bits in (8, 6, 4, 3):
            codec = LowrankInt8(rank, 0, 8, 0, 0.0, mean_bits)
            found = decode(codec, encode(codec, logits, np.arange(4), shape), *held_pairs(codec, shape), shape)
            errors[rank, mean_bits] = relative(found, logits) ** 2
    for rank in (0, 3):
        grown = [errors[rank, mean_bits] for mean_bits in (8, 6, 4, 3)]
        assert grown == sorted(grown)
    assert errors[3, 3] - errors[3, 8] < errors[0, 3] - errors[0, 8]


REFUSALS = [
    ({"bits": 5}, "codec 'lowrank_int8': bits is 5: input should be 8, 6, 4, 3 or 1.6"),
    ({"mean_bits": 1.6}, "codec 'lowrank_int8': mean_bits is 1.6: input should be a valid integer"),
    ({"exact_share": 1.0}, "codec 'lowrank_int8': exact_share is 1.0: input should be less than 1"),
    ({"temperature": -1.0}, "codec 'lowrank_int8': temperature is -1.0: input should be greater than or equal to 0"),
]


@pytest.mark.parametrize(("options", "sentence"), REFUSALS)
def test_options_are_checked(options: dict, sentence: str) -> None:
    with pytest.raises(DataError) as caught:
        LowrankInt8.plan(LabelShape(2, 30, 20), 10**6, **options)
    assert str(caught.value) == sentence


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(DataError) as caught:
        LowrankInt8.plan(LabelShape(7, 12, 9), 40)
    assert str(caught.value) == (
        "codec 'lowrank_int8': its arrays take at least 42 bytes (36.00x below fp16) but the budget leaves 40 after "
        "the header; choose a smaller ratio"
    )
    with pytest.raises(
        DataError, match=r"^codec 'lowrank_int8' supports up to 65536 classes, but there are 65537; choose codec 'svd'$"
    ):
        LowrankInt8.plan(LabelShape(1, 2, 65537), 10**9)
