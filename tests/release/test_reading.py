"""Reading releases: what was written, whole or smaller, with the requested labels; anything else is an error."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import releases
import torch
from condensed import decoded_by_hand
from hypothesis import given, settings
from hypothesis import strategies as st
from releases import FILES, logits_of

import dcpipe
from dcpipe import networks, release, views
from dcpipe.dataset import CondensedDataset
from dcpipe.types import DataError


def test_load_returns_what_was_assembled(made: Path) -> None:
    wanted = releases.parts()
    assert wanted.pack is not None
    found = dcpipe.load(made)
    assert sorted(p.name for p in made.iterdir()) == sorted(FILES)
    np.testing.assert_array_equal(found.images.images, wanted.images.images)
    np.testing.assert_array_equal(found.images.labels, wanted.images.labels)
    np.testing.assert_array_equal(found.images.ids, wanted.images.ids)
    assert found.classes == releases.CLASSES
    assert found.pack is not None
    assert (found.pack.codec, found.pack.shape, found.policy) == ("none", wanted.pack.shape, releases.POLICY)
    for key, array in wanted.pack.arrays.items():
        np.testing.assert_array_equal(found.pack.arrays[key], array)
    assert found.teacher is not None
    assert found.teacher.weights.keys() == wanted.teacher.weights.keys()
    for key, tensor in wanted.teacher.weights.items():
        assert torch.equal(found.teacher.weights[key], tensor)
    assert list(found.scores) == wanted.scores
    assert found.normalisation == (wanted.teacher.mean, wanted.teacher.std)
    labeller = releases.settings("fish").teacher.networks["convnet"].network
    assert (found.name, found.manifest["ipc"], found.manifest["teachers"]) == ("fish", 4, [labeller])


@pytest.mark.parametrize("name", FILES)
def test_one_changed_bit_is_found(made: Path, tmp_path: Path, name: str) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(made, copy)
    content = bytearray((copy / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copy / name).write_bytes(bytes(content))
    with pytest.raises(DataError, match=name):
        dcpipe.load(copy)


def test_a_release_and_its_dataset_are_told_in_a_line(made: Path) -> None:
    found = dcpipe.load(made)
    total = sum(path.stat().st_size for path in made.iterdir() if path.name in found.manifest["bytes"])
    assert repr(found) == (
        f"<Release {found.name}: {len(found.images)} images of 3 classes, labels of codec "
        f"{found.manifest['labels']['codec']}, {total:,} bytes, digest {found.digest[:12]}>"
    )
    dataset = found.dataset()
    dataset.set_epoch(2)
    assert repr(dataset) == (
        f"<CondensedDataset: {len(dataset.images)} images of 3 classes, PackLabels, views of {dataset.size} pixels, "
        "epoch 2>"
    )


def test_not_a_release() -> None:
    with pytest.raises(DataError, match=r"^'no/such' is neither a folder nor a tag NAME@vX.Y.Z; give one of the two$"):
        dcpipe.load("no/such")


def test_iterates_with_a_data_loader(made: Path) -> None:
    dataset = dcpipe.load(made).dataset()
    assert dataset.temperature == releases.settings("fish").evaluation.temperature
    seen = 0
    for inputs, targets in torch.utils.data.DataLoader(dataset, batch_size=5):
        assert inputs.shape[1:] == (3, 8, 8)
        torch.testing.assert_close(targets.sum(1), torch.ones(len(targets)))
        seen += len(targets)
    assert seen == 12


@settings(deadline=None, max_examples=12)
@given(ipc=st.integers(1, releases.IPC), epoch=st.integers(0, 11))
def test_a_smaller_set_has_the_same_views_and_labels(made: Path, ipc: int, epoch: int) -> None:
    small, whole = dcpipe.load(made, ipc=ipc).dataset(temperature=2.0), dcpipe.load(made).dataset(temperature=2.0)
    small.set_epoch(epoch)
    whole.set_epoch(epoch)
    assert len(small) == ipc * 3
    by_id = {int(whole.images.ids[row]): item for item, row in enumerate(whole.rows)}
    inputs, targets = small.batch(np.arange(len(small)))
    items = np.array([by_id[int(small.images.ids[row])] for row in small.rows])
    wanted_inputs, wanted_targets = whole.batch(items)
    torch.testing.assert_close(inputs, wanted_inputs)
    torch.testing.assert_close(targets, wanted_targets)


def test_a_smaller_set_of_rows_in_any_order(tmp_path: Path) -> None:
    """Sorted by class, the rows of the smaller set are not the first ones; each label must still fit its image."""
    some = releases.parts()
    assert some.pack is not None
    sorted_images = replace(some.images, labels=np.sort(some.images.labels))
    releases.build(tmp_path / "fish", replace(some, images=sorted_images))
    small = dcpipe.load(tmp_path / "fish", ipc=2).dataset(temperature=3.0)
    np.testing.assert_array_equal(small.images.ids, some.images.ids[[0, 1, 4, 5, 8, 9]])
    _, targets = small.batch(np.arange(6))
    wanted = torch.softmax(logits_of(some.pack)[[0, 1, 4, 5, 8, 9], 0] / 3.0, dim=1)
    torch.testing.assert_close(targets.double()[np.argsort(small.rows)], wanted, atol=1e-5, rtol=1e-5)


def test_a_smaller_set_mixes_its_own_labels(tmp_path: Path) -> None:
    """Lambda-mixed labels of a prefix against a loop over single decoded labels."""
    some = releases.parts(policy=replace(releases.POLICY, mix="cutmix_labels"))
    assert some.pack is not None
    releases.build(tmp_path / "fish", some)
    small = dcpipe.load(tmp_path / "fish", ipc=2).dataset(temperature=3.0)
    epoch = 4
    small.set_epoch(epoch)
    _, targets = small.batch(np.arange(len(small)))
    soft = torch.softmax(logits_of(some.pack) / 3.0, dim=2)
    ids = small.images.ids
    for item in range(len(small)):
        row, view = int(small.rows[item]), int(small.views[item])
        drawn = views.draw(small.policy, ids[[row]], np.array([view]), len(ids))
        share = float(drawn.unmixed_share(8)[0])
        # Rounds of one image per class: the first 2 x 3 rows of the whole are the rows of the smaller set.
        wanted = share * soft[row, view] + (1 - share) * soft[int(drawn.partner[0]), view]
        torch.testing.assert_close(targets[item].double(), wanted, atol=1e-5, rtol=1e-5)


def test_ipc_out_of_range(made: Path) -> None:
    with pytest.raises(DataError, match=r"^ipc is 5, but this set has 4 images per class; choose 1\.\.4$"):
        dcpipe.load(made, ipc=5)


def test_labels_of_mixed_images_cannot_be_cut(tmp_path: Path) -> None:
    releases.build(tmp_path / "fish", releases.parts(policy=replace(releases.POLICY, mix="cutmix_images")))
    small = dcpipe.load(tmp_path / "fish", ipc=2)
    with pytest.raises(DataError, match=r"labels of images mixed before labelling cannot be cut to a smaller ipc"):
        small.dataset()
    assert len(small.dataset(labels="teacher")) == 6
    assert len(dcpipe.load(tmp_path / "fish").dataset()) == 12


def test_online_labels_are_the_teachers_own_words(made: Path) -> None:
    found = dcpipe.load(made)
    assert found.teacher is not None
    inputs, targets = found.dataset(labels="teacher", temperature=4.0).batch(np.arange(6))
    asked = networks.from_teacher(found.teacher, torch.device("cpu"))
    mean, std = (torch.tensor(x).view(1, 3, 1, 1) for x in found.normalisation)
    wanted = torch.softmax(asked((inputs - mean) / std) / 4.0, dim=1)
    torch.testing.assert_close(targets, wanted)


def test_hard_labels(tmp_path: Path) -> None:
    releases.build(tmp_path / "fish", releases.hard(releases.parts()))
    found = dcpipe.load(tmp_path / "fish")
    assert (found.pack, found.teacher) == (None, None)
    dataset = found.dataset()
    assert isinstance(dataset, CondensedDataset)
    assert dataset.policy.scale_min == releases.settings("fish").softlabels.augmentation.scale_min
    with pytest.raises(DataError, match=r"^release fish has hard labels only; use labels='hard'$"):
        found.dataset(labels="pack")
    with pytest.raises(DataError, match=r"^release fish ships no teacher; use labels='pack' or 'hard'$"):
        found.dataset(labels="teacher")
    with pytest.raises(DataError, match=r"^labels 'soft' are unknown; choose one of pack, teacher, hard$"):
        found.dataset(labels="soft")  # type: ignore[arg-type]


def test_grids_are_stored_as_they_are_and_read_decoded(tmp_path: Path) -> None:
    some = releases.parts(grid=2)
    releases.build(tmp_path / "fish", some)
    found = dcpipe.load(tmp_path / "fish")
    np.testing.assert_array_equal(found.images.images, some.images.images)
    assert (found.images.grid, len(found.images), found.manifest["ipc"], found.manifest["images"]) == (2, 12, 4, 12)
    assert found.manifest["bytes"]["images.parquet"] == (tmp_path / "fish/images.parquet").stat().st_size
    plain = releases.parts()
    releases.build(tmp_path / "plain", plain)  # of the same images, which are no grids
    assert (tmp_path / "fish/images.parquet").read_bytes() == (tmp_path / "plain/images.parquet").read_bytes()
    assert some.pack is not None
    by_hand = CondensedDataset.from_pack(decoded_by_hand(some.images), some.pack, temperature=2.0)
    for kind, labels in (("pack", by_hand.labels), ("hard", None), ("teacher", None)):
        dataset = found.dataset(labels=kind, temperature=2.0)  # type: ignore[arg-type]
        assert len(dataset) == 48
        inputs, targets = dataset.batch(np.arange(48))
        assert torch.equal(inputs, by_hand.batch(np.arange(48))[0])
        if labels is not None:
            assert torch.equal(targets, by_hand.batch(np.arange(48))[1])
    assert (
        found.dataset(labels="hard").batch(np.arange(48))[1].argmax(1).tolist()
        == [0] * 4 + [1] * 4 + [2] * 4 + ([0] * 4 + [1] * 4 + [2] * 4) * 3
    )


@pytest.mark.parametrize("by", ["images", "cells"])
@pytest.mark.parametrize("ipc", [1, 3, 4])
def test_a_smaller_set_of_grids(tmp_path: Path, ipc: int, by: str) -> None:
    """The first stored images decoded, or the first cells of each class, with their own views and labels."""
    some = releases.parts(grid=2)
    assert some.pack is not None
    releases.build(tmp_path / "fish", some)
    small = dcpipe.load(tmp_path / "fish", ipc=ipc, by=by)  # type: ignore[arg-type]
    whole = decoded_by_hand(some.images)
    wanted = []
    for row in range(48):
        place, cell = row // 4 // 3, row % 4  # rounds of one stored image of each of 3 classes
        wanted.append(place < ipc if by == "images" else cell * 4 + place < 4 * ipc)
    rows = np.flatnonzero(wanted)
    assert len(rows) == 3 * 4 * ipc and (small.images.grid, len(small.images)) == (
        (2, 3 * ipc) if by == "images" else (1, len(rows))
    )
    dataset, theirs = small.dataset(temperature=2.0), CondensedDataset.from_pack(whole, some.pack, temperature=2.0)
    assert dataset.images.ids.tolist() == whole.ids[rows].tolist()
    np.testing.assert_array_equal(dataset.images.images, whole.images[rows])
    for epoch in (0, 7):
        dataset.set_epoch(epoch)
        theirs.set_epoch(epoch)
        for one, other in zip(dataset.batch(np.arange(len(rows))), theirs.batch(rows), strict=True):
            torch.testing.assert_close(one, other)
    assert len(small.dataset(labels="teacher")) == len(small.dataset(labels="hard")) == len(rows)


def test_a_smaller_set_is_by_default_what_its_method_trained_for(tmp_path: Path) -> None:
    some = releases.parts(grid=2)
    releases.build(tmp_path / "fish", some)
    releases.build(tmp_path / "cells", replace(some, images=replace(some.images, by="cells")))
    assert "by" not in dcpipe.load(tmp_path / "fish").manifest
    whole = dcpipe.load(tmp_path / "cells")
    assert (whole.manifest["by"], whole.images.by, whole.images.grid) == ("cells", "cells", 2)
    for ipc in (1, 3):
        for by in ("images", "cells"):
            asked = dcpipe.load(tmp_path / "fish", ipc=ipc, by=by)  # type: ignore[arg-type]
            assert dcpipe.load(tmp_path / "cells", ipc=ipc, by=by).images.ids.tolist() == asked.images.ids.tolist()  # type: ignore[arg-type]
            default = dcpipe.load(tmp_path / ("fish" if by == "images" else "cells"), ipc=ipc)
            assert default.images.ids.tolist() == asked.images.ids.tolist()
            assert len(default.dataset()) == len(asked.dataset())


def test_a_smaller_set_of_grids_mixes_only_its_own(tmp_path: Path) -> None:
    some = releases.parts(policy=replace(releases.POLICY, mix="cutmix_labels"), grid=2)
    releases.build(tmp_path / "fish", some)
    dataset = dcpipe.load(tmp_path / "fish", ipc=1).dataset()
    assert len(dataset) == 12 and int(dataset.drawn.partner.max()) < 12
    releases.build(tmp_path / "mixed", releases.parts(policy=replace(releases.POLICY, mix="cutmix_images"), grid=2))
    assert len(dcpipe.load(tmp_path / "mixed").dataset()) == 48
    with pytest.raises(DataError, match=r"labels of images mixed before labelling cannot be cut to a smaller ipc"):
        dcpipe.load(tmp_path / "mixed", ipc=2).dataset()


def test_reading_needs_nothing_of_the_pipeline_extra(made: Path) -> None:
    program = (
        "import sys\n"
        "sys.modules.update(dict.fromkeys(['prefect', 'sklearn', 'matplotlib', 'timm', 'fastapi']))\n"
        "import dcpipe\n"
        f"image, target = dcpipe.load({str(made)!r}).dataset()[0]\n"
        "print(tuple(image.shape), tuple(target.shape))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "(3, 8, 8) (3,)\n"), done.stderr


def test_a_whitened_release_whitens_and_does_not_normalise(tmp_path: Path) -> None:
    some = releases.whitened()
    assert some.whitening is not None
    artifact = releases.build(tmp_path / "r", some)
    found = dcpipe.load(tmp_path / "r")
    file = tmp_path / "r/whitening.safetensors"
    assert artifact.meta["whitening"] == 0.1 and artifact.meta["bytes"][file.name] == file.stat().st_size
    assert (
        f"| `whitening.safetensors` | {file.stat().st_size:,} | the ZCA transform"
        in (tmp_path / "r/README.md").read_text()
    )
    pixels = torch.from_numpy(found.images.images).permute(0, 3, 1, 2).float() / 255
    mean, matrix = torch.from_numpy(some.whitening.mean), torch.from_numpy(some.whitening.matrix)
    wanted = ((pixels.flatten(1) - mean) @ matrix).view(pixels.shape)
    assert found.whitening is not None and torch.allclose(found.whitening(pixels), wanted, atol=1e-5)
    dataset = found.dataset()
    assert torch.allclose(dataset.pixels.permute(0, 3, 1, 2), wanted, atol=1e-5)
    with pytest.raises(
        DataError, match=r"release fish is ZCA-whitened, not normalised: .* release.whitening\(images\)"
    ):
        _ = found.normalisation
    release.export(found, tmp_path / "out")
    assert (tmp_path / "out" / file.name).read_bytes() == file.read_bytes()
    with pytest.raises(DataError, match="is ZCA-whitened, but DD-Ranking tests students on normalised images"):
        release.export(found, tmp_path / "other", form="ddranking")


def test_a_release_without_transform_has_none(made: Path) -> None:
    found = dcpipe.load(made)
    assert found.whitening is None and "whitening" not in found.manifest
