"""The upper bound: students of all train images are trained as a teacher is, resume, and count the bytes on disk."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from releases import CLASSES, SIZE
from sent import DIGEST, ROOT, STAGING, publish_images, sent_bytes

from dcpipe import store, teacher, training
from dcpipe.config import params, presets
from dcpipe.config.params import Params
from dcpipe.evaluation import all_images, shards
from dcpipe.evaluation.all_images import AllImages, score_of, training_of
from dcpipe.evaluation.shards import Student
from dcpipe.training import Recipe
from dcpipe.types import ALL_IMAGES_PROTOCOL, DataError, ImageTable

CPU = torch.device("cpu")


def params_of(**training: object) -> Params:
    content = yaml.safe_load(presets.text("digits"))
    content["evaluation"]["student"] = "convnet-d1-w4"
    content["teacher"]["training"] |= {"epochs": 2, "batch_size": 6, "zeta": 2.0, **training}
    return params.parse(content)


@pytest.fixture
def tables(tmp_path: Path) -> tuple[ImageTable, ImageTable]:
    source = np.random.default_rng(5)
    pixels = source.integers(0, 256, (18, SIZE, SIZE, 3), dtype=np.uint8)
    ids = source.permutation(500)[:18].astype(np.int64)
    artifact = publish_images(tmp_path / "images", pixels, np.repeat(np.arange(3), 6), ids, CLASSES, 7)
    return store.table_of(artifact, "train"), store.table_of(artifact, "test")


def test_a_student_is_a_network_trained_as_a_teacher_from_its_own_seed(
    tables: tuple[ImageTable, ImageTable], tmp_path: Path
) -> None:
    own, (train, test) = params_of(precision="bfloat16"), tables
    block = own.teacher.training
    network, history = teacher.train(
        "convnet-d1-w4",
        None,
        teacher.feed_of(train, 6, 3, CPU),
        policy=block.augmentation.policy(block.seed),
        recipe=Recipe(2, block.optimizer, block.lr, block.weight_decay, zeta=2.0, precision="bfloat16"),
        classes=CLASSES,
        size=SIZE,
        mean=train.mean,
        std=train.std,
        seed=3,
        device=CPU,
    )
    job = training_of(own, train, test, tmp_path, CPU)
    outcome = shards.train(Student(job, 3, "result"))
    batches = teacher.plain_batches(iter([(_decoded(train), train.labels)]), train.mean, train.std, 18, CPU)
    assert outcome["accuracy"] == training.accuracy(network, batches, CPU)
    assert [row["loss"] for row in outcome["history"]] == [row["loss"] for row in history]
    assert shards.train(Student(job, 4, "other"))["history"] != outcome["history"]
    assert sorted(path.name for path in tmp_path.glob("*.pt")) == [], "its checkpoint is gone"
    assert json.loads((tmp_path / "result.json").read_text(encoding="utf-8")) == outcome


def _decoded(table: ImageTable) -> np.ndarray:
    from dcpipe.images import read_all

    return read_all(table)


def test_its_row_says_what_it_is(tables: tuple[ImageTable, ImageTable]) -> None:
    train, _ = tables
    row = score_of([{"accuracy": 50.0}, {"accuracy": 60.0}], params_of(), train)
    assert (row.name, row.protocol, row.epochs) == ("all training images", ALL_IMAGES_PROTOCOL, 2)
    assert row.on_all_images and (row.mean, row.ipc, row.label_bytes, row.teacher_bytes) == (55.0, 6, 0, 0)
    assert row.image_bytes == sum(path.stat().st_size for path in train.parts) > 0


def test_it_needs_a_recipe() -> None:
    content = yaml.safe_load(presets.text("digits"))
    content["teacher"] = {
        "networks": {"convnet": {"network": "resnet18", "weights": "weights.pt"}},
        "training": {"epochs": 0},
    }
    with pytest.raises(DataError, match=r"evaluation.baselines has all_images, .* leave all_images out, or give"):
        params.parse(content)


def test_it_takes_few_bytes_on_the_way_to_a_worker(tables: tuple[ImageTable, ImageTable], tmp_path: Path) -> None:
    job = training_of(params_of(), *tables, tmp_path, CPU)
    images = store.Verified(f"{ROOT}/data/images", "images", DIGEST)
    far = AllImages(replace(job.training, images=images), "test", f"{STAGING}.notes")
    assert far.name == all_images.NAME
    assert sent_bytes(shards.train, [Student(far, seed, f"result-5-{seed}") for seed in range(3)]) < 5000
