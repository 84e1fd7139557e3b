"""Counts: as given, as recorded, as the source has them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from dcpipe.config import params, presets
from dcpipe.config.params import Images
from dcpipe.images import SOURCES, split_minival
from dcpipe.planning.counts import Counts, Given, count
from dcpipe.types import DataError

NOWHERE = Path("nowhere")


def block(preset: str) -> Images:
    return params.parse(yaml.safe_load(presets.text(preset))).images


def test_imagenet_as_given() -> None:
    found = count(block("imagenet-1k-ipc10"), NOWHERE, Given(1_281_167, 1000, 50_000, 110_000))
    assert (found.train, found.minival, found.test, found.classes) == (1_268_167, 13_000, 50_000, 1000)
    assert found.image_bytes >= 110_000 and "assumed" not in found.origin
    assumed = count(block("imagenet-1k-ipc10"), NOWHERE, Given(1_281_167, 1000))
    assert assumed.test == 51_246 and "51,246 test images and 108,000 bytes per image are assumed" in assumed.origin


@given(each=st.integers(1, 300), classes=st.integers(1, 20), share=st.floats(0, 1))
def test_minival_is_what_the_stage_cuts_off(each: int, classes: int, share: float) -> None:
    images = Images(source="digits", size=8, minival=share)
    labels = np.repeat(np.arange(classes), each)
    train, minival = split_minival(labels, share, 0)
    found = count(images, NOWHERE, Given(len(labels), classes))
    assert (found.train, found.minival) == (len(train), len(minival))


def test_the_source_is_counted() -> None:
    images = block("digits")
    source = SOURCES["digits"](**images.options)
    train, minival = split_minival(source["train"].labels, images.minival, images.seed)
    found = count(images, NOWHERE, Given())
    assert (found.train, found.minival, found.test) == (len(train), len(minival), len(source["test"].labels))
    assert found.classes == 10 and found.origin == "counted in source digits"


def test_what_the_stage_has_counted_comes_first(tmp_path: Path) -> None:
    images = block("digits")
    splits = {"train": 50, "minival": 4, "test": 6}
    content = {"lineage": {"params": images.content()}, "meta": {"classes": ["a", "b"], "counts": splits}}
    (tmp_path / "artifact.json").write_text(json.dumps(content), encoding="utf-8")
    (tmp_path / "part.parquet").write_bytes(b"x" * 6000)
    found = count(images, tmp_path, Given())
    assert found.splits == splits and found.classes == 2 and 100 <= found.image_bytes < 120
    other = images.model_copy(update={"size": 16})
    assert count(other, tmp_path, Given()).classes == 10, "another block is counted in its source"


def test_a_folder_has_the_bytes_of_its_files(tmp_path: Path) -> None:
    for split, n in (("train", 6), ("val", 2)):
        for name in ("cat", "dog"):
            (tmp_path / split / name).mkdir(parents=True)
            for number in range(n):
                (tmp_path / split / name / f"{number}.png").write_bytes(b"x" * 1000)
    images = Images(source="imagefolder", options={"path": str(tmp_path)}, size=64, minival=0.5)
    found = count(images, NOWHERE, Given())
    assert found.splits == {"train": 6, "minival": 6, "test": 4} and found.image_bytes == 1040


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (Given(), "cannot be counted"),
        (Given(), "give --images and --classes, for example --images 1281167 --classes 1000"),
        (Given(classes=10), "--classes needs the number of images too; add --images"),
        (Given(image_bytes=10), "--image-bytes needs the number of images too; add --images"),
        (Given(images=10), "--images needs the number of classes too; add --classes"),
        (Given(images=10, classes=11), "--images 10 is less than the 11 classes"),
        (Given(images=10, classes=0), "--classes is 0; give 1 or more"),
        (Given(images=10, classes=2, test=-1), "--test is -1; give 1 or more"),
    ],
)
def test_what_cannot_be_counted_is_refused(given: Given, sentence: str) -> None:
    images = Images(source="imagefolder", options={"path": "not-there"}, size=64, minival=0.1)
    with pytest.raises(DataError) as error:
        count(images, NOWHERE, given)
    assert sentence in str(error.value)


def test_nothing_is_downloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {}

    def source(**options: object) -> Counts:
        asked.update(options)
        raise DataError("it is not there")

    images = block("cifar10-edc-ipc10")
    monkeypatch.setitem(SOURCES, "torchvision", source)
    with pytest.raises(DataError, match="it is not there"):
        count(images, NOWHERE, Given())
    assert asked["download"] is False


def test_images_that_are_not_copied_have_the_bytes_that_they_have(tmp_path: Path) -> None:
    images = block("digits").model_copy(update={"copies": False})
    splits = {"train": 50, "minival": 4, "test": 6}
    meta = {"classes": ["a", "b"], "counts": splits, "source": {"bytes": 60 * 1000}}
    content = {"lineage": {"params": images.content()}, "meta": meta}
    (tmp_path / "artifact.json").write_text(json.dumps(content), encoding="utf-8")
    assert count(images, tmp_path, Given()).image_bytes == 1000


def test_archives_at_a_url_are_not_read_to_be_counted() -> None:
    images = Images(source="webdataset", options={"path": "s3://bucket/set"}, size=8)
    with pytest.raises(DataError) as error:
        count(images, NOWHERE, Given())
    assert "(source webdataset at s3://bucket/set would be read whole); or give --images and" in str(error.value)
    given = Given(images=1000, classes=10)
    assert count(images, NOWHERE, given).classes == 10
