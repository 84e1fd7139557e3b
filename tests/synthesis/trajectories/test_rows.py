"""The file of an expert: safetensors of the rows, written one by one, to the same bytes after a kill at any byte."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from dcpipe.synthesis.trajectories import rows
from dcpipe.types import DataError

LAYOUT: rows.Layout = {"features.0.weight": (2, 3), "bias": (1,)}
GIVEN = torch.arange(28, dtype=torch.float32).reshape(4, 7) / 3


def written(path: Path, given: torch.Tensor = GIVEN) -> bytes:
    file = rows.Rows(path, LAYOUT, 4)
    for row in given[file.done :]:
        file.append(row)
    file.finish()
    return path.read_bytes()


def test_the_file_is_safetensors_with_names_and_shapes(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    written(path)
    assert torch.equal(load_file(path)["weights"], GIVEN) and torch.equal(
        torch.stack(rows.read(path, 1, 3)), GIVEN[[1, 3]]
    )
    with safe_open(path, framework="pt") as stream:
        assert stream.metadata() == {"layout": '[["features.0.weight", [2, 3]], ["bias", [1]]]'}
    rows.check(path, LAYOUT, 4)
    assert [p.name for p in tmp_path.iterdir()] == ["x.safetensors"]


def test_a_kill_at_any_byte_resumes_to_the_same_bytes(tmp_path: Path) -> None:
    whole = written(tmp_path / "whole.safetensors")
    start = len(rows.header(LAYOUT, 4))
    for cut in (0, 5, start - 1, start, start + 27, start + 28, start + 29, len(whole) - 1, len(whole)):
        path = tmp_path / f"{cut}.safetensors"
        path.with_suffix(rows.OPEN).write_bytes(whole[:cut])
        file = rows.Rows(path, LAYOUT, 4)
        assert file.done == max(0, (cut - start) // 28)
        last = file.last()
        assert (last is None) == (file.done == 0) and (last is None or torch.equal(last, GIVEN[file.done - 1]))
        assert written(path) == whole


def test_an_open_file_of_another_network_is_not_continued(tmp_path: Path) -> None:
    first = rows.Rows(tmp_path / "x.safetensors", {"other": (7,)}, 4)
    first.append(GIVEN[0])
    assert rows.Rows(tmp_path / "x.safetensors", LAYOUT, 4).done == 0


def test_files_that_are_missing_damaged_or_of_another_network_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    whole = written(path)
    for layout, n in (({"bias": (7,)}, 4), (LAYOUT, 5)):
        with pytest.raises(DataError, match="of this network; remove the file"):
            rows.check(path, layout, n)
    path.write_bytes(whole[:-1])
    with pytest.raises(DataError, match="of this network; remove the file"):
        rows.check(path, LAYOUT, 4)
    path.write_bytes(b"no")
    for other in (path, tmp_path / "y.safetensors"):
        with pytest.raises(DataError, match="remove the file and run again"):
            rows.read(other, 0)
    with pytest.raises(DataError, match="remove the file and run again"):
        rows.check(tmp_path / "y.safetensors", LAYOUT, 4)
