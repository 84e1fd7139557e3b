"""Factors of low rank: as many components as fit, one more for the first images, and their product."""

import numpy as np
import pytest
import torch
from codec_cases import decode, encode, labels, make
from hypothesis import given, settings
from hypothesis import strategies as st

from dcpipe.compression import join, lowrank, payload
from dcpipe.types import LabelShape

SHAPE = LabelShape(5, 7, 4)


@settings(deadline=None, max_examples=100)
@given(st.builds(LabelShape, st.integers(1, 40), st.integers(1, 300), st.integers(2, 1000)), st.integers(0, 2**26))
def test_components_are_all_that_fit_and_no_more_than_full_rank(shape: LabelShape, budget: int) -> None:
    rank, extra = lowrank.split(shape, budget)
    full, each = min(shape.views, shape.classes), lowrank.component_bytes(shape)
    assert 0 <= extra < shape.images and rank + (extra > 0) <= full
    used = payload(lowrank.factor_specs(shape, rank, extra))
    assert used == (shape.images * rank + extra) * each
    assert used <= budget if rank < full else extra == 0
    if rank + (extra > 0) < full:
        assert budget - used < each


def factors() -> tuple[torch.Tensor, torch.Tensor]:
    """Three components of each image, exactly representable in fp16."""
    rng = np.random.default_rng(0)
    left, right = rng.normal(size=(5, 7, 3)), rng.normal(size=(5, 3, 4))
    return tuple(torch.from_numpy(part.astype(np.float16)).float() for part in (left, right))  # type: ignore[return-value]  # two


@pytest.mark.parametrize("extra", [0, 1, 3])
def test_labels_are_the_products_of_the_factors_an_image_has(extra: int) -> None:
    """In blocks that lie before, across and beyond the last image with one component more; in any order."""
    left, right = factors()
    rank = 2
    arrays = join(
        [
            lowrank.factor_arrays(left[rows], right[rows], rows, rank, extra)
            for rows in (np.array([0, 1]), np.array([2, 3]), np.array([4]))
        ]
    )
    assert {name: (array.shape, "float16") for name, array in arrays.items()} == lowrank.factor_specs(
        SHAPE, rank, extra
    )
    rows, stored = np.array([4, 0, 2, 2, 1, 3, 0]), np.array([6, 1, 0, 6, 3, 2, 0])
    tensors = {name: torch.from_numpy(np.asarray(array)) for name, array in arrays.items()}
    found = lowrank.product(tensors, torch.from_numpy(rows), torch.from_numpy(stored))
    assert found.dtype == torch.float32
    for label, row, view in zip(found.double().numpy(), rows, stored, strict=True):
        held = rank + (row < extra)
        expected = left[row, view, :held].double().numpy() @ right[row, :held].double().numpy()
        np.testing.assert_allclose(label, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["svd", "rpca", "rpca-dense", "rpca-pursuit", "rsvd", "cur"])
def test_other_devices_decode_what_a_cpu_does(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """They compute the last component for all images and leave it out for those without it."""
    shape = LabelShape(9, 8, 6)
    codec = next(codec for ratio in np.arange(1.3, 3, 0.1) if (codec := make(kind, shape, ratio)).extra)
    arrays = encode(codec, labels(shape), np.arange(9), shape)
    rows, stored = np.arange(9).repeat(2)[::-1].copy(), np.tile([3, 0], 9)
    wanted = decode(codec, arrays, rows, stored, shape)
    monkeypatch.setattr(lowrank, "having_more", lowrank.all_places)
    assert torch.equal(decode(codec, arrays, rows, stored, shape), wanted)
