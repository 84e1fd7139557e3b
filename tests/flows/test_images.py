"""The stage of images: copies of them or an index, from folders, tables and archives, on this machine or at a URL."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from image_sources import CLASSES, SOURCES, labels_of, pixels_of, write_set
from object_store import Bucket

from dcpipe import images, store
from dcpipe.config import params, presets
from dcpipe.images.shards import splits_of
from dcpipe.types import DataError
from flows.images import images_stage
from flows.running.reporting import Plain
from flows.running.runtime import Host, Run

SIZE = 6


def make(source: str, options: dict[str, Any], **changes: Any) -> store.Artifact:
    """Run the stage in the current folder."""
    whole = yaml.safe_load(presets.text("digits"))
    whole["images"] = {"source": source, "options": options, "size": SIZE, "minival": 0.25, **changes}
    whole["selection"]["ipc"], whole["softlabels"]["method"] = 2, "none"
    splits_of.forget()
    images_stage(Run("images", params.parse(whole), Plain("images"), device=Host(), workers=None))  # type: ignore[arg-type]
    return store.open_artifact(Path("data/images"), "images")


def check_pixels(artifact: store.Artifact) -> None:
    """Every split, by every way of reading it."""
    for split in ("train", "minival", "test"):
        table = store.table_of(artifact, split)
        kind = "test" if split == "test" else "train"
        expected = pixels_of(kind)[table.ids]
        assert table.labels.tolist() == labels_of(kind)[table.ids].tolist() and table.classes == CLASSES
        np.testing.assert_array_equal(images.read_all(table), expected)
        np.testing.assert_array_equal(images.read_part(table, 0)[0], expected)
        rows = np.array([7, 0, 7, 3])
        np.testing.assert_array_equal(images.read_rows(table, rows), expected[rows])
        batches = list(images.stream(table, 0, 0, 5))
        ids = np.concatenate([ids for _, _, ids in batches])
        assert sorted(ids) == sorted(table.ids)
        np.testing.assert_array_equal(np.concatenate([pixels for pixels, _, _ in batches]), pixels_of(kind)[ids])


@pytest.mark.parametrize("source", SOURCES)
def test_an_index_gives_the_pixels_of_copies(source: str, scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (scratch.parent / "workspace").mkdir()
    monkeypatch.chdir(scratch.parent / "workspace")
    options = {"path": "../set", **write_set(scratch.parent / "set", source)}
    copied = make(source, options)
    check_pixels(copied)
    indexed = make(source, options, copy=False)
    check_pixels(indexed)
    changed = {key for key in indexed.meta | copied.meta if indexed.meta.get(key) != copied.meta.get(key)}
    assert changed == {"source"} and indexed.meta["source"]["root"] == "../set"
    assert indexed.lineage["params"] == {**copied.lineage["params"], "copy": False}
    assert not any(b"\x89PNG" in path.read_bytes() for path in Path("data/images").rglob("*.parquet"))


@pytest.mark.parametrize("source", SOURCES)
def test_images_at_a_url_are_those_of_this_machine(source: str, bucket: Bucket, scratch: Path) -> None:
    options = write_set(scratch.parent / "set", source)
    url = bucket.put_folder(scratch.parent / "set", f"stage-{source}")
    for copy in (True, False):
        here = make(source, {"path": "set", **options}, copy=copy)
        there = make(source, {"path": url, **options}, copy=copy)
        check_pixels(there)
        assert here.files == there.files, "an index has names below the source"
        assert (there.digest == here.digest) is copy


def test_an_index_is_read_from_any_folder(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its path is relative to the workspace that it is in."""
    options = {"path": "sets/one", **write_set(scratch.parent / "sets/one", "imagefolder")}
    make("imagefolder", options, copy=False)
    monkeypatch.chdir("/")
    check_pixels(store.open_artifact(scratch.parent / "data/images", "images"))


def test_images_in_no_file_cannot_be_left_where_they_are(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Drawn:
        classes, labels = CLASSES, labels_of("train")

    monkeypatch.setitem(images.SOURCES, "drawn", lambda: dict.fromkeys(("train", "test"), Drawn()))
    with pytest.raises(DataError) as error:
        make("drawn", {}, copy=False)
    assert str(error.value) == (
        "images.copy is false, but the images of source 'drawn' are in no files that could be read later; set "
        "images.copy: true"
    )
    assert not scratch.exists(), "before any work"
