"""Release: what is written is what is read, by folder and by tag; anything else is an error that says so."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import releases
import torch
import yaml
from condensed import decoded_by_hand
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from releases import logits_of
from safetensors.numpy import load_file
from torchvision.datasets import ImageFolder

import dcpipe
from dcpipe import networks, release, store, views
from dcpipe.compression import CODECS
from dcpipe.dataset import CondensedDataset
from dcpipe.release import publishing, tags
from dcpipe.types import DataError

FILES = ["images.parquet", "labels.safetensors", "teacher.safetensors", "scores.json", "README.md", "artifact.json"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("release") / "fish"
    releases.build(folder, releases.parts())
    return folder


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


def test_equal_content_has_equal_bytes(made: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    releases.build(again, releases.parts())
    for name in FILES:
        assert (again / name).read_bytes() == (made / name).read_bytes(), name


def test_sizes_in_the_manifest_are_those_on_disk(made: Path) -> None:
    sizes = dcpipe.load(made).manifest["bytes"]
    assert sizes == {name: (made / name).stat().st_size for name in FILES[:4]}


@pytest.mark.parametrize("name", FILES)
def test_one_changed_bit_is_found(made: Path, tmp_path: Path, name: str) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(made, copy)
    content = bytearray((copy / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copy / name).write_bytes(bytes(content))
    with pytest.raises(DataError, match=name):
        dcpipe.load(copy)


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
    """Sorted by class, the kept rows are not the first ones; each label must still be its own image's."""
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
        share = float(drawn.kept(8)[0])
        # Rounds of one image a class: the first 2 x 3 rows of the whole are the rows of the smaller set.
        wanted = share * soft[row, view] + (1 - share) * soft[int(drawn.partner[0]), view]
        torch.testing.assert_close(targets[item].double(), wanted, atol=1e-5, rtol=1e-5)


def test_ipc_out_of_range(made: Path) -> None:
    with pytest.raises(DataError, match=r"^ipc 5 is outside 1..4, what this set holds for every class$"):
        dcpipe.load(made, ipc=5)


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


def test_labels_of_stored_grids_are_refused(tmp_path: Path) -> None:
    some = releases.parts()
    grids = replace(some.images, grid=2)
    with pytest.raises(DataError, match=r"^release fish: the label pack is of other images; run `dvc repro comp"):
        releases.build(tmp_path / "a", replace(some, images=grids))


def test_the_card_says_that_images_are_grids(made: Path, tmp_path: Path) -> None:
    releases.build(tmp_path / "fish", releases.parts(grid=2))
    text = (tmp_path / "fish" / "README.md").read_text(encoding="utf-8")
    assert (
        "Each stored image is a grid of 2 x 2 cells, and each cell, enlarged bilinearly to full size, is a training "
        "image: 12 stored images decode to 48. Each decoded image carries soft labels of 5 augm"
    ) in text
    assert "as stored; `dcpipe export` writes them decoded." in text
    # 2 bytes x 48 images x 5 views x 3 classes, in the text and in the row of 4 images a class
    assert "(1,440 in fp16)" in text and "| 4,321 | 999 | 0 | 1,440 |" in text
    plain = (made / "README.md").read_text(encoding="utf-8")
    assert "grid" not in plain.split("## Scores")[0] and "as stored" not in plain


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


def test_assemble_refuses_what_does_not_fit(tmp_path: Path) -> None:
    some, other = releases.parts(), releases.parts(seed=1)
    with pytest.raises(DataError, match=r"^release fish: the label pack is of other images; run `dvc repro comp"):
        releases.build(tmp_path / "a", replace(some, pack=other.pack))
    turned = replace(some.teacher, classes=(releases.CLASSES[1], releases.CLASSES[0], releases.CLASSES[2]))
    with pytest.raises(DataError, match=r"^release fish: teacher and images: class 0 is 'goldfish' on one side"):
        releases.build(tmp_path / "b", replace(some, teacher=turned))


