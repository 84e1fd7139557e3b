"""Codes of few bits: their packing against Python's integers, their rounding against the obvious loop."""

import numpy as np
import pytest
import torch
from codec_cases import most_of, rounded_slowly
from hypothesis import given, settings
from hypothesis import strategies as st

from dcpipe.compression.quantise import (
    WIDTHS,
    coded,
    combine,
    pack,
    quantise,
    rounded,
    row_bytes,
    unpack,
    unpack_at,
)

every_width = pytest.mark.parametrize("bits", WIDTHS)


def packed_slowly(codes: list[int], bits: float) -> bytes:
    """One long integer, least significant code first; of three levels, five digits to base 3 a byte."""
    most = most_of(bits)
    if bits == 1.6:
        digits = [code + most for code in codes] + [0] * (-len(codes) % 5)
        return bytes(sum(d * 3**i for i, d in enumerate(digits[j : j + 5])) for j in range(0, len(digits), 5))
    whole = sum((code + most) << (int(bits) * place) for place, code in enumerate(codes))
    return whole.to_bytes(-(-len(codes) * int(bits) // 8), "little")


@settings(deadline=None, max_examples=80)
@given(st.sampled_from(WIDTHS), st.integers(1, 70), st.integers(0, 2**32))
def test_packs_like_one_long_integer_and_reads_any_part(bits: float, count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    most = most_of(bits)
    codes = rng.integers(-most, most + 1, (3, count))
    packed = pack(torch.from_numpy(codes).to(torch.int32), bits)
    assert packed.dtype == torch.uint8 and packed.shape == (3, row_bytes(count, bits))
    assert [bytes(row) for row in packed.numpy()] == [packed_slowly(row, bits) for row in codes.tolist()]
    assert (unpack(packed, bits, count) * most).round().int().tolist() == codes.tolist()
    rows, places = rng.integers(0, 3, (5, 2)), rng.integers(0, count, (5, 1))
    read = unpack_at(packed, bits, torch.from_numpy(rows), torch.from_numpy(places)) * most
    assert read.round().int().tolist() == codes[rows, places].tolist()


@every_width
@pytest.mark.parametrize("images", [1, 5, 40])  # 40 are more than go at once
def test_combines_like_a_product_in_float64(bits: float, images: int) -> None:
    rng = np.random.default_rng(images)
    most = most_of(bits)
    codes, weights = rng.integers(-most, most + 1, (images, 7, 611)), rng.normal(size=(images, 2, 7))
    packed = pack(torch.from_numpy(codes), bits)
    sums = combine(torch.from_numpy(weights).float(), packed, bits, 611)
    np.testing.assert_allclose(sums, weights @ (codes / most), atol=1e-5)


@every_width
def test_rounds_like_the_obvious_loop(bits: float) -> None:
    rows = torch.from_numpy(np.random.default_rng(int(bits)).normal(size=(5, 40)))
    found = rounded(*quantise(rows, bits), bits)
    for row, expected in zip(rows.numpy(), found.numpy(), strict=True):
        np.testing.assert_allclose(expected, rounded_slowly(row, bits), atol=1e-12)


@every_width
def test_zeros_stay_zero_and_the_largest_number_of_equal_ones_is_exact(bits: float) -> None:
    codes, peak = quantise(torch.tensor([[0.0, 0.0, 0.0], [2.5, -2.5, 2.5]]), bits)
    assert codes[0].tolist() == [0, 0, 0] and float(peak[0]) == 0
    assert rounded(codes, peak, bits)[1].tolist() == [2.5, -2.5, 2.5]


def test_scales_beyond_fp16_are_its_largest_number() -> None:
    scale = coded(torch.tensor([[1e6, 1.0]]), 8)[1]
    assert scale.dtype == torch.float16 and float(scale) == 65504


def test_fewer_bits_cost_more_and_take_less() -> None:
    rows = torch.from_numpy(np.random.default_rng(0).normal(size=(400, 50)))
    errors = [float((rounded(*quantise(rows, bits), bits) - rows).square().mean()) for bits in WIDTHS]
    assert errors == sorted(errors) and errors[-1] < 0.21  # the best three levels for normal numbers leave 0.19
    assert [row_bytes(50, bits) for bits in WIDTHS] == [50, 38, 25, 19, 10]


@every_width
def test_no_rows_pack_to_no_bytes(bits: int) -> None:
    assert pack(torch.zeros(0, 10, dtype=torch.int32), bits).shape == (0, row_bytes(10, bits))
