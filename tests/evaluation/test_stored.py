"""Where contenders are on disk: known for all that come from files, and for nothing that is only in memory."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from releases import POLICY, Parts, parts
from sent import publish_teacher
from view_cases import stored_views

from dcpipe import store
from dcpipe.evaluation.contenders import Contender, first_images, hard_contender, smaller
from dcpipe.evaluation.stored import Stored

CPU = torch.device("cpu")


@pytest.fixture
def some() -> Parts:
    return parts()


def hard(some: Parts, folder: Path) -> Contender:
    file = store.Notes(folder).image_file(some.images)
    return hard_contender("own", "score, hard labels", some.images, POLICY, 123, CPU, file)


def test_a_file_of_images_reads_as_the_images(some: Parts, tmp_path: Path) -> None:
    stored = hard(some, tmp_path).stored
    assert stored is not None and stored == Stored(store.SetFile.at(tmp_path / "images.parquet", some.images), POLICY)
    read = stored.images.read()
    assert (read.classes, read.grid) == (some.images.classes, some.images.grid)
    for name in ("images", "labels", "ids"):
        assert np.array_equal(getattr(read, name), getattr(some.images, name))
    assert stored.images.path == str((tmp_path / "images.parquet").absolute())


def test_a_pack_is_known_by_its_file(some: Parts, tmp_path: Path) -> None:
    own = hard(some, tmp_path)
    assert some.pack is not None
    assert own.with_pack(some.pack, CPU).stored is None, "a pack in memory"
    store.save_pack(tmp_path / "labels.safetensors", some.pack)
    read = store.read_pack(tmp_path / "labels.safetensors", some.images.decoded_ids)
    packed = own.with_pack(read, CPU)
    assert packed.stored == replace(own.stored, pack=str(tmp_path / "labels.safetensors"))
    assert packed.renamed("a", "b").stored == packed.stored


def test_uncompressed_labels_are_known_by_their_store(some: Parts, tmp_path: Path) -> None:
    own = hard(some, tmp_path)
    assert own.stored is not None
    assert own.with_stored_labels(np.zeros((12, 5, 3), np.float16), 7).stored is None, "labels in memory"
    array = store.Notes(tmp_path).blocks("labels", (12, 5, 3), "float16").array
    kept = own.with_stored_labels(array, 7)
    assert kept.stored == replace(own.stored, logits=str(tmp_path / "labels.zarr")) and kept.label_bytes == 7


def test_teachers_are_known_by_their_artifacts(some: Parts, tmp_path: Path) -> None:
    own, artifact = hard(some, tmp_path), publish_teacher(tmp_path / "teacher", some.teacher)
    read = store.load_teacher(artifact.path)
    online = own.with_online_teachers({"one": read}, 5, CPU)
    assert online.stored == replace(own.stored, teachers=(store.Verified.of(artifact),))
    equal = own.with_online_teachers({"one": read}, 5, CPU, "equal_norms")
    assert equal.stored == replace(online.stored, ensemble="equal_norms")
    assert own.with_online_teachers({"one": read, "other": some.teacher}, 5, CPU).stored is None


def test_views_that_another_program_drew_are_only_in_memory(some: Parts, tmp_path: Path) -> None:
    file = store.Notes(tmp_path).image_file(some.images)
    views = stored_views(len(some.images), 5, mix="none")
    assert hard_contender("own", "own", some.images, views, 1, CPU, file).stored is None
    assert hard_contender("own", "own", some.images, POLICY, 1, CPU).stored is None


def test_a_smaller_contender_is_the_first_images_of_the_file(some: Parts, tmp_path: Path) -> None:
    own = hard(some, tmp_path)
    (tmp_path / "small").mkdir()
    less = smaller(own, 2, store.Notes(tmp_path / "small"))
    assert less.stored == replace(own.stored, first=2)
    assert np.array_equal(less.images.ids, first_images(own, 2).images.ids)
    assert smaller(replace(own, stored=None), 2, store.Notes(tmp_path / "small")).stored is None
