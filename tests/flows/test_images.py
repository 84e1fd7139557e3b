"""The stage of images: copies of them or an index, from folders, tables and archives, on this machine or at a URL."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from image_sources import CLASSES, SOURCES, labels_of, pixels_of, write_set
from object_store import Bucket

from dcpipe import images, store
from dcpipe.config import params, presets
from dcpipe.images import report, shards
from dcpipe.images.shards import splits_of
from dcpipe.types import DataError
from flows.images import images_stage
from flows.running.reporting import Plain
from flows.running.runtime import Host, Run

SIZE = 6


def make(
    source: str, options: dict[str, Any], selection: dict[str, Any] | None = None, **changes: Any
) -> store.Artifact:
    """Run the stage in the current folder, with another block `selection` than that of the digits if one is given."""
    whole = yaml.safe_load(presets.text("digits"))
    whole["images"] = {"source": source, "options": options, "size": SIZE, "minival": 0.25, **changes}
    whole["selection"]["ipc"], whole["softlabels"]["method"] = 2, "none"
    whole["selection"] = selection or whole["selection"]
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


BROKEN = {"train/ant/03.png": b"", "train/bee/22.png": b"<html>", "train/bee/39.png": b"x", "test/ant/00.png": b"y"}


def broken_set(folder: Path) -> dict[str, Any]:
    """The set in class folders, four of its 52 images damaged."""
    options = write_set(folder, "imagefolder")
    for name, content in BROKEN.items():
        (folder / name).write_bytes(content)
    return {"path": str(folder), **options}


def test_corrupt_images_are_all_told_at_once_and_listed(scratch: Path) -> None:
    options = broken_set(scratch.parent / "set")
    with pytest.raises(DataError) as error:
        make("imagefolder", options)
    listed = json.loads((scratch / "corrupt.json").read_text(encoding="utf-8"))
    assert {image["file"] for image in listed} == set(BROKEN) and len(listed) == 4
    assert str(error.value).startswith("4 of 52 images are corrupt: train/")
    assert str(error.value).endswith(
        f" and 1 more; {scratch}/corrupt.json lists all with the reasons; replace or remove them, or set "
        "images.on_corrupt: skip to leave them out"
    )
    assert not Path("data/images").exists()


@pytest.mark.parametrize("copy", [True, False])
def test_corrupt_images_are_left_out_by_request(
    scratch: Path, copy: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Every row that is left is an intact image with its own id and label, and a killed run ends with the same."""
    options = broken_set(scratch.parent / "set")
    monkeypatch.setattr(shards, "PART_ROWS", 7)
    monkeypatch.setattr(images, "PART_ROWS", 7)
    made = make("imagefolder", options, on_corrupt="skip", copy=copy)
    assert "4 of 52 images are corrupt and left out; data/images/corrupt.json lists them" in caplog.messages
    assert sum(made.meta["counts"].values()) == 48 and made.meta["counts"]["test"] == 11
    ids = {}
    for split in ("train", "minival", "test"):
        table, kind = store.table_of(made, split), "test" if split == "test" else "train"
        np.testing.assert_array_equal(images.read_all(table), pixels_of(kind)[table.ids])
        assert table.labels.tolist() == labels_of(kind)[table.ids].tolist()
        ids[split] = table.ids.tolist()
    assert sorted(ids["train"] + ids["minival"]) == [i for i in range(40) if i not in (3, 22, 39)]
    assert ids["test"] == list(range(1, 12))
    listed = json.loads(made.file("corrupt.json").read_text(encoding="utf-8"))
    assert {image["file"] for image in listed} == set(BROKEN)
    assert made.lineage["params"]["on_corrupt"] == "skip" and made.lineage["report"]["skipped"] == 4

    again, calls = shards.write_again, list[Any]()

    def killed(*given: Any) -> None:
        calls.append(given)
        if len(calls) == 3:
            raise KeyboardInterrupt
        again(*given)

    monkeypatch.setattr(shards, "write_again", killed)
    with pytest.raises(KeyboardInterrupt):
        make("imagefolder", options, on_corrupt="skip", copy=copy)
    assert make("imagefolder", options, on_corrupt="skip", copy=copy).digest == made.digest and len(calls) > 3


def test_too_few_intact_images_are_refused(scratch: Path) -> None:
    options = broken_set(scratch.parent / "set")
    for file in sorted((scratch.parent / "set/train/ant").iterdir())[1:]:
        file.write_bytes(b"")
    with pytest.raises(DataError, match=r"^selection\.ipc is 2 but class 'ant' has 1 train images; lower ipc$"):
        make("imagefolder", options, on_corrupt="skip")
    drawn = {"method": "random", "ipc": 2}
    with pytest.raises(DataError, match=r"; lower ipc, or set selection\.small_classes: take_all$"):
        make("imagefolder", options, drawn, on_corrupt="skip")
    made = make("imagefolder", options, {**drawn, "small_classes": "take_all"}, on_corrupt="skip")
    assert made.lineage["report"]["per_class"]["counts"][0] == 1
    for file in (scratch.parent / "set/train/ant").iterdir():
        file.write_bytes(b"")
    with pytest.raises(DataError, match=r"^class 'ant' has no train images that can be read; restore some$"):
        make("imagefolder", options, {**drawn, "small_classes": "take_all"}, on_corrupt="skip")


def test_intact_images_are_the_same_whatever_would_be_done_with_corrupt_ones(scratch: Path) -> None:
    options = {"path": str(scratch.parent / "set"), **write_set(scratch.parent / "set", "imagefolder")}
    stop, skip = (make("imagefolder", options, on_corrupt=policy) for policy in ("stop", "skip"))
    assert stop.digest == skip.digest and "corrupt.json" not in skip.files
    assert "on_corrupt" not in stop.lineage["params"]


def test_the_report_is_told_and_kept_out_of_the_content(scratch: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "dcpipe")
    options = {"path": str(scratch.parent / "set"), **write_set(scratch.parent / "set", "imagefolder")}
    made = make("imagefolder", options)
    found = report.recorded(Path("data/images"))
    assert found is not None and found.counts == made.meta["counts"] and "report" not in made.meta
    assert set(found.lines()) <= set(caplog.messages)
    assert found.lines()[2] == "sizes 6x6 to 6x6, median 6x6, read at 6x6" and set(made.files) == {
        *("duplicates.json", "train/part-00000.parquet", "minival/part-00000.parquet", "test/part-00000.parquet")
    }