def test_card(made: Path) -> None:
    text = (made / "README.md").read_text(encoding="utf-8")
    _, front, body = text.split("---\n", 2)
    matter = yaml.safe_load(front)
    assert matter["license_name"] == "CC0-1.0"
    [config] = matter["configs"]
    assert pq.read_table(made / config["data_files"][0]["path"]).num_rows == 12
    for name in FILES[:4]:
        assert f"| `{name}` | {(made / name).stat().st_size:,} |" in body
    # 2 bytes x 12 images x 5 views x 3 classes = 360 bytes of fp16
    assert "| score, none | score | convnet-d1-w4 | 4 | 61.0 ± 1.0 | 3 | 4,321 | 999 | 0 | 360 |" in body
    assert 'dcpipe.load("fish@vX.Y.Z"' in body
    assert "Licence of the source images: CC0-1.0" in body
    assert body.rstrip().endswith("Made with dcpipe 0.1.0.")
    params = yaml.safe_load(body.split("```yaml\n")[1].split("```")[0])
    assert params == releases.settings("fish").model_dump(mode="json")


def test_parquet_follows_the_hugging_face_convention(made: Path) -> None:
    schema = pq.read_schema(made / "images.parquet")
    features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
    assert features["image"] == {"_type": "Image"}
    assert features["label"] == {"_type": "ClassLabel", "names": list(releases.CLASSES)}


def test_export(made: Path, tmp_path: Path) -> None:
    found = dcpipe.load(made, ipc=2)
    release.export(found, tmp_path / "out")
    folder = ImageFolder(str(tmp_path / "out"))
    names = json.loads((tmp_path / "out" / "classes.json").read_text())
    assert [names[key] for key in folder.classes] == list(releases.CLASSES)
    labels = load_file(tmp_path / "out" / "labels.safetensors")
    assert found.pack is not None
    wanted = logits_of(found.pack)
    for row in range(6):
        file = tmp_path / "out" / f"{labels['class'][row]:05d}" / f"{labels['rank'][row]:05d}.png"
        np.testing.assert_array_equal(np.asarray(Image.open(file)), found.images.images[row])
        np.testing.assert_array_equal(labels["logits"][row], wanted[row].numpy().astype(np.float16))
        for view in range(5):
            drawn = views.draw(found.policy, found.images.ids[[row]], np.array([view]), 12)
            np.testing.assert_allclose(labels["box"][row, view], drawn.box[0], rtol=1e-6)
            assert labels["flip"][row, view] == drawn.flip[0]
    with pytest.raises(DataError, match=r"out exists; give a folder that does not$"):
        release.export(found, tmp_path / "out")


