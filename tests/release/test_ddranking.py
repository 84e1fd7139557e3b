"""Tensors for DD-Ranking: number for number the release."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import releases
import torch
from releases import logits_of

import dcpipe
from dcpipe import release, views
from dcpipe.compression import CODECS
from dcpipe.types import DataError


@pytest.mark.parametrize("ipc", [None, 3])
def test_ddranking_round_trip(made: Path, tmp_path: Path, ipc: int | None) -> None:
    found = dcpipe.load(made, ipc=ipc)
    assert found.pack is not None
    for labels in (True, False):
        folder = tmp_path / str(labels)
        release.export(found, folder, form="ddranking", labels=labels)
        images = torch.load(folder / "images.pt", weights_only=True)
        given = torch.load(folder / "labels.pt", weights_only=True)
        order = sorted(range(len(found.images)), key=lambda row: int(found.images.labels[row]))
        mean, std = (np.array(values) for values in found.normalisation)
        wanted = ((found.images.images[order] / 255.0 - mean) / std).transpose(0, 3, 1, 2)
        assert images.dtype == torch.float32 and images.is_contiguous()
        np.testing.assert_allclose(images, wanted, atol=1e-5)
        if labels:
            rows = [found.pack.ids.tolist().index(found.images.ids[row]) for row in order]
            assert given.dtype == torch.float32
            torch.testing.assert_close(given.double(), logits_of(found.pack)[rows].mean(dim=1), rtol=0, atol=1e-5)
        else:
            assert given.dtype == torch.int64
            assert given.tolist() == np.repeat([0, 1, 2], ipc or releases.IPC).tolist()


def test_ddranking_uses_the_labels_that_a_codec_stores(made: Path, tmp_path: Path) -> None:
    found = dcpipe.load(made)
    assert found.pack is not None
    shape, whole = found.pack.shape, logits_of(found.pack).float()
    codec = CODECS["prune"].plan(shape, shape.reference_bytes * 3 // 4)
    rows = np.arange(shape.images)
    drawn = views.draw(releases.POLICY, np.repeat(rows, shape.views), np.tile(np.arange(shape.views), len(rows)), 1)
    arrays = codec.encode(whole, rows, shape, drawn)
    other = replace(found.pack, codec="prune", settings=codec.settings, arrays=dict(arrays))
    pruned = releases.with_pack(found, other)
    release.export(pruned, tmp_path / "out", form="ddranking")
    given = torch.load(tmp_path / "out/labels.pt", weights_only=True)
    order = np.argsort(found.images.labels, kind="stable")
    torch.testing.assert_close(given, whole[order, :3].mean(dim=1), rtol=0, atol=1e-5)  # 3 of 5 views fit
    with pytest.raises(
        DataError, match=r"^release fish has labels of some views only, which do not fill a dense array"
    ):
        release.export(pruned, tmp_path / "hub", form="parquet")
