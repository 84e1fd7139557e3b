"""Requests: what a release says of itself, what the user wishes, and what is refused before any work."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import pytest
import yaml
from PIL import Image
from releases import build, hard, parts, whitened

from dcpipe.config import presets
from dcpipe.config.params import Params, parse
from dcpipe.judging import request
from dcpipe.judging.request import ROWS, Wishes, described, make, read_request, write
from dcpipe.release import Release, load
from dcpipe.types import DataError

DIGITS = presets.preset("digits").params
FAST = Wishes(students=["convnet-d1-w4"])


@pytest.fixture
def release(tmp_path: Path) -> Release:
    build(tmp_path / "release", parts())
    return load(tmp_path / "release")


def test_a_release_is_judged_as_it_was_evaluated(release: Release) -> None:
    wanted, params = make("fish@v1.0.0", release, None, Wishes())
    assert (wanted.what, wanted.digest) == ("fish@v1.0.0", release.digest)
    assert wanted.students == [DIGITS["evaluation"]["student"]] and wanted.seeds == [0, 1, 2]
    assert wanted.rows == list(ROWS)
    assert params.evaluation.epochs == DIGITS["evaluation"]["epochs"] and params.evaluation.sizes == []
    assert params.softlabels.views == DIGITS["softlabels"]["views"]
    assert params.selection.ipc == 4 and params.images.source == "digits"


def test_wishes_replace_what_the_release_says(release: Release) -> None:
    wishes = Wishes(["convnet-d1-w4", "convnet-d1-w8"], [5], ["hard"], "rded/cifar10/ipc10", 7, True)
    wanted, params = make("fish", release, DIGITS, wishes)
    assert (wanted.students, wanted.seeds, wanted.rows) == (["convnet-d1-w4", "convnet-d1-w8"], [5], ["hard"])
    block = params.evaluation
    assert (block.protocol, block.epochs, block.sizes) == ("rded/cifar10/ipc10", 7, [1, 2, 3])
    published = make("fish", release, DIGITS, Wishes(protocol="rded/cifar10/ipc10"))[1].evaluation
    assert published.loss == "kl_plain" and published.optimizer == "adamw", "the protocol's own numbers"


def test_a_release_is_tested_on_the_split_that_it_was_made_without(release: Release) -> None:
    """Another share for test would put train images into test, and another size would read them otherwise."""
    other = {**DIGITS, "images": {**DIGITS["images"], "options": {"test_share": 0.5, "seed": 3}, "size": 16}}
    _, params = make("fish", release, other, FAST)
    assert params.images.options == DIGITS["images"]["options"] and params.images.size == 8
    elsewhere = {"source": "imagefolder", "options": {"path": "pictures"}, "size": 16}
    _, params = make("fish", release, {**DIGITS, "images": elsewhere}, FAST)
    assert params.images.source == "imagefolder" and params.images.size == 16, "images in another form"


def test_hard_labels_need_no_codec(tmp_path: Path) -> None:
    build(tmp_path / "hard", hard(parts()))
    _, params = make("hard", load(tmp_path / "hard"), DIGITS, FAST)
    assert params.softlabels.method == "none" and params.compression.codec == "none"


@pytest.mark.parametrize(
    ("wishes", "sentence"),
    [
        (Wishes(["resnet1888"]), "resnet1888"),
        (Wishes(["convnet-d9-w4"]), "convnet-d9-w4"),
        (Wishes(rows=["best"]), "--rows has best; choose from uncompressed, online"),
        (Wishes(protocol="sre3l"), "evaluation.protocol is 'sre3l': unknown"),
        (Wishes(epochs=0), "evaluation.epochs is 0"),
        (Wishes(seeds=[1, 1]), "seeds is [1, 1]"),
    ],
)
def test_wishes_that_cannot_be_are_refused(wishes: Wishes, sentence: str, release: Release) -> None:
    with pytest.raises(DataError) as error:
        make("fish", release, DIGITS, wishes)
    assert sentence in str(error.value)


def test_a_release_of_images_elsewhere_needs_data(release: Release, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = {**release.manifest, "params": {"evaluation": {"temperature": 4.0}}}
    monkeypatch.setattr(Release, "manifest", property(lambda self: elsewhere))
    with pytest.raises(DataError, match="does not say where its original images are; give --data: a preset such as"):
        make("theirs", release, None, FAST)
    _, params = make("theirs", release, DIGITS, FAST)
    assert params.evaluation.protocol == "score"


def test_files_come_back_and_another_set_is_not_mixed_in(release: Release, tmp_path: Path) -> None:
    wanted, params = make("fish", release, None, FAST)
    out = tmp_path / "judged"
    assert not write(out, wanted, params)
    assert read_request(out) == wanted and write(out, wanted, params), "now they are there"
    assert not write(out, wanted.model_copy(update={"seeds": [4]}), params)
    with pytest.raises(DataError, match="has a judgement of fish already; give another folder with --out"):
        write(out, wanted.model_copy(update={"digest": "0" * 64}), params)


def test_data_is_a_preset_or_a_file_of_parameters(tmp_path: Path) -> None:
    assert described("digits", tmp_path / "out")["images"]["source"] == "digits"
    options = {"path": "pictures/list.csv", "images": "pictures", "classes": ["a", "b"], "train": "train"}
    content: dict[str, Any] = {"images": {"source": "csv", "options": options}}
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/params.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    found = described(str(tmp_path / "mine/params.yaml"), tmp_path / "judged" / "x")
    rebased = {"path": "../../mine/pictures/list.csv", "images": "../../mine/pictures"}
    assert found["images"]["options"] == {**options, **rebased}
    elsewhere = {"images": {"source": "parquet", "options": {"path": "s3://bucket/x", "classes": "/data/names.json"}}}
    (tmp_path / "mine/params.yaml").write_text(yaml.safe_dump(elsewhere), encoding="utf-8")
    found = described(str(tmp_path / "mine/params.yaml"), tmp_path / "judged" / "x")["images"]["options"]
    assert found["path"] == "s3://bucket/x" and (tmp_path / "judged/x" / found["classes"]).resolve() == Path(
        "/data/names.json"
    )
    for name in ("ant", "bee"):
        write_pictures(tmp_path / "pictures" / name, 12)
    seen = described(str(tmp_path / "pictures"), tmp_path / "judged" / "y")
    assert seen["images"]["on_corrupt"] == "skip" and seen["images"]["source"] == "imagefolder"


def test_a_workspace_is_no_place_for_a_judgement(release: Release, tmp_path: Path) -> None:
    """Its params.yaml would be replaced."""
    wanted, params = make("fish", release, None, FAST)
    (tmp_path / "params.yaml").write_text("mine", encoding="utf-8")
    with pytest.raises(DataError, match=r"has a params.yaml of something else; give another folder with --out"):
        write(tmp_path, wanted, params)
    assert (tmp_path / "params.yaml").read_text(encoding="utf-8") == "mine"


def pictures_params(folder: Path, names: tuple[str, ...]) -> Params:
    for name in names:
        write_pictures(folder / "train" / name, 3)
        write_pictures(folder / "val" / name, 1)
    content = {**DIGITS, "images": {"source": "imagefolder", "options": {"path": folder.name}, "size": 8}}
    return parse(content)


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (("goldfish", "tench"), "the original images (--data) and the set: 2 classes on one side and 3 on the other"),
        (("goldfish", "tench", "white shark"), "class 0 is 'goldfish' on one side and 'tench' on the other"),
    ],
)
def test_images_of_other_classes_are_refused_before_any_work(
    names: tuple[str, ...], sentence: str, release: Release, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError) as error:
        request.check_classes(pictures_params(tmp_path / "pictures", names).images, release)
    assert sentence in str(error.value)


def test_images_in_the_order_of_the_set_pass(release: Release, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    images = pictures_params(tmp_path / "pictures", release.classes).images
    ordered = images.model_copy(update={"options": {**images.options, "classes": list(release.classes)}})
    request.check_classes(ordered, release)


def test_other_files_at_the_same_place_are_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    params = pictures_params(tmp_path / "pictures", ("ant", "bee"))
    before = request.listing(params.images)
    assert before["files"] == 8 and not request.has_images(tmp_path, params, before)
    (tmp_path / "data/images").mkdir(parents=True)
    manifest = {"lineage": {"params": params.images.content()}, "meta": {"classes": ["ant", "bee"]}}
    (tmp_path / "data/images/artifact.json").write_text(json.dumps(manifest), encoding="utf-8")
    assert not request.has_images(tmp_path, params, before), "it is not known what they were read from"
    request.note_listing(tmp_path, before)
    assert request.has_images(tmp_path, params, before) and request.has_images(tmp_path, params, None)
    write_pictures(tmp_path / "pictures/train/cat", 1)
    assert not request.has_images(tmp_path, params, request.listing(params.images))
    assert request.listing(parse(DIGITS).images) == {"files": 0, "bytes": 0, "sha256": ANY}


def write_pictures(folder: Path, n: int) -> None:
    folder.mkdir(parents=True)
    for number in range(n):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(folder / f"{number}.png")


def test_a_whitened_release_has_neither_teachers_nor_randaugment(release: Release, tmp_path: Path) -> None:
    build(tmp_path / "white", whitened())
    white = load(tmp_path / "white")
    _, params = make("it", white, None, Wishes())
    request.check_whitened(white, params, teachers=False)
    with pytest.raises(
        DataError, match="release fish is ZCA-whitened, and teachers do not see such images; leave --teach"
    ):
        request.check_whitened(white, params, teachers=True)
    augmentation = params.softlabels.augmentation.model_copy(update={"randaugment": 2})
    softlabels = params.softlabels.model_copy(update={"augmentation": augmentation})
    other = params.model_copy(update={"softlabels": softlabels})
    with pytest.raises(
        DataError, match=r"views of protocol .* have RandAugment, which needs plain pixels; choose another"
    ):
        request.check_whitened(white, other, teachers=False)
    request.check_whitened(release, other, teachers=True)
