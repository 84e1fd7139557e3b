"""Rows: those that can be made of what is at hand, named after the release, from the files of the release."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from image_tables import write_table
from releases import CLASSES, IPC, SIZE, Parts, build, hard, parts, whitened

from dcpipe import store
from dcpipe.config.params import CompressionBlock
from dcpipe.evaluation.contenders import Contender, Labeller
from dcpipe.evaluation.students import protocol_of
from dcpipe.judging.request import ROWS, Wishes, make
from dcpipe.judging.rows import Judged, teachers_of
from dcpipe.release import Release, load
from dcpipe.types import ImageTable, run_in_turn

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def train(tmp_path_factory: pytest.TempPathFactory) -> ImageTable:
    source = np.random.default_rng(5)
    pixels = source.integers(0, 256, (18, SIZE, SIZE, 3), dtype=np.uint8)
    ids = source.permutation(500)[:18]
    return write_table(tmp_path_factory.mktemp("train"), pixels, np.repeat(np.arange(3), 6), ids, 18, CLASSES)


def released(folder: Path, some: Parts) -> Release:
    build(folder, some)
    return load(folder)


def rows(release: Release, train: ImageTable, folder: Path, wishes: Wishes, teachers: bool = True) -> list[Contender]:
    return rows_of(release, train, folder, wishes, teachers).contenders()


def rows_of(release: Release, train: ImageTable, folder: Path, wishes: Wishes, teachers: bool = True) -> Judged:
    _, params = make("it", release, None, replace(wishes, students=["convnet-d1-w4"]))
    policy = release.policy
    augmentation = params.softlabels.augmentation.model_copy(update={"scale_min": policy.scale_min})
    softlabels = params.softlabels.model_copy(update={"seed": policy.seed, "mix": "none", "augmentation": augmentation})
    params = params.model_copy(update={"softlabels": softlabels})
    folder.mkdir()
    return Judged(
        release=release,
        params=params,
        rows=wishes.rows or ROWS,
        teachers=teachers_of(release, []) if teachers else {},
        teacher_bytes=777,
        train=train,
        labeller=Labeller(params.softlabels, params.compression, CPU, run_in_turn),
        notes=store.Notes(folder),
    )


def test_a_release_with_its_teacher_has_all_rows(train: ImageTable, tmp_path: Path) -> None:
    release = released(tmp_path / "release", parts())
    found = {
        row.kind: row
        for row in rows(release, train, tmp_path / "notes", Wishes(rows=["online", "hard", "random_hard"]))
    }
    assert list(found) == ["own", "online", "hard", "random_hard"]
    own = found["own"]
    assert own.name == "fish, none" and own.label_bytes == (release.path / "labels.safetensors").stat().st_size
    assert own.image_bytes == (release.path / "images.parquet").stat().st_size
    assert own.stored is not None and own.stored.pack == str(release.path / "labels.safetensors")
    assert found["online"].teacher_bytes == 777
    random = found["random_hard"]
    assert random.has_hard_labels and random.ipc == IPC and np.isin(random.images.ids, train.ids).all()


def test_without_a_teacher_random_images_have_hard_labels(train: ImageTable, tmp_path: Path) -> None:
    release = released(tmp_path / "release", replace(parts(), with_teacher=False))
    found = rows(release, train, tmp_path / "notes", Wishes(rows=["uncompressed", "online", "random", "random_hard"]))
    assert [(row.kind, row.name) for row in found] == [("own", "fish, none"), ("random", "random, hard labels")]


def test_a_set_with_hard_labels(train: ImageTable, tmp_path: Path) -> None:
    release = released(tmp_path / "release", hard(parts()))
    found = rows(release, train, tmp_path / "notes", Wishes(rows=["hard", "random", "equal_bytes"]))
    assert [row.kind for row in found] == ["hard", "random", "equal_bytes"]
    assert all(row.has_hard_labels for row in found)
    assert found[2].image_bytes <= found[0].image_bytes


def soft_within(release: Release, train: ImageTable, folder: Path, views: int) -> list[Contender]:
    """The rows with soft labels in the bytes of the set, packed in fp16 with so many views."""
    wanted = rows_of(release, train, folder, Wishes(rows=["random", "equal_bytes_soft"]))
    packed = CompressionBlock(codec="none")
    softlabels = wanted.params.softlabels.model_copy(update={"views": views})
    params = wanted.params.model_copy(update={"softlabels": softlabels, "compression": packed})
    judged = replace(wanted, params=params, labeller=Labeller(softlabels, packed, CPU, run_in_turn))
    return judged.contenders()


def test_random_images_with_soft_labels_fill_the_bytes_of_the_set(tmp_path: Path) -> None:
    """Images of one colour take fewer bytes than those of the set, so more of them fit."""
    release = released(tmp_path / "release", parts())
    (tmp_path / "train").mkdir()
    flat = np.broadcast_to(np.arange(36, dtype=np.uint8)[:, None, None, None], (36, SIZE, SIZE, 3)).copy()
    train = write_table(
        tmp_path / "train", flat, np.repeat(np.arange(3), 12), np.arange(36, dtype=np.int64), 36, CLASSES
    )
    own, random, equal = soft_within(release, train, tmp_path / "a", views=2)
    budget = own.image_bytes + own.label_bytes
    assert (equal.kind, equal.name) == ("equal_bytes_soft", "random, none, equal bytes") and not equal.has_hard_labels
    assert IPC == random.ipc < equal.ipc and equal.image_bytes + equal.label_bytes <= budget
    more = soft_within(release, train, tmp_path / "b", views=60)
    assert more[-1].ipc < IPC and more[-1].image_bytes + more[-1].label_bytes <= budget, "labels take most of it"
    found = soft_within(release, train, tmp_path / "c", views=600)
    assert [row.kind for row in found] == ["own", "random"], "not even one image of each class fits"


def test_random_images_in_equal_bytes_are_no_second_row_of_the_same(train: ImageTable, tmp_path: Path) -> None:
    release = released(tmp_path / "release", parts())
    found = soft_within(release, train, tmp_path / "a", views=4)
    assert [row.kind for row in found] == ["own", "random"], "noise takes as many bytes as the noise of the set"
    without = released(tmp_path / "bare", replace(parts(), with_teacher=False))
    found = rows(without, train, tmp_path / "b", Wishes(rows=["equal_bytes_soft"]))
    assert [row.kind for row in found] == ["own"], "there is nobody to label them"


def test_teachers_are_those_given_or_the_only_one_of_the_release(tmp_path: Path) -> None:
    release = released(tmp_path / "release", parts())
    teacher = release.teacher
    assert teacher is not None
    assert list(teachers_of(release, [])) == ["judge"]
    assert list(teachers_of(release, [teacher, teacher])) == ["judge", "judge1"]
    assert teachers_of(released(tmp_path / "other", replace(parts(), with_teacher=False)), []) == {}


def test_a_set_without_labels_is_labelled_online_by_a_teacher_that_is_given(train: ImageTable, tmp_path: Path) -> None:
    """As sets of others are, whose images come without labels: the set and random images, each before hard labels."""
    release, teacher = released(tmp_path / "a", hard(parts())), released(tmp_path / "b", parts()).teacher
    judged = rows_of(release, train, tmp_path / "notes", Wishes(rows=["online", "random", "random_hard"]))
    assert teacher is not None
    found = replace(judged, teachers={"judge": teacher}).contenders()
    kinds = ["online", "hard", "random", "random_hard"]
    assert [row.kind for row in found] == kinds
    assert [row.name.split(", ")[1] for row in found] == ["teacher online", "hard labels"] * 2
    assert [row.teacher_bytes for row in found] == [777, 0, 777, 0]
    assert [row.has_hard_labels for row in found] == [False, True, False, True]
    assert np.array_equal(found[2].images.ids, found[3].images.ids)
    without = replace(judged, teachers={"judge": teacher}, rows=["online", "random"]).contenders()
    assert [row.kind for row in without] == ["online", "hard", "random"]


@pytest.mark.parametrize(("protocol", "kinds"), [("rd3", ["online", "hard", "random"]), ("hard", ["hard", "random"])])
def test_a_protocol_that_gives_labels_leaves_those_of_the_set_aside(
    protocol: str, kinds: list[str], train: ImageTable, tmp_path: Path
) -> None:
    """And its views, because no stored label ties them to others: the name does not say that they differ."""
    release = released(tmp_path / "release", parts())
    _, params = make(
        "it", release, None, Wishes(students=["convnet-d1-w4"], protocol=protocol, rows=["online", "random"])
    )
    assert (params.softlabels.method, params.compression.codec) == ("none", "none")
    assert protocol_of(params.evaluation, params.softlabels).name == protocol
    judged = rows_of(release, train, tmp_path / "notes", Wishes(protocol=protocol, rows=["online", "random"]))
    assert [row.kind for row in judged.contenders()] == kinds


def test_rows_of_a_whitened_set_are_whitened_but_for_equal_bytes(train: ImageTable, tmp_path: Path) -> None:
    release = released(tmp_path / "release", whitened())
    wanted = Wishes(rows=["hard", "random", "equal_bytes", "plain"])
    found = rows(release, train, tmp_path / "notes", wanted)
    file = tmp_path / "release/whitening.safetensors"
    whitenings = {row.kind: row.whitening for row in found}
    assert whitenings == {**dict.fromkeys(("hard", "random", "plain", "random_plain"), file), "equal_bytes": None}
    size = (tmp_path / "release/images.parquet").stat().st_size + file.stat().st_size
    assert {row.image_bytes for row in found if row.kind in ("hard", "plain")} == {size}
