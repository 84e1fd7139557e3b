"""Label stores and packs as they are read, and what is not a pack."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from kinds import IDS, KINDS, assert_same, pack, teacher

from dcpipe import store
from dcpipe.types import DataError


def test_a_pack_is_read_with_its_size_on_disk(tmp_path: Path) -> None:
    KINDS["pack"].publish(tmp_path)
    found, made = store.load_pack(tmp_path / "out", IDS), pack()
    assert found.n_bytes == (tmp_path / "out" / "labels.safetensors").stat().st_size
    for name in ("codec", "settings", "arrays", "shape", "policy"):
        assert_same(getattr(found, name), getattr(made, name))


def test_a_label_store_is_read(tmp_path: Path) -> None:
    KINDS["soft labels"].publish(tmp_path)
    labels = store.load_soft_labels(tmp_path / "out")
    again = np.random.default_rng(0).normal(size=(4, 3, 2)).astype(np.float16)
    np.testing.assert_array_equal(labels.logits[:], again)
    assert (labels.ids.tolist(), labels.teachers, labels.policy.seed) == (IDS.tolist(), ("main",), 4)


def test_a_pack_of_nan_or_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "labels.safetensors"
    bad = pack()
    bad.arrays["u"][1, 2] = np.inf
    store.save_pack(path, bad)
    with pytest.raises(DataError) as error:
        store.read_pack(path, IDS)
    assert str(error.value) == f"{path}: array 'u' contains NaN or infinity; compress the labels again"
    store.save_teacher(tmp_path, teacher())
    with pytest.raises(DataError) as error:
        store.read_pack(tmp_path / "weights.safetensors", IDS)
    assert str(error.value) == (
        f"{tmp_path / 'weights.safetensors'} is not a label pack: its header lacks 'dcpipe'; give a dcpipe labels file"
    )
