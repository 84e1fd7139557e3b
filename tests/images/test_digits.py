"""scikit-learn's digits: every image once, in two splits."""

from __future__ import annotations

import numpy as np
from sklearn.datasets import load_digits

from dcpipe import images


def test_digits_are_scikit_learns_in_two_disjoint_splits(read_all):
    splits = images.SOURCES["digits"]()
    expected = load_digits()
    rows = []
    for source in splits.values():
        assert source.classes == tuple("0123456789")
        for label, (data, name) in zip(source.labels, read_all(source), strict=True):
            row = int(name.removesuffix(".png"))
            rows.append(row)
            assert label == expected.target[row]
            grey = np.array([[int(v * 255 / 16 + 0.5) for v in line] for line in expected.images[row]])
            np.testing.assert_array_equal(images.decode(data, 8, name), grey[:, :, None].repeat(3, axis=2))
    assert sorted(rows) == list(range(1797))
    assert [len(source.labels) for source in splits.values()] == [1438, 359]
    assert read_all(splits["test"])[5][1] == "0019.png"


def test_digits_follow_share_and_seed(read_all):
    test = images.SOURCES["digits"](test_share=0.5, seed=1)["test"]
    assert abs(np.bincount(test.labels) * 2 - np.bincount(load_digits().target)).max() <= 1
    assert read_all(test) != read_all(images.SOURCES["digits"](test_share=0.5, seed=2)["test"])
