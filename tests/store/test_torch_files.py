"""Files of torch.save from others: tensors, plain values and two harmless kinds are read, nothing is run."""

from __future__ import annotations

import argparse
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from dcpipe.store.torch_files import load_plain


def test_tensors_plain_values_numpys_scalars_and_options_are_read(tmp_path: Path) -> None:
    content = {
        "weights": torch.arange(3),
        "epoch": 7,
        "names": ["a", "b"],
        "best": np.float64(93.5),
        "seen": np.int64(3),
        "args": argparse.Namespace(lr=0.1),
    }
    torch.save(content, tmp_path / "x.pth")
    found = load_plain(tmp_path / "x.pth")
    assert torch.equal(found.pop("weights"), torch.arange(3))
    assert found == {key: value for key, value in content.items() if key != "weights"}


class Harmful:
    """Touches a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


def test_what_would_call_code_is_refused_and_calls_none(tmp_path: Path) -> None:
    torch.save({"x": Harmful(tmp_path / "ran")}, tmp_path / "x.pth")
    with pytest.raises(pickle.UnpicklingError):
        load_plain(tmp_path / "x.pth")
    assert not (tmp_path / "ran").exists()
