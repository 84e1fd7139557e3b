"""`CondensedDataset`: each item is the view and the label of its (image, epoch), however it is fetched."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from condensed import (
    ALL,
    CLASSES,
    CODEC_KINDS,
    CPU,
    SIZE,
    TEMPERATURE,
    VIEWS,
    N,
    counted_share,
    dataset_of,
    decoded,
    decoded_by_hand,
    image_set,
    in_grids,
    item_by_hand,
    logits_of,
    network,
    pack_of,
    policy_of,
    softmax,
    teacher,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader
from view_cases import column, random_images

from dcpipe import views
from dcpipe.dataset import CondensedDataset
from dcpipe.dataset.targets import HardLabels, Labels, OnlineLabels, PackLabels
from dcpipe.types import MIXES, DataError, ImageSet, Mix, ViewPolicy
from dcpipe.views import siamese
from dcpipe.views.whitening import Whitener, fit


@pytest.mark.parametrize("mix", MIXES)
@pytest.mark.parametrize("epoch", [0, 4])
def test_an_item_is_the_view_and_the_label_that_its_image_and_epoch_name(mix: Mix, epoch: int) -> None:
    dataset = dataset_of(mix)
    dataset.set_epoch(epoch)
    inputs, targets = dataset.batch(ALL)
    assert inputs.dtype == targets.dtype == torch.float32
    assert inputs.shape == (N, 3, SIZE, SIZE) and targets.shape == (N, len(CLASSES))
    for row in range(N):
        pixels, label = item_by_hand(image_set(), mix, row, epoch)
        torch.testing.assert_close(inputs[row], pixels, rtol=0, atol=1e-6)
        np.testing.assert_allclose(targets[row], label, rtol=0, atol=1e-6)
    assert len({tuple(row) for row in targets.round(decimals=4).tolist()}) > N // 2


@pytest.mark.parametrize("mix", ["cutmix_images", "cutmix_labels"])
def test_some_views_are_mixed_and_they_differ(mix: Mix) -> None:
    counted = [counted_share(policy_of(mix), int(image), 1) for image in image_set().ids]
    shares = [1.0 if partner == row else share for row, (share, partner) in enumerate(counted)]
    assert min(shares) < 0.7 and max(shares) > 0.8 and len(set(shares)) > 5
    clean, mixed = dataset_of("none"), dataset_of(mix)
    for dataset in (clean, mixed):
        dataset.set_epoch(1)
    changed = (clean.batch(ALL)[0] != mixed.batch(ALL)[0]).any(dim=1).float().mean(dim=(1, 2))
    np.testing.assert_allclose(1 - changed.numpy(), shares, atol=0.06)  # a pasted pixel may happen to be equal


@settings(deadline=None, max_examples=20)
@given(order=st.permutations(range(N)), size=st.integers(1, N), epoch=st.integers(0, 20), mix=st.sampled_from(MIXES))
def test_pairs_do_not_depend_on_batches_or_order(order: list[int], size: int, epoch: int, mix: Mix) -> None:
    dataset = dataset_of(mix)
    dataset.set_epoch(epoch)
    inputs, targets = dataset.batch(ALL)
    for start in range(0, N, size):
        items = np.array(order[start : start + size])
        some_inputs, some_targets = dataset.batch(items)
        torch.testing.assert_close(some_inputs, inputs[items], rtol=0, atol=1e-6)
        torch.testing.assert_close(some_targets, targets[items], rtol=0, atol=1e-6)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("mix", ["none", "cutmix_labels"])
def test_pairs_do_not_depend_on_workers(workers: int, mix: Mix) -> None:
    dataset = dataset_of(mix)
    order = np.random.default_rng(workers).permutation(N).tolist()
    for epoch in (0, 3):  # an iterator after `set_epoch` sees the new epoch in every worker
        dataset.set_epoch(epoch)
        loader = DataLoader(dataset, batch_size=4, sampler=order, num_workers=workers)
        inputs, targets = (torch.cat(pieces) for pieces in zip(*loader, strict=True))
        expected_inputs, expected_targets = dataset.batch(np.array(order))
        torch.testing.assert_close(inputs, expected_inputs, rtol=0, atol=1e-6)
        torch.testing.assert_close(targets, expected_targets, rtol=0, atol=1e-6)


def test_items_lists_and_batches_are_the_same() -> None:
    dataset = dataset_of("cutmix_labels")
    dataset.set_epoch(2)
    assert len(dataset) == N
    items = [4, 0, 11]
    inputs, targets = dataset.batch(np.array(items))
    listed = dataset.__getitems__(items)
    assert [(a.shape, b.shape) for a, b in listed] == [((3, SIZE, SIZE), (len(CLASSES),))] * 3
    for position, item in enumerate(items):
        for pixels, label in (listed[position], dataset[item], dataset[item - N]):
            torch.testing.assert_close(pixels, inputs[position], rtol=0, atol=1e-6)
            torch.testing.assert_close(label, targets[position], rtol=0, atol=1e-6)


@pytest.mark.parametrize("item", [N, -N - 1])
def test_items_outside_the_set_raise_index_errors(item: int) -> None:
    with pytest.raises(IndexError, match=f"^item {item} is out of range for a dataset of {N} items$"):
        dataset_of("none")[item]
    assert len(list(dataset_of("none"))) == N  # plain iteration stops by itself


@pytest.mark.parametrize("mix", MIXES)
def test_stored_labels_are_the_teachers_for_the_pixels_that_students_see(mix: Mix) -> None:
    images = image_set()
    stored = dataset_of(mix)
    online = CondensedDataset(
        images, OnlineLabels([teacher()], N, CPU), policy_of(mix), temperature=TEMPERATURE, size=SIZE
    )
    for epoch in (0, VIEWS - 1):
        stored.set_epoch(epoch)
        online.set_epoch(epoch)
        inputs, targets = stored.batch(ALL)
        seen, said = online.batch(ALL)
        assert torch.equal(inputs, seen)
        torch.testing.assert_close(targets, said, rtol=0, atol=1e-3)  # fp16 logits
        if mix != "cutmix_labels":
            logits = network()(views.normalise(inputs, teacher().mean, teacher().std)).double().numpy()
            np.testing.assert_allclose(said, [softmax(row) for row in logits], atol=1e-5)


@pytest.mark.parametrize("mix", MIXES)
def test_without_a_temperature_targets_are_raw_logits(mix: Mix) -> None:
    """Stored ones as stored, online ones of the pixels students see; `cutmix_labels` mixes the logits by lambda."""
    images = image_set()
    stored = CondensedDataset.from_pack(images, pack_of(images, mix), temperature=None)
    online = CondensedDataset(images, OnlineLabels([teacher()], N, CPU), policy_of(mix), temperature=None)
    logits = logits_of(images, mix).astype(np.float64)
    for dataset in (stored, online):
        dataset.set_epoch(1)
        targets = dataset.batch(ALL)[1]
        assert targets.dtype == torch.float32
        for row in range(N):
            expected = logits[row, 1]
            if mix == "cutmix_labels":
                share, partner = counted_share(policy_of(mix), int(images.ids[row]), 1)
                expected = share * expected + (1 - share) * logits[partner, 1]
            np.testing.assert_allclose(targets[row], expected, atol=1e-5 if dataset is stored else 1e-2)


def test_stored_views_wrap_round_at_their_number_and_others_never() -> None:
    stored = dataset_of("cutmix_labels")
    hard = CondensedDataset(image_set(), HardLabels(image_set().labels, len(CLASSES), CPU), policy_of("none"))
    online = CondensedDataset(image_set(), OnlineLabels([teacher()], N, CPU), policy_of("none"))
    seen = []
    for dataset in (stored, hard, online):
        pixels = {}
        for epoch in (0, 1, VIEWS, VIEWS + 1):
            dataset.set_epoch(epoch)
            pixels[epoch] = dataset.batch(ALL)[0]
        assert not torch.equal(pixels[0], pixels[1])
        seen.append([torch.equal(pixels[0], pixels[VIEWS]), torch.equal(pixels[1], pixels[VIEWS + 1])])
    assert seen == [[True, True], [False, False], [False, False]]


@pytest.mark.parametrize("mix", MIXES)
def test_hard_labels_are_one_hot_and_mixed_by_the_share_of_pixels(mix: Mix) -> None:
    images = image_set()
    dataset = CondensedDataset(images, HardLabels(images.labels, len(CLASSES), CPU), policy_of(mix), temperature=20.0)
    dataset.set_epoch(9)
    inputs, targets = dataset.batch(ALL)
    expected = np.zeros((N, len(CLASSES)))
    for row in range(N):
        share, partner = (1.0, 0) if mix == "none" else counted_share(policy_of(mix), int(images.ids[row]), 9)
        expected[row, images.labels[row]] += share
        expected[row, images.labels[partner]] += 1 - share
        assert torch.equal(
            inputs[row],
            views.render(
                torch.from_numpy(images.images), policy_of(mix), images.ids, np.array([row]), np.array([9]), SIZE
            )[0][0],
        )
    np.testing.assert_allclose(targets, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("kind", "mix"), [case for case in product(CODEC_KINDS, MIXES) if case != ("prune-batch", "cutmix_labels")]
)
def test_every_codec_gives_the_distributions_of_its_decoded_logits(kind: str, mix: Mix) -> None:
    pack = pack_of(image_set(), mix, kind)
    dataset = CondensedDataset.from_pack(image_set(), pack, temperature=TEMPERATURE)
    stored = decoded(pack)
    lossless = kind in ("none", "prune", "prune-batch")
    assert lossless == np.array_equal(np.nan_to_num(stored - logits_of(image_set(), mix)), np.zeros_like(stored))
    for epoch in (0, VIEWS + 2):
        dataset.set_epoch(epoch)
        assert len(dataset) == N
        inputs, targets = dataset.batch(ALL)
        np.testing.assert_allclose(targets.sum(dim=1), 1.0, atol=1e-5)
        assert float(targets.min()) >= 0
        for item in range(0, N, 4):
            row, view = int(dataset.rows[item]), int(dataset.views[item])
            pixels, label = item_by_hand(image_set(), mix, row, view, stored)
            torch.testing.assert_close(inputs[item], pixels, rtol=0, atol=1e-6)
            np.testing.assert_allclose(targets[item], label, atol=1e-5)


@pytest.mark.parametrize("mix", MIXES)
@pytest.mark.parametrize("kind", ["pack", "online", "hard"])
def test_grids_are_the_dataset_of_their_decoded_images(mix: Mix, kind: str) -> None:
    stored, whole = in_grids(image_set()), decoded_by_hand(in_grids(image_set()))
    labels = {
        "pack": lambda: PackLabels(pack_of(whole, mix), CPU),
        "online": lambda: OnlineLabels([teacher()], 4 * N, CPU),
        "hard": lambda: HardLabels(whole.labels, len(CLASSES), CPU),
    }[kind]
    ours, theirs = (
        CondensedDataset(images, labels(), policy_of(mix), temperature=TEMPERATURE) for images in (stored, whole)
    )
    assert len(ours) == 4 * N and ours.size == SIZE
    for epoch in (0, 5):
        ours.set_epoch(epoch)
        theirs.set_epoch(epoch)
        for one, other in zip(ours.batch(np.arange(4 * N)), theirs.batch(np.arange(4 * N)), strict=True):
            assert torch.equal(one, other)
    assert ours.hard(np.arange(4 * N)).tolist() == np.repeat(image_set().labels, 4).tolist()


def test_labels_of_another_number_of_images_are_refused() -> None:
    """Labels of the stored images would label the first decoded ones, and leave out the rest."""
    images = image_set()
    for labels in (
        PackLabels(pack_of(images, "none"), CPU),
        OnlineLabels([teacher()], N, CPU),
        HardLabels(images.labels, len(CLASSES), CPU),
    ):
        with pytest.raises(DataError) as error:
            CondensedDataset(in_grids(images), labels, policy_of("none"))
        assert str(error.value) == (
            "condensed dataset: got labels for 15 images, but there are 60 decoded images; give labels for exactly "
            "these images"
        )


@pytest.mark.parametrize("ipc", [1, 2])
def test_a_smaller_set_has_the_same_views_and_labels_of_its_images(ipc: int) -> None:
    whole, small = image_set(), image_set().prefix(ipc)
    rows = np.flatnonzero(np.isin(whole.ids, small.ids))
    ours = CondensedDataset.from_pack(small, pack_of(small, "none"), temperature=TEMPERATURE)
    theirs = dataset_of("none")
    for epoch in (0, 3):
        ours.set_epoch(epoch)
        theirs.set_epoch(epoch)
        inputs, targets = ours.batch(np.arange(len(small)))
        whole_inputs, whole_targets = theirs.batch(rows)
        torch.testing.assert_close(inputs, whole_inputs, rtol=0, atol=1e-6)
        torch.testing.assert_close(targets, whole_targets, rtol=0, atol=1e-3)  # convolutions of another batch, in fp16


def test_views_may_have_another_size_than_the_images() -> None:
    images, labels = image_set(), PackLabels(pack_of(image_set(), "cutmix_labels"), CPU)
    large = CondensedDataset(images, labels, policy_of("cutmix_labels"), size=12)
    inputs, _ = large.batch(ALL)
    assert CondensedDataset(images, labels, policy_of("cutmix_labels")).size == SIZE
    look = views.render(torch.from_numpy(images.images), large.policy, images.ids, ALL, np.zeros(N, dtype=np.int64), 12)
    assert torch.equal(inputs, look[0])


@pytest.mark.parametrize("siamese_of", ["color_crop_flip_scale_rotate", "dsa:color_crop_cutout_flip_scale_rotate"])
def test_students_with_hard_labels_see_what_a_teacher_would_and_labels_are_mixed_by_area(siamese_of: str) -> None:
    n, policy = 12, ViewPolicy(1.0, 1.0, 0.0, "cutmix_labels", 9, siamese=siamese_of, mix_share=0.5)
    images, ids = random_images(n, 8, 8), np.arange(n) * 3
    held = ImageSet(images.numpy(), np.arange(n) % 4, ids, ("a", "b", "c", "d"))
    dataset = CondensedDataset(held, HardLabels(held.labels, 4, torch.device("cpu")), policy)
    dataset.set_epoch(2)
    inputs, targets = dataset.batch(np.arange(n))
    seen, drawn = views.render(images, policy, ids, np.arange(n), column(n, 2), 8)
    torch.testing.assert_close(inputs, seen, rtol=0, atol=1e-6)
    kept = drawn.unmixed_share(8)
    assert 0 < (kept < 1).sum() < n
    for j in range(n):
        wanted = np.zeros(4)
        wanted[held.labels[j]] += kept[j]
        wanted[held.labels[drawn.partner[j]]] += 1 - kept[j]
        np.testing.assert_allclose(targets[j].numpy(), wanted, atol=1e-6)


# --- what a user may get wrong, and what workers hear ---


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan"), float("inf")])
def test_a_temperature_that_makes_no_distribution_is_refused(temperature: float) -> None:
    images = image_set()
    pack = pack_of(images, "none")
    with pytest.raises(DataError, match=r"^temperature is .*; give a finite number above 0, such as 1\.0$"):
        CondensedDataset.from_pack(images, pack, temperature=temperature)


@pytest.mark.parametrize("size", [0, -3, 8.5, 2**40])
def test_a_size_without_pixels_is_refused(size: float) -> None:
    images = image_set()
    pack = pack_of(images, "none")
    with pytest.raises(DataError, match=f"^condensed dataset: size is {size} pixels; give 1 or more"):
        CondensedDataset(images, PackLabels(pack, torch.device("cpu")), pack.policy, size=size)  # type: ignore[arg-type]


@pytest.mark.parametrize("epoch", [1.5, -1, "2", True, None])
def test_what_is_no_epoch_is_refused(epoch: object) -> None:
    dataset = CondensedDataset.from_pack(image_set(), pack_of(image_set(), "none"))
    dataset.set_epoch(0)
    with pytest.raises(DataError, match=r"^condensed dataset: epoch is .*; give a whole number of 0 or more$"):
        dataset.set_epoch(epoch)  # type: ignore[arg-type]  # the wrong type is the point
    assert dataset.epoch == 0


@pytest.mark.parametrize("items", [[N], [0, -N - 1]])
def test_a_batch_of_items_that_do_not_exist_is_an_index_error(items: list[int]) -> None:
    dataset = CondensedDataset.from_pack(image_set(), pack_of(image_set(), "none"))
    with pytest.raises(IndexError, match=f"^item {items[-1]} is out of range for a dataset of {N} items$"):
        dataset.batch(np.array(items))


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_workers_that_live_on_hear_of_a_new_epoch(context: str) -> None:
    dataset = CondensedDataset.from_pack(image_set(), pack_of(image_set(), "none"))
    loader = DataLoader(
        dataset, batch_size=len(dataset), num_workers=1, persistent_workers=True, multiprocessing_context=context
    )
    for epoch in (0, 1, 2, 1):
        dataset.set_epoch(epoch)
        expected = dataset.batch(np.arange(len(dataset)))
        inputs, targets = next(iter(loader))
        assert torch.equal(inputs, expected[0]) and torch.equal(targets, expected[1]), f"epoch {epoch}"


def whitened(policy: ViewPolicy, labels: Labels | None = None, size: int = SIZE) -> CondensedDataset:
    own = image_set()
    other = np.random.default_rng(1).integers(0, 256, (40, size, size, 3), dtype=np.uint8)
    transform = fit(torch.from_numpy(other), 0.1).stored()
    return CondensedDataset(own, labels or HardLabels(own.labels, len(CLASSES), CPU), policy, whitening=transform)


def test_views_of_whitened_images_are_made_in_whitened_space() -> None:
    """Whole images are whitened; then they are cropped, and augmented as normalised images are."""
    plain = {"scale_min": 1.0, "ratio_min": 1.0, "ratio_max": 1.0, "flip": 0.0, "seed": 3}
    dataset = whitened(ViewPolicy(**plain))
    assert dataset.whitening is not None
    pixels = torch.from_numpy(image_set().images).permute(0, 3, 1, 2).float() / 255
    shown = Whitener.of(dataset.whitening, CPU)(pixels)
    torch.testing.assert_close(dataset.batch(ALL)[0], shown, rtol=0, atol=1e-4)
    policy = ViewPolicy(**plain, siamese="color_crop_cutout_flip_scale_rotate")
    drawn = views.draw(policy, image_set().ids, np.zeros(N, dtype=np.int64), N)
    assert drawn.after is not None
    wanted = siamese.apply(shown, drawn.after)
    torch.testing.assert_close(whitened(policy).batch(ALL)[0], wanted, rtol=0, atol=1e-4)
    mixed = whitened(ViewPolicy(scale_min=0.3, mix="cutmix_images", seed=7))
    in_pixels, drawn = views.render(
        shown.permute(0, 2, 3, 1),
        ViewPolicy(scale_min=0.3, mix="cutmix_images", seed=7),
        image_set().ids,
        ALL,
        0 * ALL,
        SIZE,
    )
    torch.testing.assert_close(mixed.batch(ALL)[0], in_pixels, rtol=0, atol=1e-4)


def test_what_needs_plain_pixels_is_refused_on_whitened_images() -> None:
    with pytest.raises(DataError, match="whitened images cannot be labelled by a teacher"):
        whitened(ViewPolicy(), OnlineLabels([teacher()], N, CPU))
    with pytest.raises(DataError, match="RandAugment is not possible on whitened images; set randaugment to 0"):
        whitened(ViewPolicy(randaugment=1))
    with pytest.raises(DataError, match="the transform is for images of 4 pixels, but these have 8"):
        whitened(ViewPolicy(), size=4)
