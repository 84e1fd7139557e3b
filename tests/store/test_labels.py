"""Label stores and packs as they are read, and what is not a pack."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from kinds import IDS, KINDS, POLICY, assert_same, pack, teacher, write_labels

from dcpipe import store
from dcpipe.types import DataError


def test_a_pack_is_read_with_its_size_on_disk(tmp_path: Path) -> None:
    KINDS["pack"].publish(tmp_path)
    found, made = store.load_pack(tmp_path / "out", IDS), pack()
    assert found.n_bytes == (tmp_path / "out" / "labels.safetensors").stat().st_size
    for name in ("codec", "settings", "arrays", "shape", "policy"):
        assert_same(getattr(found, name), getattr(made, name))


@pytest.mark.parametrize("name", ["soft labels", "former soft labels"])
def test_a_label_store_is_read(name: str, tmp_path: Path) -> None:
    KINDS[name].publish(tmp_path)
    labels = store.load_soft_labels(tmp_path / "out")
    again = np.random.default_rng(0).normal(size=(4, 3, 2)).astype(np.float16)
    np.testing.assert_array_equal(labels.logits[:], again)
    assert (labels.ids.tolist(), labels.teachers, labels.policy.seed) == (IDS.tolist(), ("main",), 4)


def test_the_manifest_of_a_label_store_does_not_grow_with_its_images(tmp_path: Path) -> None:
    meta = [store.save_label_keys(tmp_path, np.arange(n), POLICY, ["cat"], ["main"]) for n in (3, 100_000)]
    assert meta[0] == meta[1]
    assert pq.read_table(tmp_path / "ids.parquet")["id"].to_pylist() == list(range(100_000))


def test_a_label_store_without_ids_or_with_those_of_others_is_refused(tmp_path: Path) -> None:
    def refusal(name: str, ids: np.ndarray | None) -> str:
        folder = tmp_path / f"{name}-bench"
        folder.mkdir()
        meta = write_labels(folder)
        (folder / "ids.parquet").unlink()
        if ids is not None:
            store.write_columns(folder / "ids.parquet", {"id": ids})
        store.publish(folder, tmp_path / name, "softlabels", meta, {})
        with pytest.raises(DataError) as error:
            store.load_soft_labels(tmp_path / name)
        return str(error.value)

    assert "does not list ids.parquet, so nothing vouches for its bytes" in refusal("none", None)
    assert "do not fit 3 ids and 2 classes" in refusal("few", np.arange(3))
    assert "its column 'id' is 'double', expected int64" in refusal("numbers", np.arange(4.0))


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
