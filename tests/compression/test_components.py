"""Components with few bits: their bytes, the widths for a budget, and decoding against sums by hand. How well they
approximate is tested with the codecs that use them, in `test_lowrank_int8.py` and `test_field.py`."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from codec_cases import labels
from hypothesis import given, settings
from hypothesis import strategies as st

from dcpipe.compression import join, payload
from dcpipe.compression.components import (
    against,
    class_weights,
    component_bytes,
    component_specs,
    decode_components,
    encode_components,
    split,
    weighted_rows,
    width_for,
)
from dcpipe.compression.quantise import TERNARY, WIDTHS, row_bytes, unpack
from dcpipe.types import LabelShape

SHAPES = st.builds(LabelShape, st.integers(1, 40), st.integers(1, 300), st.integers(2, 1000))
SHAPE = LabelShape(4, 11, 6)


@settings(deadline=None, max_examples=100)
@given(SHAPES, st.integers(0, 2**24), st.sampled_from(WIDTHS))
def test_components_are_all_that_fit_and_no_more_than_full_rank(shape: LabelShape, budget: int, bits: float) -> None:
    rank, extra = split(shape, budget, bits)
    full, each = min(shape.views, shape.classes), component_bytes(shape, bits)
    assert each == row_bytes(shape.views, bits) + row_bytes(shape.classes, bits) + 2
    assert 0 <= extra < shape.images and rank + (extra > 0) <= full
    used = payload(component_specs(shape, rank, extra, bits))
    assert used == (shape.images * rank + extra) * each
    assert used <= budget if rank < full else extra == 0
    if rank + (extra > 0) < full:
        assert budget - used < each


@settings(deadline=None, max_examples=60)
@given(SHAPES, st.sampled_from([1, 2]))
def test_widths_grow_with_the_budget(shape: LabelShape, alike: int) -> None:
    widths = [width_for(shape, int(shape.reference_bytes * share), alike) for share in np.geomspace(1e-3, 3, 40)]
    assert set(widths) <= set(WIDTHS) and all(first <= then for first, then in pairwise(widths))
    assert width_for(shape, 0, alike) == TERNARY and width_for(shape, 9 * shape.reference_bytes, alike) == 8


def test_where_a_fit_came_before_twice_as_many_components_are_a_few() -> None:
    shape = LabelShape(10, 100, 100)
    switch = {
        alike: next(budget for budget in range(10**5) if width_for(shape, budget, alike) > TERNARY) for alike in (1, 2)
    }
    assert switch[2] == 2 * switch[1]


@pytest.mark.parametrize("bits", WIDTHS)
@pytest.mark.parametrize(("rank", "extra"), [(2, 0), (2, 3), (0, 2), (0, 0)])
def test_labels_are_the_sums_of_the_components_an_image_has(rank: int, extra: int, bits: float) -> None:
    """Encoded in two blocks, decoded in any order, against outer products added up in float64."""
    matrices = labels(SHAPE)
    weights = class_weights(matrices, 4.0)
    blocks = [np.array([0]), np.array([1, 2, 3])]
    parts = [encode_components(matrices[rows], weights[rows], rows, rank, extra, bits) for rows in blocks]
    arrays = join(parts)
    specs = component_specs(SHAPE, rank, extra, bits)
    assert {name: (array.shape, array.dtype.name) for name, array in arrays.items()} == specs
    if not specs:
        return
    tensors = {name: torch.from_numpy(np.asarray(array)) for name, array in arrays.items()}
    held = rank + (np.arange(SHAPE.images) < extra)
    ends = np.cumsum(held)
    left, right = unpack(tensors["left"], bits, SHAPE.views), unpack(tensors["right"], bits, SHAPE.classes)
    scale = tensors["scale"].double()
    rows, stored = np.array([3, 0, 1, 0, 2]), np.array([10, 0, 4, 7, 5])
    at = torch.from_numpy(rows), torch.from_numpy(stored)
    found = decode_components(tensors, *at, SHAPE, rank, extra, bits)
    for label, row, view in zip(found.double(), rows, stored, strict=True):
        expected = torch.zeros(SHAPE.classes, dtype=torch.float64)
        for place in range(ends[row] - held[row], ends[row]):
            expected += scale[place] * left[place, view].double() * right[place].double()
        torch.testing.assert_close(label, expected, rtol=1e-5, atol=1e-5)


def test_class_weights_are_mean_probabilities_over_views() -> None:
    matrices = labels(SHAPE)
    found = class_weights(matrices, 4.0)
    powers = np.exp(matrices.double().numpy() / 4.0)
    likely = np.sqrt((powers / powers.sum(2, keepdims=True)).mean(1, keepdims=True))
    expected = np.maximum(likely / likely.max(2, keepdims=True), 1e-3)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert (class_weights(matrices, 0.0) == 1).all() and class_weights(matrices, 0.0).shape == (4, 1, 6)
    assert float(class_weights(100 * matrices, 1.0).min()) == pytest.approx(1e-3)


def test_weights_are_divided_out_of_rows() -> None:
    rows, weights = torch.tensor([[[2.0, 0.0, 6.0], [0.0, 0.0, 0.0]]]), torch.tensor([[[1.0, 0.5, 2.0]]])
    found = weighted_rows(rows, weights)[0]
    torch.testing.assert_close(found[0], torch.tensor([2.0, 0.0, 3.0]) / 13**0.5)
    assert (found[1] == 0).all()


@pytest.mark.parametrize("rank", [1, 3])
def test_left_factors_are_the_weighted_least_squares_ones(rank: int) -> None:
    rng = np.random.default_rng(1)
    matrices, right = rng.normal(size=(2, 9, 6)), rng.normal(size=(2, rank, 6))
    weights = rng.uniform(0.1, 1, (2, 1, 6))
    found = against(*(torch.from_numpy(part).float() for part in (matrices, right, weights)))
    for image in range(2):
        scaled = (right[image] * weights[image]).T
        expected = np.linalg.lstsq(scaled, (matrices[image] * weights[image]).T, rcond=None)[0].T
        np.testing.assert_allclose(found[image], expected, rtol=1e-3, atol=1e-4)


def test_a_row_of_zeros_has_a_left_factor_of_zeros() -> None:
    right = torch.zeros(1, 2, 6)
    right[0, 0] = torch.arange(6.0)
    found = against(torch.ones(1, 9, 6), right, torch.ones(1, 1, 6))
    assert (found[0, :, 1] == 0).all() and torch.isfinite(found).all() and (found[0, :, 0] > 0).all()
