"""Releases written: equal content in equal bytes, their sizes, and parts that do not belong together."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import releases
from releases import FILES

import dcpipe
from dcpipe import store
from dcpipe.store import encoding
from dcpipe.types import DataError


def test_equal_content_has_equal_bytes(made: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    releases.build(again, releases.parts())
    for name in FILES:
        assert (again / name).read_bytes() == (made / name).read_bytes(), name


def test_images_that_the_synthesis_has_encoded_are_taken_as_they_are(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.save_set(tmp_path, releases.parts().images)
    monkeypatch.setattr(encoding, "encode_png", None)
    releases.build(tmp_path / "again", releases.parts(), stored=tmp_path / "images.parquet")
    for name in FILES:
        assert (tmp_path / "again" / name).read_bytes() == (made / name).read_bytes(), name


def test_sizes_in_the_manifest_are_those_on_disk(made: Path) -> None:
    sizes = dcpipe.load(made).manifest["bytes"]
    assert sizes == {name: (made / name).stat().st_size for name in FILES[:4]}


def test_assemble_refuses_what_does_not_fit(tmp_path: Path) -> None:
    some, other = releases.parts(), releases.parts(seed=1)
    with pytest.raises(DataError, match=r"^release fish: the label pack is of other images; run `dvc repro comp"):
        releases.build(tmp_path / "a", replace(some, pack=other.pack))
    turned = replace(some.teacher, classes=(releases.CLASSES[1], releases.CLASSES[0], releases.CLASSES[2]))
    with pytest.raises(DataError, match=r"^release fish: teacher and images: class 0 is 'goldfish' on one side"):
        releases.build(tmp_path / "b", replace(some, teacher=turned))


def test_labels_of_stored_grids_are_refused(tmp_path: Path) -> None:
    some = releases.parts()
    grids = replace(some.images, grid=2)
    with pytest.raises(DataError, match=r"^release fish: the label pack is of other images; run `dvc repro comp"):
        releases.build(tmp_path / "a", replace(some, images=grids))


def test_parquet_follows_the_hugging_face_convention(made: Path) -> None:
    schema = pq.read_schema(made / "images.parquet")
    features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
    assert features["image"] == {"_type": "Image"}
    assert features["label"] == {"_type": "ClassLabel", "names": list(releases.CLASSES)}


def test_small_classes_that_gave_what_they_had_are_counted_and_loaded(tmp_path: Path) -> None:
    """A set with fewer images of some classes; a smaller one has as many of them as there are."""
    made = releases.build(tmp_path / "fish", releases.uneven())
    assert made.meta["ipc"] == 4 and made.meta["per_class"] == [4, 2, 1]
    whole, labels = dcpipe.load(made.path), releases.uneven().images.labels
    for ipc, counts in ((1, [1, 1, 1]), (2, [2, 2, 1]), (3, [3, 2, 1]), (4, [4, 2, 1])):
        less = dcpipe.load(made.path, ipc=ipc)
        assert less.images.per_class.tolist() == counts and len(less.dataset()) == sum(counts)
        rows = np.flatnonzero(whole.images.ranks < ipc)
        assert less.images.labels.tolist() == labels[rows].tolist()
        expected = [whole.dataset()[int(row)][1].tolist() for row in rows]
        assert [less.dataset()[row][1].tolist() for row in range(len(rows))] == expected
    with pytest.raises(DataError, match=r"^ipc is 5, but this set has up to 4 images per class; choose 1\.\.4$"):
        dcpipe.load(made.path, ipc=5)
    dcpipe.release.export(whole, tmp_path / "folders")
    folders = sorted(path for path in (tmp_path / "folders").iterdir() if path.is_dir())
    assert [len(list(folder.iterdir())) for folder in folders] == [4, 2, 1]
    dcpipe.release.export(dcpipe.load(made.path, ipc=1), tmp_path / "equal", form="ddranking")
