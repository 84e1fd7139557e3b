"""The file of a transform: round trip, half a matrix, damage and hostile sizes refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dcpipe import store
from dcpipe.store import tensors
from dcpipe.store.whitening import WHITENING
from dcpipe.types import DataError, Whitening

D = 12


def transform() -> Whitening:
    rng = np.random.default_rng(0)
    half = rng.normal(size=(D, D))
    return Whitening(rng.normal(size=D).astype(np.float32), (half + half.T).astype(np.float32), 0.1)


def test_it_comes_back_from_half_the_matrix(tmp_path: Path) -> None:
    store.save_whitening(tmp_path, transform())
    found = store.read_whitening(tmp_path / WHITENING)
    assert np.array_equal(found.mean, transform().mean) and np.array_equal(found.matrix, transform().matrix)
    assert (found.eps, found.size) == (0.1, 2)
    arrays = tensors.read_header(tmp_path / WHITENING).arrays
    assert arrays["matrix"].n_bytes == 4 * D * (D + 1) // 2


def test_an_artifact_says_whether_it_has_one(tmp_path: Path) -> None:
    for name, made in (("without", None), ("with", transform())):
        (folder := tmp_path / name).mkdir()
        if made is not None:
            store.save_whitening(folder, made)
        artifact = store.publish(folder, tmp_path / f"{name} out", "synthesis", {}, {})
        assert store.whitening_file(artifact) == (None if made is None else artifact.path / WHITENING)


MEAN, HALF = np.zeros(D, dtype=np.float32), np.zeros(D * (D + 1) // 2, dtype=np.float32)


@pytest.mark.parametrize(
    ("arrays", "eps", "said"),
    [
        ({"mean": MEAN}, "0.1", "other arrays"),
        ({"mean": MEAN, "matrix": HALF[1:]}, "0.1", "other arrays"),
        ({"mean": MEAN.astype(np.float16), "matrix": HALF}, "0.1", "other arrays"),
        ({"mean": MEAN[:11], "matrix": np.zeros(66, dtype=np.float32)}, "0.1", "other arrays"),
        ({"mean": np.zeros(3 * 65**2, dtype=np.float32), "matrix": HALF}, "0.1", "other arrays"),
        ({"mean": MEAN[:0], "matrix": HALF[:0]}, "0.1", "other arrays"),
        ({"mean": MEAN + np.nan, "matrix": HALF}, "0.1", "not finite"),
        ({"mean": MEAN, "matrix": HALF}, "much", "not finite"),
        ({"mean": MEAN, "matrix": HALF}, "-1", "not finite"),
    ],
)
def test_anything_else_is_refused(tmp_path: Path, arrays: dict[str, np.ndarray], eps: str, said: str) -> None:
    tensors.write(tmp_path / WHITENING, arrays, {"eps": eps})
    with pytest.raises(DataError, match=f"{said}.*pull or rebuild it"):
        store.read_whitening(tmp_path / WHITENING)