def test_export_refuses_labels_that_are_not_of_single_files(tmp_path: Path) -> None:
    some = releases.parts(policy=replace(releases.POLICY, mix="cutmix_images"))
    releases.build(tmp_path / "fish", some)
    found = dcpipe.load(tmp_path / "fish")
    with pytest.raises(DataError, match=r"^release fish labels mixed images, which single files cannot show"):
        release.export(found, tmp_path / "out")
    assert some.pack is not None
    shape = some.pack.shape
    codec = CODECS["prune"].plan(shape, shape.reference_bytes // 2)
    rows = np.arange(shape.images)
    drawn = views.draw(releases.POLICY, np.repeat(rows, shape.views), np.tile(np.arange(shape.views), len(rows)), 1)
    arrays = codec.encode(torch.zeros(shape.images, shape.views, shape.classes), rows, shape, drawn)
    half = replace(some.pack, codec="prune", settings=codec.settings, arrays=dict(arrays), policy=releases.POLICY)
    pruned = replace(found, pack=half)
    with pytest.raises(DataError, match=r"^release fish has labels of some views only, which no dense array holds"):
        release.export(pruned, tmp_path / "out")
    release.export(found, tmp_path / "out", labels=False)
    assert not (tmp_path / "out" / "labels.safetensors").exists()


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


@pytest.mark.parametrize("tag", ["digits@v0.0.1", "imagenet-1k-ipc10@v10.20.30"])
def test_release_tags(tag: str) -> None:
    assert tags.TAG.fullmatch(tag)


@pytest.mark.parametrize(
    "tag", ["digits", "v1.0.0", "Digits@v1.0.0", "a_b@v1.0.0", "a@1.0.0", "a@v01.0.0", "a@v1.0", "-a@v1.0.0"]
)
def test_not_release_tags(tag: str) -> None:
    assert tags.TAG.fullmatch(tag) is None


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A git repository with params.yaml, one commit, and an identity that is nobody's."""
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "A Tester")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "tester@example.org")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    monkeypatch.setenv("DCPIPE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("DCPIPE_REMOTE", str(tmp_path / "remote"))
    root = tmp_path / "workspace"
    root.mkdir()
    tags.git("init", "--quiet", cwd=root)
    content = releases.settings("fish").model_dump(mode="json")
    (root / "params.yaml").write_text(yaml.safe_dump(content))
    tags.git("add", "-A", cwd=root)
    tags.git("commit", "--quiet", "-m", "Begin", cwd=root)
    return root


def test_publish_checks_before_it_acts(repository: Path) -> None:
    def refused(tag: str) -> str:
        with pytest.raises(DataError) as caught:
            release.publish(tag, workspace=repository)
        return str(caught.value)

    assert refused("fish") == "'fish' is not a release tag; write NAME@vX.Y.Z, e.g. digits-score@v1.0.0"
    assert refused("cat@v1.0.0") == "tag 'cat@v1.0.0' names 'cat', params.yaml says release.name: fish; make them equal"
    tags.git("tag", "-a", "fish@v1.0.0", "-m", "x", cwd=repository)
    assert refused("fish@v1.0.0") == "tag fish@v1.0.0 exists; a release never changes, so raise the version"
    (repository / "new.txt").write_text("x")
    assert refused("fish@v1.0.1") == "git has 1 uncommitted changes, first '?? new.txt'; commit them first"


def test_publish_needs_everything_reproduced(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publishing, "_dvc", lambda *arguments, cwd: '{"synthesis": [{"changed deps": {}}]}')
    with pytest.raises(DataError, match=r"^not reproduced: synthesis would run again; run `dvc repro`, then commit"):
        release.publish("fish@v1.0.0", workspace=repository)
    assert tags.released(str(repository)) == {}


def test_unknown_tag_lists_those_there_are(repository: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has no release tag 'fish@v1.0.0'; it has no release tag at all$"):
        dcpipe.load("fish@v1.0.0", repo=repository)
    for tag in ("fish@v2.0.0", "fish@v1.1.0", "not-a-release"):
        tags.git("tag", "-a", tag, "-m", "x", cwd=repository)
    with pytest.raises(DataError, match=r"has no release tag 'fish@v1.0.0'; it has fish@v1.1.0, fish@v2.0.0$"):
        release.pull("fish@v1.0.0", repository, tmp_path / "out")


def test_a_repository_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DCPIPE_CACHE", str(tmp_path))
    with pytest.raises(DataError, match=r"^git ls-remote failed: "):
        dcpipe.load("fish@v1.0.0", repo=tmp_path / "nowhere")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"is in no git repository; give repo=, the one that has the tag$"):
        dcpipe.load("fish@v1.0.0")


def test_the_cache_follows_the_tag(repository: Path, made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fetched once a commit; fetched again when the tag was moved; the one copy serves when the repository is gone."""
    fetched: list[str] = []

    def download(tag: str, source: str, out: Path) -> Path:
        fetched.append(tag)
        shutil.copytree(made, out)
        return out

    monkeypatch.setattr(tags, "_download", download)
    tags.git("tag", "-a", "fish@v1.0.0", "-m", "x", cwd=repository)
    first = dcpipe.load("fish@v1.0.0", repo=repository)
    assert dcpipe.load("fish", revision="1.0.0", repo=repository).path == first.path
    monkeypatch.chdir(repository)
    assert dcpipe.load("fish", revision="v1.0.0").path == first.path
    assert fetched == ["fish@v1.0.0"]
    git_folder = (repository / ".git").rename(repository / "away")
    assert dcpipe.load("fish@v1.0.0", repo=repository).path == first.path
    git_folder.rename(repository / ".git")
    tags.git("commit", "--quiet", "--allow-empty", "-m", "More", cwd=repository)
    tags.git("tag", "-f", "-a", "fish@v1.0.0", "-m", "x", cwd=repository)
    assert dcpipe.load("fish@v1.0.0", repo=repository).path != first.path
    assert len(fetched) == 2


def _commit_version(root: Path, seed: int) -> store.Artifact:
    """Prepare a release, reproduce the stage that takes it, commit."""
    shutil.rmtree(root / "prepared", ignore_errors=True)
    artifact = releases.build(root / "prepared", releases.parts(seed=seed))
    publishing._dvc("repro", "--quiet", cwd=root)
    tags.git("add", "-A", cwd=root)
    tags.git("commit", "--quiet", "-m", f"Version {seed}", cwd=root)
    return artifact


@pytest.mark.pipeline
def test_publish_and_pull_two_versions(repository: Path, tmp_path: Path) -> None:
    said: list[str] = []
    root = repository
    publishing._dvc("init", "--quiet", cwd=root)
    (root / ".gitignore").write_text("/data\n")
    stage = {"cmd": "mkdir -p data && cp -r prepared data/release", "deps": ["prepared"], "outs": ["data/release"]}
    (root / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"release": stage}}))
    tags.git("tag", "-a", "fish@v0.1.0", "-m", "before there was DVC", cwd=root)
    versions = {}
    for seed, tag in enumerate(("fish@v1.0.0", "fish@v1.1.0")):
        versions[tag] = _commit_version(root, seed).digest
        release.publish(tag, workspace=root, say=said.append)
    assert said[0] == f"No DVC remote was set: added {tmp_path / 'remote'} as the default and committed .dvc/config."
    assert said[-1] == "Next: git push origin HEAD fish@v1.1.0"
    assert versions["fish@v1.0.0"] != versions["fish@v1.1.0"]
    assert tags.git("status", "--porcelain", cwd=root) == ""
    assert tags.git("cat-file", "-t", "fish@v1.0.0", cwd=root) == "tag\n"  # annotated, as gto makes them
    # A clone has the tags but no data: bytes come from the remote.
    clone = tmp_path / "clone"
    tags.git("clone", "--quiet", "--bare", str(root), str(clone))
    for seed, (tag, digest) in enumerate(versions.items()):
        out = tmp_path / tag
        assert release.pull(tag, clone, out).digest == digest
        found = dcpipe.load(out)
        np.testing.assert_array_equal(found.images.images, releases.parts(seed=seed).images.images)
        inputs, targets = found.dataset().batch(np.arange(12))
        assert inputs.shape == (12, 3, 8, 8)
        assert targets.shape == (12, 3)
        assert dcpipe.load(tag, repo=clone).digest == digest
    with pytest.raises(DataError, match=r"exists; give a folder that does not, or remove it$"):
        release.pull("fish@v1.0.0", clone, tmp_path / "fish@v1.0.0")
    with pytest.raises(DataError, match=r"clone at fish@v0.1.0 tracks no data/release; give the repository that publ"):
        release.pull("fish@v0.1.0", clone, tmp_path / "gone")
    # The data is gone from the remote: an error that says whom to ask, and nothing half-made at `out`.
    shutil.rmtree(tmp_path / "remote" / "files")
    with pytest.raises(DataError, match=r"^fish@v1.0.0 is in no storage that .*clone names .* ask its owner to run"):
        release.pull("fish@v1.0.0", clone, tmp_path / "gone")
    assert not (tmp_path / "gone").exists()
    assert not list(tmp_path.glob(".pull-*"))


@pytest.mark.parametrize(
    "address",
    [
        "--upload-pack=touch {mark}; git-upload-pack",
        "--exec=touch {mark}",
        "-u",
        "ext::sh -c touch% {mark}",
        "EXT::touch {mark}",
        "ext://touch {mark}",
        "fd::17",
        "ssh://-oProxyCommand=touch {mark}/x",
        "ssh://a@-oProxyCommand=touch/x",
        "https://host/x\n--upload-pack=touch {mark}",
        "",
    ],
)
def test_what_is_no_address_of_a_repository_never_reaches_git(
    address: str, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = tmp_path / "mark"
    ran: list[tuple[str, ...]] = []
    monkeypatch.setattr(tags, "git", lambda *arguments, cwd=None: ran.append(arguments) or "")
    for use in (
        lambda repo: dcpipe.load("a@v1.0.0", repo=repo),
        lambda repo: tags.pull("a@v1.0.0", repo, tmp_path / "out"),
    ):
        with pytest.raises(DataError, match=r"^(repository |the repository's address is empty)"):
            use(address.format(mark=mark))
    assert ran == [] and not mark.exists()


@pytest.mark.parametrize(
    "address",
    [
        "https://host/a/b.git",
        "http://localhost:3000/x",
        "ssh://git@host:22/a",
        "git@host:a/b.git",
        "host:a",
        "file:///a",
    ],
)
def test_addresses_that_git_takes_are_left_as_they_are(address: str) -> None:
    assert tags._address(address) == address


def test_git_gets_addresses_behind_a_double_dash_and_no_transport_that_starts_programs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: dict[str, Any] = {}

    def fake(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        seen.update(options, command=command)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", fake)
    tags.released("https://host/x")
    assert seen["command"][-2:] == ["--", "https://host/x"]
    assert seen["env"]["GIT_ALLOW_PROTOCOL"] == "file:git:http:https:ssh"
