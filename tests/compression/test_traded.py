"""Entries in the bytes of components: every value and class is read back, and every word is finite."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dcpipe.compression import traded
from dcpipe.types import LabelShape

shapes = st.builds(LabelShape, st.integers(1, 4), st.integers(1, 30), st.integers(1, 80) | st.integers(200, 70000))


@pytest.mark.parametrize(
    ("classes", "digits"),
    [(1, 8), (3, 8), (4, 7), (10, 4), (39, 3), (40, 2), (251, 2), (252, 1), (63488, 1), (63489, 0)],
)
def test_classes_per_word(classes: int, digits: int) -> None:
    assert traded.digits(classes) == digits
    assert digits in (0, 8) or classes**digits <= 63488 < classes ** (digits + 1)


@settings(deadline=None, max_examples=200)
@given(shapes, st.integers(1, 40))
def test_as_many_entries_as_fit(shape: LabelShape, count: int) -> None:
    room, found = count * (shape.views + shape.classes), traded.entries(shape, count)
    together = traded.digits(shape.classes)
    if together == 0:
        assert found == 0
        return
    needed = [shape.views * k + -(-(shape.views * k) // together) for k in (found, found + 1)]
    assert needed[0] == traded.words(shape, found) <= room
    assert found == shape.classes or needed[1] > room
    assert traded.entries(shape, count + 1) >= found


@settings(deadline=None, max_examples=80)
@given(
    st.builds(
        LabelShape, st.integers(1, 4), st.integers(1, 12), st.integers(1, 50) | st.sampled_from([251, 300, 63488])
    ),
    st.integers(1, 3),
    st.integers(0, 10**6),
)
def test_entries_and_components_are_read_back(shape: LabelShape, held: int, seed: int) -> None:
    """Images trade 0, 1 or 2 of `held` + 2 components, in one pack."""
    rng, rank, (n, k, c) = np.random.default_rng(seed), held + 2, (shape.images, shape.views, shape.classes)
    left, right = rng.normal(size=(n, k, rank)).astype(np.float16), rng.normal(size=(n, rank, c)).astype(np.float16)
    right[rng.random(right.shape) < 0.3] = 0
    counts, expected, kept = rng.integers(0, 3, n), [], []
    for image in range(n):
        count = int(counts[image])
        per_view = traded.entries(shape, count) if count else 0
        columns = np.argsort(rng.random((1, k, c)), axis=-1)[:, :, :per_view]
        values = rng.normal(scale=100, size=columns.shape).astype(np.float16)
        parts = torch.from_numpy(left[image : image + 1]), torch.from_numpy(right[image : image + 1])
        turned = traded.signed(parts[0][:, :, : rank - count], parts[1][:, : rank - count], count > 0)
        kept.append(turned[0][0].double() @ turned[1][0].double())
        np.testing.assert_array_equal(
            kept[-1], parts[0][0, :, : rank - count].double() @ parts[1][0, : rank - count].double()
        )
        left[image, :, : rank - count], right[image, : rank - count] = turned[0][0], turned[1][0]
        if count:
            packed = traded.pack_entries(torch.from_numpy(values), torch.from_numpy(columns), shape, count)
            left[image, :, rank - count :], right[image, rank - count :] = packed[0][0], packed[1][0]
        dense = np.zeros((k, c), np.float32)
        np.put_along_axis(dense, columns[0], values[0].astype(np.float32), axis=1)
        expected.append(dense)
    assert np.isfinite(left).all() and np.isfinite(right).all()
    arrays = {"left": torch.from_numpy(left), "right": torch.from_numpy(right)}
    rows, stored = np.repeat(np.arange(n), k), np.tile(np.arange(k), n)
    found = traded.components_held(arrays["right"][rows])
    assert found.sum(1).tolist() == np.repeat(rank - counts, k).tolist()
    assert all(row[: int(row.sum())].all() for row in found)
    at = torch.from_numpy(rows), torch.from_numpy(stored)
    read, columns = traded.entries_of(arrays, rank - found.sum(1), 2, *at, shape)
    dense = torch.zeros(n * k, c).scatter_add(1, columns, read)
    np.testing.assert_array_equal(dense, np.concatenate(expected))
