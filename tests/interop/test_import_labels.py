"""Imported stores: what another program's teacher saw is what students see, label for label and pixel for pixel."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import label_stores
import numpy as np
import pytest
import torch
from label_stores import CLASSES, SIDE, N, by_view, teacher, write_images, write_store
from safetensors.numpy import load_file

import dcpipe
from dcpipe import store
from dcpipe.cli import commands as cli
from dcpipe.compression.budget import Budget
from dcpipe.dataset import CondensedDataset, CondensedLoader
from dcpipe.interop import import_labels as import_checked
from dcpipe.interop import importing
from dcpipe.interop.records import Record
from dcpipe.release import Release
from dcpipe.types import DataError, StoredViews

pytestmark = pytest.mark.usefixtures("scratch")
import_labels = partial(import_checked, force=True)  # the stores' logits are noise, which agrees with no class
CASES = [(layout, mix) for layout in ("sre2l", "gvbsm", "edc", "lpld") for mix in (True, False)]


def imported(root: Path, layout: str, mix: bool = True, **options: object) -> tuple[dict, Release, importing.Imported]:
    pixels = write_images(root / "images")
    made = write_store(root / "store", pixels, layout, mix=mix)
    told = import_labels(root / "store", root / "images", root / "out", **options)  # type: ignore[arg-type]
    return made, dcpipe.load(root / "out"), told


@pytest.mark.parametrize(("layout", "mix"), CASES)
def test_students_see_what_the_teacher_saw(tmp_path: Path, layout: str, mix: bool) -> None:
    made, release, told = imported(tmp_path, layout, mix)
    views = by_view(made)
    k = min(sum(image == row for image, _ in views) for row in range(N))
    assert told.layout == {"gvbsm": "edc"}.get(layout, layout)
    assert (told.shape.images, told.shape.views, told.shape.classes) == (N, k, len(CLASSES))
    assert told.left_over == len(views) - N * k
    assert (k, told.left_over) == (5, 0) if layout != "lpld" else told.left_over > 0
    assert release.classes == CLASSES and release.pack is not None
    dataset = release.dataset(temperature=1.0)
    for epoch in range(k):
        dataset.set_epoch(epoch)
        inputs, targets = dataset.batch(np.arange(N))
        assert torch.equal(torch.from_numpy(release.pack.arrays["logits"][:, epoch]), logits_of(views, epoch))
        wanted = torch.stack([views[row, epoch][0] for row in range(N)])
        torch.testing.assert_close(inputs, wanted, rtol=0, atol=1e-5)
        torch.testing.assert_close(targets, logits_of(views, epoch).float().softmax(1), rtol=0, atol=1e-5)
        # fp16 of logits as large as these rounds by a hundredth or so
        torch.testing.assert_close(teacher(inputs), logits_of(views, epoch).float(), rtol=1e-3, atol=2e-2)


def logits_of(views: dict, epoch: int) -> torch.Tensor:
    return torch.stack([views[row, epoch][1] for row in range(N)])


def test_boxes_index_rows_first(tmp_path: Path) -> None:
    """A box of a tall shape, at a place where rows and columns cannot be taken for each other."""
    pixels = write_images(tmp_path / "images")
    order = torch.roll(torch.arange(N), 1)
    whole = torch.tensor([[0.0, 0.0, 1.0, 1.0]]).repeat(N, 1)
    mixed = pixels.clone()
    mixed[:, :, 2:13, 9:12] = pixels[order, :, 2:13, 9:12]
    (tmp_path / "store/epoch_0").mkdir(parents=True)
    record = [whole, torch.zeros(N, dtype=torch.bool), order, 0.9, [2, 9, 13, 12], torch.randn(N, 4), torch.arange(N)]
    torch.save(record, tmp_path / "store/epoch_0/batch_0.tar")
    import_labels(tmp_path / "store", tmp_path / "images", tmp_path / "out")
    release = dcpipe.load(tmp_path / "out")
    torch.testing.assert_close(release.dataset().batch(np.arange(N))[0], mixed, rtol=0, atol=1e-5)
    law = release.policy
    assert isinstance(law, StoredViews)
    assert law.arrays["mix_box"][0, 0].tolist() == [9, 2, 12, 13]  # left, top, right, bottom
    assert law.arrays["partner"][:, 0].tolist() == order.tolist()


def test_a_partner_is_seen_as_it_was_pasted_though_that_view_is_lost(tmp_path: Path) -> None:
    """LPLD stores only some batches: the partner may be shown in a view of it beyond K."""
    _, release, told = imported(tmp_path, "lpld")
    law = release.policy
    assert told.left_over > 0 and isinstance(law, StoredViews)
    own = {tuple(box) for box in law.arrays["box"].reshape(-1, 4).tolist()}
    pasted = {tuple(box) for box in law.arrays["partner_box"].reshape(-1, 4).tolist()}
    assert pasted - own  # replayed all the same: `test_students_see_what_the_teacher_saw`


def test_missing_batches_leave_the_least_count(tmp_path: Path) -> None:
    pixels = write_images(tmp_path / "images")
    made = write_store(tmp_path / "store", pixels, "sre2l", epochs=6)
    for place in ((0, 0), (3, 1), (5, 2)):  # epochs with a batch less are drawn all the same
        (tmp_path / "store" / f"epoch_{place[0]}" / f"batch_{place[1]}.tar").unlink()
        del made[place]
    told = import_labels(tmp_path / "store", tmp_path / "images", tmp_path / "out")
    views = by_view(made)
    assert told.files == 15
    counts = [sum(image == row for image, _ in views) for row in range(N)]
    assert (told.shape.views, told.left_over) == (min(counts), sum(counts) - N * min(counts))
    release = dcpipe.load(tmp_path / "out")
    assert release.pack is not None
    for view in range(min(counts)):
        assert torch.equal(torch.from_numpy(release.pack.arrays["logits"][:, view]), logits_of(views, view))


def test_the_sampler_needs_its_seed(tmp_path: Path) -> None:
    pixels = write_images(tmp_path / "images")
    views = by_view(write_store(tmp_path / "store", pixels, "sre2l", seed=7))
    for seed, same in ((7, True), (42, False)):
        import_labels(tmp_path / "store", tmp_path / "images", tmp_path / f"out{seed}", seed=seed)
        release = dcpipe.load(tmp_path / f"out{seed}")
        assert release.pack is not None
        found = torch.from_numpy(release.pack.arrays["logits"][:, 1])
        assert torch.equal(found, logits_of(views, 1)) == same


def test_agreement_tells_a_wrong_order(tmp_path: Path) -> None:
    """Labels that follow the class are recognised in the right order, and fall to chance in another."""
    write_images(tmp_path / "images")
    generator = torch.Generator()
    generator.manual_seed(42)
    whole, still = torch.tensor([[0.0, 0.0, 1.0, 1.0]]).repeat(N, 1), torch.zeros(N, dtype=torch.bool)
    sampler = torch.utils.data.RandomSampler(range(N), generator=generator)
    for epoch in range(40):
        index = torch.tensor(list(sampler))
        logits = 5 * torch.eye(4)[index // label_stores.PER_CLASS]
        (tmp_path / f"store/epoch_{epoch}").mkdir(parents=True)
        torch.save([whole, still, None, None, None, logits], tmp_path / f"store/epoch_{epoch}/batch_0.tar")
    told = import_checked(tmp_path / "store", tmp_path / "images", tmp_path / "right")
    assert told.agreed == 1.0
    with pytest.raises(
        DataError, match=r"^labels agree with their image's class in \d\d\.\d % of views, and chance is 25"
    ):
        import_checked(tmp_path / "store", tmp_path / "images", tmp_path / "wrong", seed=43)
    assert not (tmp_path / "wrong").exists()
    told = import_labels(tmp_path / "store", tmp_path / "images", tmp_path / "wrong", seed=43)
    assert 0.1 < told.agreed < 0.375  # chance is 0.25


@pytest.mark.parametrize("mix", [True, False])
def test_replay_does_not_depend_on_batches(tmp_path: Path, mix: bool) -> None:
    _, release, _ = imported(tmp_path, "edc", mix)
    dataset = release.dataset()
    dataset.set_epoch(3)
    inputs, targets = dataset.batch(np.arange(N))
    order = np.random.default_rng(0).permutation(N)
    for size in (1, 5, N):
        for start in range(0, N, size):
            items = order[start : start + size]
            some_inputs, some_targets = dataset.batch(items)
            torch.testing.assert_close(some_inputs, inputs[items], rtol=0, atol=1e-6)
            torch.testing.assert_close(some_targets, targets[items], rtol=0, atol=1e-6)


def test_views_beyond_the_stored_ones_wrap(tmp_path: Path) -> None:
    _, release, told = imported(tmp_path, "edc")
    for kind in ("pack", "hard"):
        dataset = release.dataset(labels=kind)  # type: ignore[arg-type]
        seen = []
        for epoch in (1, 2, 1 + told.shape.views):
            dataset.set_epoch(epoch)
            seen.append(dataset.batch(np.arange(N)))
        assert torch.equal(seen[0][0], seen[2][0]) and torch.equal(seen[0][1], seen[2][1])
        assert not torch.equal(seen[0][0], seen[1][0])


def test_hard_labels_of_pasted_views_are_mixed_by_their_pixels(tmp_path: Path) -> None:
    _, release, _ = imported(tmp_path, "edc")
    law = release.policy
    assert isinstance(law, StoredViews)
    _, targets = release.dataset(labels="hard").batch(np.arange(N))
    for row in range(N):
        left, top, right, bottom = (int(edge) for edge in law.arrays["mix_box"][row, 0])
        wanted = np.zeros(len(CLASSES))
        share = (right - left) * (bottom - top) / SIDE**2
        wanted[release.images.labels[row]] += 1 - share
        wanted[release.images.labels[law.arrays["partner"][row, 0]]] += share
        np.testing.assert_allclose(targets[row], wanted, atol=1e-6)


# --- packs ---


@pytest.mark.parametrize("codec", ["none", "lowrank_int8", "field", "topk", "prune"])
def test_packs_hold_the_views_as_arrays_of_their_own(tmp_path: Path, codec: str) -> None:
    budget = Budget() if codec == "none" else Budget(codec, {"mixed": True} if codec == "field" else {}, ratio=0.12)
    _, release, told = imported(tmp_path, "edc", True, budget=budget)
    path = tmp_path / "out/labels.safetensors"
    arrays = load_file(path)
    views = {name: array for name, array in arrays.items() if name.startswith("view_")}
    names = ["box", "flip", "mix_box", "partner", "partner_box", "partner_flip"]
    assert sorted(views) == [f"view_{name}" for name in names]
    assert told.view_bytes == sum(array.nbytes for array in views.values()) == N * 5 * 46
    assert told.pack_bytes == path.stat().st_size
    if codec != "none":
        assert told.pack_bytes - told.view_bytes <= told.shape.reference_bytes / 0.12
    assert release.manifest["view_bytes"] == told.view_bytes
    assert release.pack is not None and set(release.pack.arrays) == set(arrays) - set(views)
    loader = CondensedLoader(release.dataset(), 5)
    assert sum(len(inputs) for inputs, _ in loader) == N


def test_fresh_views_are_refused(tmp_path: Path) -> None:
    budget = Budget("field", {"fresh": True}, ratio=0.12)
    with pytest.raises(DataError) as error:
        imported(tmp_path, "edc", False, budget=budget)
    assert str(error.value) == (
        "codec 'field' would use new views, but views are stored and there are only 5 per image; leave option fresh out"
    )


def test_a_student_trains(tmp_path: Path) -> None:
    _, release, _ = imported(tmp_path, "edc")
    loader = CondensedLoader(release.dataset(temperature=1.0), 6, seed=1)
    torch.manual_seed(0)
    student = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * SIDE * SIDE, len(CLASSES)))
    optimizer = torch.optim.SGD(student.parameters(), lr=0.01)
    losses = []
    for epoch in range(40):
        loader.set_epoch(epoch)
        for inputs, targets in loader:
            loss = torch.nn.functional.cross_entropy(student(inputs - 0.5), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    assert np.mean(losses[-10:]) < 0.8 * np.mean(losses[:4])


def test_smaller_sets(tmp_path: Path) -> None:
    for mix, name in ((False, "clean"), (True, "mixed")):
        (tmp_path / name).mkdir()
        made, _, _ = imported(tmp_path / name, "edc", mix)
        small = dcpipe.load(tmp_path / name / "out", ipc=2)
        if mix:
            with pytest.raises(DataError) as error:
                small.dataset()
            assert str(error.value) == (
                "release out: its views paste images that a smaller set does not contain; load all of it"
            )
            continue
        dataset = small.dataset(temperature=1.0)
        inputs, targets = dataset.batch(np.arange(len(dataset)))
        views = by_view(made)
        for item, row in enumerate(dataset.rows):
            pixels, logits = views[int(small.images.ids[row]), 0]
            torch.testing.assert_close(inputs[item], pixels, rtol=0, atol=1e-5)
            torch.testing.assert_close(targets[item], logits.float().softmax(0), rtol=0, atol=1e-5)


# --- resuming ---


@pytest.mark.parametrize("codec", ["none", "svd"])
def test_a_killed_import_continues_and_ends_with_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, codec: str
) -> None:
    pixels = write_images(tmp_path / "images")
    write_store(tmp_path / "store", pixels, "sre2l")
    budget = Budget() if codec == "none" else Budget(codec, ratio=0.12)

    def run(out: str, stop: int | None) -> importing.Imported:
        steps = []

        def report(done: int, total: int) -> None:
            steps.append(done)
            if done == stop:
                raise KeyboardInterrupt

        return import_labels(tmp_path / "store", tmp_path / "images", tmp_path / out, budget=budget, report=report)

    unbroken = run("whole", None)
    meta = dcpipe.load(tmp_path / "whole").manifest
    monkeypatch.setattr(importing, "GROUP_BYTES", 1)  # a shard a reading: a kill finds some written
    for stop in (4, 17, 40, 70):  # in the scan, and among shards
        with pytest.raises(KeyboardInterrupt):
            run("killed", stop)
        assert not (tmp_path / "killed").exists()
    reads: list[Path] = []
    read = importing.read_record

    def counted(path: Path) -> Record:
        reads.append(path)
        return read(path)

    monkeypatch.setattr(importing, "read_record", counted)
    ended = run("killed", None)
    assert 0 < len(reads) < 15 * 12
    assert ended.pack_bytes == unbroken.pack_bytes
    for name in ("labels.safetensors", "images.parquet"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert {**dcpipe.load(tmp_path / "killed").manifest, "name": "whole"} == meta


def test_equal_stores_have_equal_digests(tmp_path: Path) -> None:
    digests = set()
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        digests.add(imported(tmp_path / name, "edc")[2].digest)
    assert len(digests) == 1


# --- honesty ---


def test_the_release_says_where_it_comes_from(tmp_path: Path) -> None:
    _, release, told = imported(tmp_path, "lpld", licence="CC0-1.0")
    assert release.manifest["teachers"] == [] and release.manifest["teacher"] is None and release.scores == ()
    assert release.manifest["params"]["import"] == {
        "layout": "lpld",
        "files": 10,
        "bytes": sum(path.stat().st_size for path in (tmp_path / "store").rglob("*.tar")),
        "left_over": told.left_over,
        "agreement_with_classes": round(told.agreed, 4),
    }
    text = (tmp_path / "out/README.md").read_text()
    assert "imported by dcpipe, which did not make it" in text and "ade with dcpipe" not in text
    assert "imported from 10 files of another program's soft labels (layout `lpld`)" in text
    assert "by teachers that the source does not name" in text
    assert f"{told.pack_bytes:,} bytes, {told.view_bytes:,} of them the views' crops and mixes" in text
    assert "Licence of the source images: CC0-1.0" in text


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pixels = write_images(tmp_path / "images")
    write_store(tmp_path / "store", pixels, "sre2l")
    arguments = ["import-labels", "store", "images", "out", "--codec", "lowrank_int8", "--bytes-per-image", "300"]
    assert cli.main([*arguments, "--option", "temperature=4.0"]) == 2
    assert "each label seems to be on another image; check the folder" in capsys.readouterr().err
    arguments.append("--force")
    assert cli.main([*arguments, "--option", "temperature=4.0"]) == 0
    told = capsys.readouterr().out.splitlines()
    size = store.folder_bytes(tmp_path / "store")
    assert told[0] == f"Read 15 files of layout sre2l, {size:,} bytes on disk."
    assert told[1] == "12 images, 5 views of each, 4 classes, mix cutmix_images."
    assert told[2].startswith("Labels agree with their image's class in ")
    pack = (tmp_path / "out/labels.safetensors").stat().st_size
    assert told[3] == f"fp16 logits 480 bytes; pack {pack:,} bytes on disk, of which the views' parameters take 2,760."
    assert isinstance(dcpipe.load("out").dataset(), CondensedDataset)
    assert cli.main(arguments) == 2
    assert capsys.readouterr().err == "dcpipe: out exists; give a folder that does not, or remove it\n"
    assert cli.main([*arguments[:3], "new", "--codec", "svd"]) == 2
    assert "codec 'svd' takes one of ratio and bytes_per_image, but neither was given" in capsys.readouterr().err
