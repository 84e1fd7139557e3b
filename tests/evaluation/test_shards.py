"""Students from files alone: the outcome is that of a student of the contender in this process, digit by digit."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from releases import CLASSES, POLICY, SIZE, Parts, parts
from sent import DIGEST, ROOT, STAGING, imagenet_set, publish_images, publish_teacher, sent_bytes
from sent import POLICY as TRAINED

from dcpipe import store
from dcpipe.dataset import CondensedDataset, CondensedLoader
from dcpipe.evaluation import contenders, shards
from dcpipe.evaluation.contenders import Contender, hard_contender, smaller
from dcpipe.evaluation.shards import Job, Student, contender_of, job_of, train, trained, work_of
from dcpipe.evaluation.stored import Stored
from dcpipe.evaluation.students import Protocol, train_student
from dcpipe.evaluation.whole_images import whole_images
from dcpipe.images.kept import read_kept
from dcpipe.training import Recipe
from dcpipe.types import ImageTable
from dcpipe.views.whitening import fit

CPU = torch.device("cpu")
PROTOCOL = Protocol("tiny", "convnet-d1-w4", Recipe(epochs=2), batch_size=4, temperature=4.0)
KINDS = ("hard", "pack", "stored", "online", "first", "first of pack", "whitened", "first of whitened")


@pytest.fixture(scope="module")
def some() -> Parts:
    return parts()


@pytest.fixture
def tables(tmp_path: Path) -> tuple[ImageTable, ImageTable]:
    source = np.random.default_rng(5)
    pixels = source.integers(0, 256, (18, SIZE, SIZE, 3), dtype=np.uint8)
    ids = source.permutation(500)[:18].astype(np.int64)
    artifact = publish_images(tmp_path / "images", pixels, np.repeat(np.arange(3), 6), ids, CLASSES, 7)
    return store.table_of(artifact, "train"), store.table_of(artifact, "test")


def contender(kind: str, some: Parts, folder: Path) -> Contender:
    folder.mkdir()
    file = store.Notes(folder).image_file(some.images)
    made = hard_contender("own", f"score, {kind}", some.images, POLICY, 123, CPU, file)
    if "pack" in kind:
        assert some.pack is not None
        store.save_pack(folder / "labels.safetensors", some.pack)
        made = made.with_pack(store.read_pack(folder / "labels.safetensors", some.images.decoded_ids), CPU)
    if kind == "stored":
        made = made.with_stored_labels(stored_logits(some, folder), 99)
    if kind == "online":
        teacher = store.load_teacher(publish_teacher(folder / "teacher", some.teacher).path)
        made = made.with_online_teachers({"main": teacher}, 7, CPU)
    if "whitened" in kind:
        whitener = fit(torch.from_numpy(some.images.images), 0.1)
        store.save_whitening(folder, whitener.stored())
        made = made.whitened(folder / "whitening.safetensors")
    if "first" in kind:
        (folder / "small").mkdir()
        made = smaller(made, 2, store.Notes(folder / "small"))
    return made


def stored_logits(some: Parts, folder: Path) -> Any:
    """The logits of the pack, which is of codec `none`, as a label store."""
    assert some.pack is not None
    values = some.pack.arrays["logits"][:]
    blocks = store.Notes(folder).blocks("labels", values.shape, "float16")
    for block in blocks.missing():
        blocks.write(block, values[blocks.span(block)])
    return store.open_blocks(blocks.path)


def test_labels_from_their_store_train_the_student_of_their_pack(
    some: Parts, tables: tuple[ImageTable, ImageTable], tmp_path: Path
) -> None:
    longer = replace(PROTOCOL, recipe=Recipe(epochs=7))  # more epochs than views
    outcomes = []
    for kind in ("pack", "stored"):
        made = contender(kind, some, tmp_path / kind)
        outcomes.append(contenders.score(made, longer, *tables, 3, device=CPU, folder=tmp_path / kind))
    assert outcomes[0] == outcomes[1]


def test_students_see_train_and_test_images_whitened(
    some: Parts, tables: tuple[ImageTable, ImageTable], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, made = (contender(kind, some, tmp_path / kind) for kind in ("hard", "whitened"))
    assert made.whitening is not None and made.image_bytes == 123 + made.whitening.stat().st_size
    small = smaller(made, 2, store.Notes(tmp_path / "whitened"))
    assert small.image_bytes == store.Notes(tmp_path / "hard").image_bytes(small.images) + made.whitening.stat().st_size
    whitener, (train, test) = fit(torch.from_numpy(some.images.images), 0.1), tables
    shown: list[torch.Tensor] = []

    def watched(dataset: CondensedDataset, protocol: Protocol, **others: Any) -> Any:
        shown.append(CondensedLoader(dataset, 100, shuffle=False).__iter__().__next__()[0])
        assert (others["mean"], others["std"]) == ((0, 0, 0), (1, 1, 1))
        return train_student(dataset, protocol, **others)

    monkeypatch.setattr(contenders, "train_student", watched)
    contenders.score(made, PROTOCOL, *tables, 3, device=CPU, folder=tmp_path / "whitened")
    views_seen = contenders.dataset_of(plain, PROTOCOL, train, CPU).batch(np.arange(len(some.images)))[0]
    assert not torch.allclose(shown[0], views_seen, atol=0.1)
    parts_of = [images for images, _ in read_kept(test, tmp_path)]
    pixels = torch.from_numpy(np.concatenate(parts_of)).permute(0, 3, 1, 2).double() / 255
    given = whole_images(test, tmp_path, train.mean, train.std, CPU, made.whitening)
    tested = torch.cat([images for images, _ in given]).double()
    assert torch.allclose(tested, whitener(pixels), atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_a_student_from_files_is_the_student_in_process(
    kind: str, some: Parts, tables: tuple[ImageTable, ImageTable], tmp_path: Path
) -> None:
    made = contender(kind, some, tmp_path / "own")
    expected = contenders.score(made, PROTOCOL, *tables, 3, device=CPU, folder=tmp_path / "own")
    folder = tmp_path / "notes"
    folder.mkdir()
    job = job_of(made, PROTOCOL, *tables, folder, CPU)
    assert job is not None and hash(job) == hash(replace(job))
    work_of.forget()  # as in another process
    outcome = train(Student(job, 3, "result-0-3"))
    assert outcome == expected and len(outcome["history"]) == 2
    assert json.loads((folder / "result-0-3.json").read_text(encoding="utf-8")) == expected
    again = contender_of(job.stored, job.name, CPU)
    assert type(again.labels()) is type(made.labels())
    assert [path.name for path in folder.iterdir()] == ["result-0-3.json"], "the checkpoint is gone"


def test_a_student_that_was_trained_is_read(tmp_path: Path) -> None:
    calls: list[int] = []

    def score() -> dict[str, Any]:
        calls.append(1)
        return {"accuracy": 50.0, "history": []}

    for _ in range(2):
        assert trained("result-1-0", tmp_path, score) == {"accuracy": 50.0, "history": []}
    assert calls == [1]


def test_only_what_is_on_disk_has_a_job(some: Parts, tables: tuple[ImageTable, ImageTable], tmp_path: Path) -> None:
    made = contender("hard", some, tmp_path / "own")
    learned, tested = tables
    assert job_of(made, PROTOCOL, learned, tested, tmp_path, CPU) is not None
    assert job_of(replace(made, stored=None), PROTOCOL, learned, tested, tmp_path, CPU) is None
    assert job_of(made, PROTOCOL, replace(learned, origin=None), tested, tmp_path, CPU) is None
    assert job_of(made, PROTOCOL, learned, replace(tested, origin=None), tmp_path, CPU) is None


def test_a_student_of_imagenet_takes_few_bytes() -> None:
    """Most of it are the names of the classes; of 50,000 images it holds no list."""
    teachers = tuple(store.Verified(f"{ROOT}/data/teacher/{name}", "teacher", DIGEST) for name in ("one", "other"))
    stored = Stored(imagenet_set(), TRAINED, f"{ROOT}/data/compression/labels.safetensors", teachers, 10)
    images = store.Verified(f"{ROOT}/data/images", "images", DIGEST)
    job = Job(stored, "score, lowrank_int8, first 10", PROTOCOL, images, "test", f"{STAGING}.notes", "cuda")
    students = [Student(job, seed, f"result-4-{seed}") for seed in range(3)]
    assert len(set(map(hash, students))) == 3
    assert sent_bytes(shards.train, students) < len(stored.images.meta) + 4000
