"""Files of torch.save from others: tensors, plain values and two harmless kinds are read, nothing is run."""

from __future__ import annotations

import argparse
import copy
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from dcpipe.store.torch_files import load_plain, read_plain
from dcpipe.types import DataError


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


# --- of strangers ---


def refused(path: Path, instead: str = "") -> str:
    with pytest.raises(DataError) as error:
        read_plain(path, instead)
    return str(error.value).replace(f"{path.parent}/", "")


def test_strangers_files_are_read_alike_and_refused_in_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    torch.save([torch.arange(3), np.float64(0.5)], path)
    tensor, number = read_plain(path)
    assert torch.equal(tensor, torch.arange(3)) and number == 0.5
    torch.save(Harmful(tmp_path / "ran"), path)
    sentence = "x.pt contains something other than tensors and plain numbers; it was refused, and no code was run"
    assert (refused(path), refused(path, "save it again")) == (sentence, f"{sentence}; save it again")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("size", [0, 10, 500, -1])
def test_truncated_files(tmp_path: Path, size: int) -> None:
    torch.save(torch.zeros(1000), tmp_path / "x.pt")
    (tmp_path / "x.pt").write_bytes((tmp_path / "x.pt").read_bytes()[:size])
    assert refused(tmp_path / "x.pt") == "x.pt is truncated or not a file of torch.save; copy it again"


def test_packed_entries_and_entries_that_share_bytes_are_refused(tmp_path: Path) -> None:
    sentence = "x.pt has packed entries, which torch.save does not write; save its tensors again with torch.save"
    with zipfile.ZipFile(tmp_path / "x.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x/data.pkl", b"0" * 10**6)
    assert refused(tmp_path / "x.pt") == sentence
    with zipfile.ZipFile(tmp_path / "x.pt", "w") as archive:
        archive.writestr("x/data.pkl", b"0" * 1000)
        for number in range(9):  # the directory names the same bytes again
            again = copy.copy(archive.filelist[0])
            again.filename = f"x/data/{number}"
            archive.filelist.append(again)
    assert refused(tmp_path / "x.pt") == sentence
