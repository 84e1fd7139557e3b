"""Notes: what is saved is loaded again, is written atomically, and can be removed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from releases import parts

from dcpipe.store import Notes, encoding


def test_arrays_and_values_are_found_again(tmp_path: Path) -> None:
    notes = Notes(tmp_path)
    assert notes.load_arrays("a") is None and notes.load_json("a") is None
    notes.save_arrays("a", rows=np.arange(3), reason=np.array("too few bytes"))
    notes.save_json("a", {"history": [1.5]})
    kept = notes.load_arrays("a")
    assert kept is not None and kept["rows"].tolist() == [0, 1, 2] and kept["reason"].item() == "too few bytes"
    assert notes.load_json("a") == {"history": [1.5]}


def test_a_write_that_dies_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notes = Notes(tmp_path)
    notes.save_arrays("a", rows=np.arange(3))

    def dies(stream: object, **arrays: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "savez", dies)
    with pytest.raises(KeyboardInterrupt):
        notes.save_arrays("a", rows=np.arange(5))
    kept = notes.load_arrays("a")
    assert kept is not None and len(kept["rows"]) == 3


def test_a_part_of_the_work_has_a_separate_folder(tmp_path: Path) -> None:
    notes = Notes(tmp_path)
    inner = notes.within("part")
    inner.save_arrays("a", rows=np.arange(3))
    assert notes.load_arrays("a") is None and notes.within("part").load_arrays("a") is not None
    notes.remove("part")
    notes.remove("part")
    assert list(tmp_path.iterdir()) == []


def test_only_one_part_is_on_disk(tmp_path: Path) -> None:
    notes = Notes(tmp_path)
    for name in ("first", "second", "first"):
        notes.only(name).save_arrays("a", rows=np.arange(3))
        notes.save_arrays("own", rows=np.arange(3))
    assert {path.name for path in tmp_path.iterdir()} == {"first", "own.npz"}
    assert notes.only("first").load_arrays("a") is not None, "its own notes are preserved"


def test_a_pack_and_a_set_weigh_what_their_files_do(tmp_path: Path) -> None:
    some, notes = parts(), Notes(tmp_path)
    assert some.pack is not None and not notes.has_pack("labels")
    notes.save_pack("labels", some.pack)
    assert notes.has_pack("labels")
    pack = notes.read_pack("labels", some.pack.ids)
    assert pack.n_bytes == (tmp_path / "labels.safetensors").stat().st_size
    np.testing.assert_array_equal(pack.arrays["logits"][:], some.pack.arrays["logits"][:])
    path = notes.image_file(some.images)
    assert path == tmp_path / "images.parquet"
    written = path.stat()
    assert notes.image_file(some.images).stat().st_mtime_ns == written.st_mtime_ns, "it is written once"
    measured = notes.within("measured")
    assert measured.image_bytes(some.images) == written.st_size
    assert [file.name for file in measured.folder.iterdir()] == ["image_bytes.json"]


def test_a_measured_set_is_not_encoded_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    some, notes = parts(), Notes(tmp_path)
    n_bytes = notes.image_bytes(some.images)
    monkeypatch.setattr(encoding, "encode_png", None)
    assert notes.image_bytes(some.images) == n_bytes
    # A run that was killed after it had written the file and before it had the number.
    file = tmp_path / "killed"
    file.mkdir()
    monkeypatch.undo()
    Notes(file).image_file(some.images)
    monkeypatch.setattr(encoding, "encode_png", None)
    assert Notes(file).image_bytes(some.images) == n_bytes


def test_an_array_is_filled_further_by_the_next_run(tmp_path: Path) -> None:
    first = Notes(tmp_path).blocks("labels", (40, 2, 3), "float16")
    assert len(first.missing()) == len(first) > 2
    first.write(1, np.ones((first.span(1).stop - first.span(1).start, 2, 3)))
    again = Notes(tmp_path).blocks("labels", (40, 2, 3), "float16")
    assert again.missing() == [block for block in range(len(first)) if block != 1]
