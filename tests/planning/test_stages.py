"""Quantities of the stages: ImageNet-1K by hand, small sets against what the stages' own functions make."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from planned import DIGITS, IMAGENET, RESNET, of_kind, setting

from dcpipe import store
from dcpipe.planning import stages
from dcpipe.planning.work import Stage
from dcpipe.types import DataError


def forwards(stage: Stage) -> int:
    return sum(work.amount for work in of_kind(stage.work, "forward"))


def test_imagenet_by_hand() -> None:
    own = setting("imagenet-1k-ipc50", IMAGENET)
    features = stages.features(own)
    assert features.n_bytes == pytest.approx(2.6e9 + 5.1e9, rel=0.01)
    assert forwards(features) == 1_268_167 * 17
    parts = -(-1_268_167 // 2048)
    assert features.files == 3 * (parts + 1) + 2  # three arrays with a description each; keys and a manifest
    labels = stages.softlabels(own)
    assert labels.n_bytes == pytest.approx(30e9, rel=0.001)
    assert forwards(labels) == 50_000 * 300
    assert stages.compression(own).n_bytes == pytest.approx(6e9, rel=0.001)
    assert stages.images(own).files == parts + 7 + 25 + 2
    assert stages.images(own).n_bytes == pytest.approx(144e9, rel=0.01)
    indexed = setting("imagenet-1k-ipc10", IMAGENET, images={"copy": False})
    assert stages.images(indexed).n_bytes < 200e6 and stages.features(indexed).work == stages.features(own).work


def test_pretrained_teachers_are_only_tested_and_trained_ones_see_every_image_in_every_epoch() -> None:
    [pretrained] = stages.teachers(setting("imagenet-1k-ipc10", IMAGENET))
    assert (pretrained.steps, pretrained.forwards) == (0, 63_000)
    epochs = {"epochs": 90, "batch_size": 256}
    [trained] = stages.teachers(setting("imagenet-1k-ipc10", IMAGENET, teacher=training(epochs)))
    assert trained.steps == 90 * -(-1_268_167 // 256)
    assert sum(work.amount for work in of_kind(trained.work, "decode")) == 90 * 1_268_167 + 63_000, "streamed"
    [whole] = of_kind(trained.work, "train")
    assert (whole.on(8).amount, whole.on(8).steps) == (-(-whole.amount // 8), whole.steps), "processes share each batch"
    assert (pretrained.spread, trained.spread) == ("", "batches")
    [small, _] = stages.teachers(setting("digits", DIGITS))
    full = {"training": {**setting("digits", DIGITS).params.teacher.training.model_dump(mode="json"), "crops": "full"}}
    teachers = setting("digits", DIGITS).params.teacher.model_dump(mode="json") | full
    [crops, _] = stages.teachers(setting("digits", DIGITS, teacher=teachers))
    assert sum(work.amount for work in of_kind(crops.work, "decode")) == 40 * 1294 + 144 + 359, "anew in every epoch"
    assert small.steps == 40 * 21 and sum(work.amount for work in of_kind(small.work, "decode")) == 1294 + 144 + 359


def training(changes: dict[str, object]) -> dict[str, object]:
    content = setting("imagenet-1k-ipc10", IMAGENET).params.teacher.model_dump(mode="json")
    return {**content, "training": {**content["training"], **changes}}


def test_a_linear_head_takes_passes_and_no_gradients_of_the_network() -> None:
    [lite] = stages.teachers(setting("cifar10-pretrained-small", DIGITS))
    assert not of_kind(lite.work, "train") and lite.steps == 3 * -(-1294 // 128)
    assert all(work.size == 96 for work in of_kind(lite.work, "forward"))


def test_a_shortlist_measures_only_its_images() -> None:
    own = setting("digits", DIGITS)
    rate = {**own.params.features.label_rate.model_dump(mode="json"), "shortlist": {"per_class": 20}}
    listed = stages.features(setting("digits", DIGITS, features={"label_rate": rate}))
    assert forwards(listed) == 1294 + 200 * 16
    assert forwards(stages.features(own)) == 1294 * 17


def test_arrays_take_the_bytes_that_are_written(tmp_path: Path) -> None:
    own = setting("digits", DIGITS)
    stage, shape = stages.softlabels(own), (100, 100, 10)
    blocks = store.create_blocks(tmp_path / "labels.zarr", shape, "float16")
    for block in range(len(blocks)):
        span = blocks.span(block)
        blocks.write(block, np.ones((span.stop - span.start, *shape[1:]), dtype=np.float16))
    files = sum(path.is_file() for path in tmp_path.rglob("*"))
    assert stage.files == files + 2, "and a manifest, and ids"
    assert stage.n_bytes == pytest.approx(store.folder_bytes(tmp_path), rel=0.05)
    assert of_kind(stage.work, "forward")[0].units == len(blocks)


def test_hard_labels_are_a_manifest() -> None:
    hard = setting("digits-mdc", DIGITS)
    for stage in (stages.softlabels(hard), stages.compression(hard)):
        assert (stage.work, stage.files) == ((), 1) and stage.n_bytes < 2000
    assert stages.release(hard).files == stages.release(setting("digits", DIGITS)).files - 1


def test_selection_sorts_what_the_selector_looks_at() -> None:
    plain = stages.select(setting("imagenet-1k-ipc10", IMAGENET))
    logits = stages.select(
        setting("imagenet-1k-ipc10", IMAGENET, selection={"method": "margin", "ipc": 10, "options": {}})
    )
    assert plain.scratch == pytest.approx(4 * 1_268_167 * 512, rel=0.001)
    assert logits.scratch == pytest.approx(4 * 1_268_167 * 1512, rel=0.001)
    assert not plain.spread and of_kind(plain.work, "select")[0].amount == 1_268_167 * 10


def test_more_picks_than_images_are_refused() -> None:
    with pytest.raises(DataError, match=r"selection\.ipc is 200, but a class has 129 train images"):
        stages.select(setting("digits", DIGITS, selection={"method": "random", "ipc": 200, "options": {}}))


def test_several_teachers_label_every_view() -> None:
    own = setting("imagenet-1k-edc-ipc10", IMAGENET)
    assert forwards(stages.softlabels(own)) == 4 * 10_000 * 300


def test_memory_grows_with_what_is_in_it() -> None:
    few, many = (stages.softlabels(setting(f"imagenet-1k-ipc{ipc}", IMAGENET)) for ipc in (10, 50))
    assert many.device - few.device == 3 * 224**2 * 40_000
    assert few.device > RESNET.inference(256)
