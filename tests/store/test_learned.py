"""What was learned beside images: round trip, nothing where nothing was learned, damage refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dcpipe import store
from dcpipe.store import tensors
from dcpipe.store.learned import LEARNED
from dcpipe.types import DataError

LOGITS = np.arange(6, dtype=np.float32).reshape(2, 3)


def published(folder: Path) -> store.Artifact:
    (folder / "s").mkdir(exist_ok=True)
    return store.publish(folder / "s", folder / "out", "synthesis", {}, {})


def test_arrays_come_back(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    store.save_learned(tmp_path / "s", {"logits": LOGITS, "rate": np.array(0.25, dtype=np.float32)})
    found = store.load_learned(published(tmp_path))
    assert np.array_equal(found["logits"], LOGITS) and found["rate"].shape == () and found["rate"] == 0.25


def test_nothing_is_written_where_nothing_was_learned(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    store.save_learned(tmp_path / "s", {})
    assert not list((tmp_path / "s").iterdir()) and store.load_learned(published(tmp_path)) == {}


@pytest.mark.parametrize(
    "arrays",
    [{"logits": LOGITS[0]}, {"other": LOGITS}, {"logits": LOGITS + np.inf}, {"rate": np.ones(1, dtype=np.float16)}],
)
def test_other_arrays_are_refused(tmp_path: Path, arrays: dict[str, np.ndarray]) -> None:
    (tmp_path / "s").mkdir()
    tensors.write(tmp_path / "s" / LEARNED, arrays, {})
    with pytest.raises(DataError, match="has other arrays than finite logits and a rate in f32; pull or rebuild it"):
        store.load_learned(published(tmp_path))
