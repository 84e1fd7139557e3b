"""Sources of targets: decoded packs, online teachers and one-hot rows, and the errors of each."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from condensed import (
    ALL,
    CLASSES,
    CPU,
    SIZE,
    TEMPERATURE,
    VIEWS,
    N,
    decoded,
    decoded_by_hand,
    image_set,
    in_grids,
    logits_of,
    pack_of,
    policy_of,
    softmax,
    teacher,
)
from releases import parts

from dcpipe import networks, views
from dcpipe.compression import CODECS
from dcpipe.dataset import CondensedDataset
from dcpipe.dataset.targets import SHIFTED, HardLabels, OnlineLabels, PackLabels, PrefixLabels, rows_of
from dcpipe.types import DataError, LabelPack, LabelShape, Teacher


def test_teachers_online_are_averaged_before_the_softmax() -> None:
    other = Teacher(
        teacher().network,
        {name: -0.5 * value for name, value in teacher().weights.items()},
        CLASSES,
        (0.1, 0.2, 0.3),
        (0.5, 0.5, 0.5),
        SIZE,
        {},
    )
    labels = OnlineLabels([teacher(), other], N, CPU)
    inputs, targets = CondensedDataset(image_set(), labels, policy_of("none"), temperature=TEMPERATURE).batch(ALL)
    each = [
        networks.from_teacher(noun, CPU)(views.normalise(inputs, noun.mean, noun.std)).double().numpy()
        for noun in (teacher(), other)
    ]
    np.testing.assert_allclose(targets, [softmax(row) for row in (each[0] + each[1]) / 2], atol=1e-5)
    equal = OnlineLabels([teacher(), other], N, CPU, "equal_norms")
    norms = [float(np.sqrt((logits**2).sum())) for logits in each]
    mean = sum(logits * np.mean(norms) / norm for logits, norm in zip(each, norms, strict=True)) / 2
    np.testing.assert_allclose(equal.targets({}, inputs, None), mean, atol=1e-5)
    assert np.abs(equal.targets({}, inputs, None).numpy() - (each[0] + each[1]) / 2).max() > 0.01


def test_logits_that_labels_do_not_have_are_refused() -> None:
    images = image_set()
    hard = CondensedDataset(images, HardLabels(images.labels, len(CLASSES), CPU), policy_of("none"), temperature=None)
    with pytest.raises(DataError) as error:
        hard.batch(ALL)
    assert str(error.value) == "hard labels have no logits; choose a loss on distributions, such as kl"
    shape = LabelShape(N, VIEWS, len(CLASSES))
    for name in ("topk", "zipf"):
        codec = CODECS[name].plan(shape, shape.reference_bytes)
        drawn = views.draw(policy_of("none"), np.repeat(images.ids, VIEWS), np.tile(np.arange(VIEWS), N), N)
        logits = torch.from_numpy(logits_of(images, "none")).float()
        arrays = dict(codec.encode(logits, ALL, shape, drawn))
        pack = LabelPack(name, codec.settings, arrays, shape, policy_of("none"), images.ids)
        assert CondensedDataset.from_pack(images, pack).batch(ALL)[1].shape == (N, len(CLASSES))
        with pytest.raises(DataError) as error:
            CondensedDataset.from_pack(images, pack, temperature=None).batch(ALL)
        assert str(error.value) == (
            f"codec {name!r} stores probabilities, but the loss needs raw logits; choose another codec, or a loss on "
            "distributions such as kl"
        )


@pytest.mark.parametrize("name", sorted(CODECS))
def test_codecs_without_logits_are_listed(name: str) -> None:
    """Logits far from 0 are decoded to similar ones, or only up to softmax: shifted, or minus infinity."""
    images, shape = image_set(), LabelShape(N, VIEWS, len(CLASSES))
    ratio, options = {"none": (1, {}), "prune_topk": (3, {"prune": 1.5})}.get(name, (1.5, {}))
    codec = CODECS[name].plan(shape, int(shape.reference_bytes / ratio), **options)
    drawn = views.draw(policy_of("none"), np.repeat(images.ids, VIEWS), np.tile(np.arange(VIEWS), N), N)
    logits = torch.from_numpy(logits_of(images, "none")).float() + 100.0
    arrays = dict(codec.encode(logits, ALL, shape, drawn))
    pack = LabelPack(name, codec.settings, arrays, shape, policy_of("none"), images.ids)
    found = decoded(pack)
    found = found[~np.isnan(found)]  # NaN marks views that the codec dropped
    assert bool((found < 50).any()) == (name in SHIFTED)


def test_labels_of_single_batches_cannot_be_mixed_with_a_partners() -> None:
    pack = pack_of(image_set(), "cutmix_labels", "prune-batch")
    sentence = (
        r"^codec 'prune' stores view \d of only some images, but mix 'cutmix_labels' needs its labels for any partner; "
        r"store whole views \(granularity epoch\) or choose another mix$"
    )
    with pytest.raises(DataError, match=sentence):
        PackLabels(pack, CPU)


def test_views_beyond_k_wrap_or_are_refused() -> None:
    some = parts()
    views_stored = some.pack.shape.views
    wrapping = CondensedDataset.from_pack(some.images, some.pack)
    strict = CondensedDataset.from_pack(some.images, some.pack, beyond="refuse")
    strict.set_epoch(views_stored - 1)
    wrapping.set_epoch(views_stored + 1)
    assert set(wrapping.views.tolist()) == {1}
    with pytest.raises(DataError) as error:
        strict.set_epoch(views_stored)
    assert str(error.value) == (
        f"epoch {views_stored} needs views beyond the {views_stored} that codec {some.pack.codec!r} has stored; "
        f"train for at most {views_stored} epochs, or use beyond='wrap'"
    )
    with pytest.raises(DataError, match="beyond is 'stop'; choose one of wrap, refuse"):
        CondensedDataset.from_pack(some.images, some.pack, beyond="stop")  # type: ignore[arg-type]


def test_every_image_has_one_item_per_epoch_in_the_view_of_that_epoch() -> None:
    """Stored views repeat after K epochs, those of online teachers and of hard labels never do."""
    pack = PackLabels(pack_of(image_set(), "none"), CPU)
    online = OnlineLabels([teacher()], N, CPU)
    hard = HardLabels(image_set().labels, len(CLASSES), CPU)
    for epoch in (0, 1, VIEWS, 3 * VIEWS + 2):
        for labels, number in ((pack, epoch % VIEWS), (online, epoch), (hard, epoch)):
            rows, numbers = labels.plan(epoch)
            assert labels.n_images == N and rows.tolist() == list(range(N))
            assert numbers.dtype == np.int64 and numbers.tolist() == [number] * N


def test_prefix_labels_are_those_of_the_pack() -> None:
    whole, kept = PackLabels(pack_of(image_set(), "none"), CPU), np.array([1, 4, 11])
    part = PrefixLabels(whole, kept)
    assert part.n_images == 3
    rows, numbers = np.array([2, 0, 1, 2]), np.array([0, 5, 3, 1])
    drawn = views.draw(policy_of("none"), image_set().ids[kept[rows]], numbers, N)
    stored, nothing = logits_of(image_set(), "none").astype(np.float32), torch.empty(0)
    located = {name: torch.from_numpy(array) for name, array in part.locate(rows, numbers, drawn).items()}
    raw = part.targets(located, nothing, None)
    np.testing.assert_array_equal(raw, stored[kept[rows], numbers])
    soft = part.targets(located, nothing, TEMPERATURE)
    np.testing.assert_allclose(soft, [softmax(row) for row in raw.double().numpy()], atol=1e-6)


@pytest.mark.parametrize("epoch", [0, 3, VIEWS + 1])
@pytest.mark.parametrize("kind", ["none", "prune-batch"])
def test_a_plan_for_some_images_is_the_packs_own_without_the_others(kind: str, epoch: int) -> None:
    """`prune` by batches shows an image several times in an epoch, or not at all."""
    whole, kept = PackLabels(pack_of(image_set(), "none", kind), CPU), np.array([0, 2, 3, 7, 12])
    pairs = list(zip(*whole.plan(epoch), strict=True))
    found = list(zip(*PrefixLabels(whole, kept).plan(epoch), strict=True))
    assert found == [(kept.tolist().index(row), view) for row, view in pairs if row in kept]
    assert 0 < len(found) < len(pairs)


@pytest.mark.parametrize("ipc", [1, 2, 3])
def test_rows_of_a_smaller_set_are_those_that_label_its_decoded_images(ipc: int) -> None:
    whole = in_grids(image_set())
    pack, small = pack_of(decoded_by_hand(whole), "none"), whole.prefix(ipc)
    found = rows_of(pack, small)
    assert pack.ids[found].tolist() == small.decoded_ids.tolist()
    assert len(found) == 4 * ipc * len(CLASSES)


def test_prefix_labels_follow_the_packs_own_plan() -> None:
    """A codec may replay rows in any number and order: those left out vanish, the others keep order and view."""
    whole = PackLabels(pack_of(image_set(), "none"), CPU)
    whole.plan = lambda epoch: (np.array([7, 2, 2, 11, 0, 7]), np.array([4, 3, 1, 0, 2, 0]))  # type: ignore[method-assign]
    rows, stored = PrefixLabels(whole, np.array([0, 2, 7])).plan(0)
    np.testing.assert_array_equal(rows, [2, 1, 1, 0, 2])
    np.testing.assert_array_equal(stored, [4, 3, 1, 2, 0])
