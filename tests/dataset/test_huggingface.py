"""`to_hf`: the images and labels of the dataset, in the types of `datasets`."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import datasets
import numpy as np
import pytest
import releases
from releases import logits_of

import dcpipe
from dcpipe import views
from dcpipe.dataset import huggingface
from dcpipe.types import DataError


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("release") / "fish"
    releases.build(folder, releases.parts())
    return folder


def test_images_and_class_names(made: Path) -> None:
    found = dcpipe.load(made)
    for kind in ("pack", "teacher", "hard"):
        ours = found.dataset(labels=kind).to_hf()
        assert isinstance(ours, datasets.Dataset) and ours.column_names == ["id", "image", "label"]
        assert ours.features["label"] == datasets.ClassLabel(names=list(releases.CLASSES))
        assert ours["id"][:] == found.images.ids.tolist() and ours["label"][:] == found.images.labels.tolist()
        for row, pixels in zip(ours, found.images.images, strict=True):
            np.testing.assert_array_equal(np.asarray(row["image"]), pixels)


@pytest.mark.parametrize(("ipc", "rows_together"), [(None, 12), (2, 1)])
def test_soft_labels_and_their_views(
    ipc: int | None, rows_together: int, made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface, "_GROUP_BYTES", rows_together * 2 * 5 * 3)
    found = dcpipe.load(made, ipc=ipc)
    assert found.pack is not None
    ours = found.dataset().to_hf(labels=True)
    assert ours.features["logits"] == datasets.Array2D((5, 3), "float16")
    assert ours.features["box"] == datasets.Array2D((5, 4), "float32")
    rows = [found.pack.ids.tolist().index(i) for i in found.images.ids]
    whole = ours.with_format("numpy")[:]
    np.testing.assert_array_equal(np.array(whole["logits"]), logits_of(found.pack).numpy()[rows])
    for row, view in np.ndindex(len(rows), 5):
        drawn = views.draw(found.policy, found.images.ids[[row]], np.array([view]), 12)
        np.testing.assert_allclose(whole["box"][row, view], drawn.box[0], rtol=1e-6)
        assert whole["flip"][row, view] == drawn.flip[0]


def test_what_cannot_be_is_said(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = dcpipe.load(made)
    for kind in ("teacher", "hard"):
        with pytest.raises(DataError, match=r"^the dataset has no stored soft labels, .*; call to_hf\(\) without lab"):
            found.dataset(labels=kind).to_hf(labels=True)
    releases.build(tmp_path / "mixed", releases.parts(policy=replace(releases.POLICY, mix="cutmix_images")))
    with pytest.raises(DataError, match=r"^the dataset has labels of mixed images, which have no single file"):
        dcpipe.load(tmp_path / "mixed").dataset().to_hf(labels=True)
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError) as error:
        found.dataset().to_hf()
    assert str(error.value) == 'to_hf needs the package datasets; run `pip install "dcpipe[datasets]"`'
