"""Views: drawn as stated, for ever, whatever else is in the batch."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms import v2
from view_cases import column, random_images

from dcpipe import views
from dcpipe.dataset import CondensedDataset
from dcpipe.dataset.targets import HardLabels
from dcpipe.random import permutation, philox, uniform
from dcpipe.types import DataError, ImageSet, KeptViews, ViewPolicy
from dcpipe.views import Views, siamese

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "views.json").read_text(encoding="utf-8"))
WORD = st.integers(0, 2**63 - 1)


# --- the generator ---


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 2**64 - 1), view=WORD, image=WORD, draw=st.integers(0, 12))
def test_words_are_numpys_philox(seed: int, view: int, image: int, draw: int) -> None:
    # NumPy adds one to its 256-bit counter before use: start one below (draw, 0, image, 0), with borrow.
    counter = (draw + (image << 128) - 1) % 2**256
    limbs = [(counter >> (64 * limb)) % 2**64 for limb in range(4)]
    reference = np.random.Philox(key=np.array([seed, view], np.uint64), counter=np.array(limbs, np.uint64))
    assert philox(seed, view, draw, image).tolist() == reference.random_raw(4).tolist()


def test_words_broadcast_over_views_and_images() -> None:
    table = philox(5, np.arange(3)[:, None], 2, np.arange(4))
    assert table.shape == (3, 4, 4)
    assert table[2, 1].tolist() == philox(5, 2, 2, 1).tolist()


def test_uniform_is_the_top_53_bits() -> None:
    words = np.array([0, 2**11 - 1, 2**11, 2**63, 2**64 - 1], dtype=np.uint64)
    assert uniform(words).tolist() == [0.0, 0.0, 2.0**-53, 0.5, 1 - 2.0**-53]


@settings(deadline=None, max_examples=40)
@given(seed=WORD, stream=WORD, n=st.integers(0, 300))
def test_permutation_is_a_bijection(seed: int, stream: int, n: int) -> None:
    order = permutation(seed, stream, n)
    assert order.dtype == np.int64
    assert sorted(order.tolist()) == list(range(n))


def test_permutations_differ_by_seed_and_stream() -> None:
    orders = [tuple(permutation(seed, stream, 20).tolist()) for seed in range(5) for stream in range(5)]
    assert len(set(orders)) == 25
    assert tuple(range(20)) not in orders


# --- golden values ---


def test_golden_words_and_orders() -> None:
    words = philox(7, np.array(GOLDEN["views"]), 3, np.array(GOLDEN["ids"]))
    assert [[int(word) for word in row] for row in words] == GOLDEN["words"]
    for name, order in GOLDEN["permutation"].items():
        seed, stream = map(int, name.split())
        assert permutation(seed, stream, 12).tolist() == order


@pytest.mark.parametrize("name", GOLDEN["policies"])
def test_golden_draws(name: str) -> None:
    golden = GOLDEN["policies"][name]
    drawn = views.draw(
        ViewPolicy(**golden["policy"]), np.array(GOLDEN["ids"]), np.array(GOLDEN["views"]), GOLDEN["n_images"]
    )
    assert drawn.flip.tolist() == golden["flip"]
    assert drawn.partner.tolist() == golden["partner"]
    assert drawn.pixels(32).tolist() == golden["pixels at 32"]
    # exp and log may differ in the last bit between processors
    np.testing.assert_allclose(drawn.box, golden["box"], rtol=0, atol=1e-14)
    np.testing.assert_allclose(drawn.mix_box, golden["mix_box"], rtol=0, atol=1e-14)


# --- the law of the draws ---


@st.composite
def policies(draw: st.DrawFn) -> ViewPolicy:
    low = draw(st.floats(0.01, 1.0))
    ratio = draw(st.floats(0.2, 2.0))
    return ViewPolicy(
        scale_min=low,
        scale_max=draw(st.floats(low, 1.0)),
        flip=draw(st.floats(0, 1)),
        mix=draw(st.sampled_from(["none", "cutmix_images", "cutmix_labels"])),
        seed=draw(st.integers(-(2**63), 2**63)),
        ratio_min=ratio,
        ratio_max=ratio * draw(st.floats(1.0, 4.0)),
    )


@settings(deadline=None, max_examples=100)
@given(policy=policies(), view=WORD, n=st.integers(1, 40))
def test_every_draw_is_legal(policy: ViewPolicy, view: int, n: int) -> None:
    drawn = views.draw(policy, np.arange(n), column(n, view), n)
    left, top, width, height = drawn.box.T
    assert (drawn.box[:, :2] >= 0).all() and (drawn.box[:, 2:] > 0).all()
    assert (left + width <= 1 + 1e-12).all() and (top + height <= 1 + 1e-12).all()
    tried = ~((np.maximum(width, height) == 1) & (left + width / 2 == 0.5) & (top + height / 2 == 0.5))
    area = (width * height)[tried]
    assert (area >= policy.scale_min - 1e-12).all() and (area <= policy.scale_max + 1e-12).all()
    aspect = width / height
    assert (aspect >= policy.ratio_min * (1 - 1e-12)).all() and (aspect <= policy.ratio_max * (1 + 1e-12)).all()
    assert (drawn.partner >= 0).all() and (drawn.partner < n).all()
    x0, y0, x1, y1 = drawn.mix_box.T
    assert (x0 <= x1).all() and (y0 <= y1).all()
    assert (drawn.mix_box >= 0).all() and (drawn.mix_box <= 1).all()
    assert (drawn.kept(16) >= 0).all() and (drawn.kept(16) <= 1).all()
    if policy.mix == "none":
        assert (drawn.kept(16) == 1).all()


def distance(first: np.ndarray, second: np.ndarray) -> float:
    """The two-sample Kolmogorov-Smirnov statistic."""
    both = np.sort(np.concatenate([first, second]))
    cumulative = [np.searchsorted(np.sort(sample), both, side="right") / len(sample) for sample in (first, second)]
    return float(np.abs(cumulative[0] - cumulative[1]).max())


@pytest.mark.parametrize("scale", [(0.08, 1.0), (0.7, 1.0)])
def test_boxes_follow_torchvisions_law(scale: tuple[float, float]) -> None:
    n, side = 3000, 100_000  # so large that torchvision's rounding to pixels is not seen
    torch.manual_seed(0)
    theirs_of = v2.RandomResizedCrop(8, scale=scale)
    image = torch.empty((3, side, side), device="meta")
    rows = [theirs_of.make_params([image]) for _ in range(n)]
    theirs = np.array([[row["left"], row["top"], row["width"], row["height"]] for row in rows]) / side
    ours = views.draw(ViewPolicy(scale_min=scale[0], scale_max=scale[1]), np.arange(n), column(n), n).box
    bound = np.sqrt(np.log(2 / 1e-5) / n)  # false alarm: 1e-5 a comparison
    for statistic in (
        lambda box: box[:, 2] * box[:, 3],
        lambda box: box[:, 2] / box[:, 3],
        lambda box: box[:, 0],
        lambda box: box[:, 1],
        lambda box: box[:, 0] + box[:, 3],
    ):
        assert distance(statistic(ours), statistic(theirs)) < bound
    spread = (theirs[:, 2] * theirs[:, 3]).std() * np.sqrt(2 / n)
    assert abs((ours[:, 2] * ours[:, 3]).mean() - (theirs[:, 2] * theirs[:, 3]).mean()) < 5 * spread


def test_flips_partners_and_lambda_have_their_frequencies() -> None:
    n = 20_000
    drawn = views.draw(ViewPolicy(flip=0.3, mix="cutmix_images"), np.arange(n), column(n, 4), 10)
    assert abs(drawn.flip.mean() - 0.3) < 5 * np.sqrt(0.21 / n)
    counts = np.bincount(drawn.partner, minlength=10)
    assert np.abs(counts - n / 10).max() < 5 * np.sqrt(n * 0.09)
    # Unclipped boxes (wholly inside) have area 1 - lambda; all have a uniform centre, so their edges balance.
    x0, y0, x1, y1 = drawn.mix_box.T
    assert abs((x0 + x1).mean() - 1) < 0.02 and abs((y0 + y1).mean() - 1) < 0.02
    # E[clipped side | side s] = s - s^2/4 (Yun et al.'s box); sides share s with s^2 = 1 - lambda ~ U(0, 1).
    s = np.sqrt((np.arange(10_000) + 0.5) / 10_000)
    assert abs(((x1 - x0) * (y1 - y0)).mean() - np.mean((s - s**2 / 4) ** 2)) < 0.01


def test_where_no_attempt_fits_the_box_is_the_largest_centred_one() -> None:
    wide = views.draw(ViewPolicy(scale_min=1.0, ratio_min=2.0, ratio_max=4.0), np.arange(5), column(5), 5)
    tall = views.draw(ViewPolicy(scale_min=1.0, ratio_min=0.25, ratio_max=0.5), np.arange(5), column(5), 5)
    square = views.draw(ViewPolicy(scale_min=1.0, ratio_min=0.99, ratio_max=1.01), np.arange(5), column(5), 5)
    assert wide.box.tolist() == [[0.0, 0.25, 1.0, 0.5]] * 5
    assert tall.box.tolist() == [[0.25, 0.0, 0.5, 1.0]] * 5
    assert square.box.tolist() == [[0.0, 0.0, 1.0, 1.0]] * 5


@pytest.mark.parametrize("change", [{"seed": 1}, {"view": 1}, {"image": 1}])
def test_seed_view_and_image_each_change_everything_drawn(change: dict[str, int]) -> None:
    def drawn(seed: int = 0, view: int = 0, image: int = 0) -> Views:
        n = 64
        policy = ViewPolicy(mix="cutmix_images", seed=seed)
        return views.draw(policy, np.arange(n) + 1000 * image, column(n, view), 10**6)

    first, second = drawn(), drawn(**change)
    assert (first.box != second.box).all(axis=1).sum() >= 60  # full boxes may coincide
    assert (first.flip != second.flip).any()
    assert (first.partner != second.partner).all()
    assert (first.mix_box != second.mix_box).any(axis=1).all()


# --- views that are mixed at times, and changed after the crop ---


def test_a_share_of_views_is_mixed_and_nothing_else_changes() -> None:
    n = 20_000
    every, half, none = (
        views.draw(ViewPolicy(mix="cutmix_labels", mix_share=share, seed=3), np.arange(n), column(n, 5), n)
        for share in (1.0, 0.5, 0.0)
    )
    mixed = half.mix_box.any(axis=1)
    assert abs(mixed.mean() - 0.5) < 5 * np.sqrt(0.25 / n)
    np.testing.assert_array_equal(half.mix_box[mixed], every.mix_box[mixed])
    assert (half.kept(32)[~mixed] == 1).all() and (none.kept(32) == 1).all() and not none.mix_box.any()
    assert every.mix_box.any(axis=1).all()
    for name in ("box", "flip", "partner"):
        np.testing.assert_array_equal(getattr(half, name), getattr(every, name))
    again = views.draw(ViewPolicy(mix="cutmix_labels", mix_share=0.5, seed=3), np.arange(n), column(n, 6), n)
    both = (mixed & again.mix_box.any(axis=1)).mean()  # whether view 5 is mixed says nothing of view 6
    assert abs(both - 0.25) < 5 * np.sqrt(0.1875 / n)
    # nor does the share say anything of the box: lambda is as uniform where views are mixed
    spread = np.sqrt(1 / 12)
    sides = (every.kept(10**6)[mixed].mean(), every.kept(10**6)[~mixed].mean())
    assert abs(sides[0] - sides[1]) < 5 * spread * np.sqrt(4 / n)


SIAMESE = ViewPolicy(scale_min=0.5, siamese="color_crop_flip_scale_rotate", mix="cutmix_images", seed=4)


def test_siamese_views_are_plain_ones_augmented() -> None:
    ids, numbers = np.array([3, 1, 4, 15, 92]), np.array([6, 5, 3, 5, 8])
    images, plain = random_images(5, 10, 10), replace(SIAMESE, siamese="")
    drawn, before = (views.draw(policy, ids, numbers, 5) for policy in (SIAMESE, plain))
    for name in ("box", "flip", "partner", "mix_box"):
        np.testing.assert_array_equal(getattr(drawn, name), getattr(before, name))
    wanted = siamese.draw(SIAMESE.siamese, lambda d: uniform(philox(4, numbers, d, ids)))
    assert before.after is None and drawn.after is not None
    np.testing.assert_array_equal(drawn.after.numbers, wanted.numbers)
    np.testing.assert_array_equal(drawn.after.runs, wanted.runs)
    seen = views.crop(images, drawn, 8)
    assert torch.equal(seen, siamese.on_pixels(views.crop(images, before, 8), wanted))
    assert (seen != views.crop(images, before, 8)).flatten(1).any(1).all()
    for index in (slice(1, 4), np.array([4, 0]), drawn.flip):
        torch.testing.assert_close(views.crop(images[index], drawn[index], 8), seen[index], rtol=0, atol=1e-6)


def test_siamese_views_do_not_depend_on_their_batch() -> None:
    ids = np.array([4, 8, 15, 16, 23, 42])
    images, rows, numbers = random_images(6, 8, 8), np.arange(6), np.array([7, 7, 7, 0, 1, 2])
    whole, _ = views.look(images, SIAMESE, ids, rows, numbers, 8)
    for j in range(6):
        one, _ = views.look(images, SIAMESE, ids, rows[j : j + 1], numbers[j : j + 1], 8)
        torch.testing.assert_close(one[0], whole[j], rtol=0, atol=1e-6)
    other, _ = views.look(images, replace(SIAMESE, seed=5), ids, rows, numbers, 8)
    assert (other != whole).flatten(1).any(1).all()
    empty, _ = views.look(images, SIAMESE, ids, rows[:0], numbers[:0], 8)
    assert empty.shape == (0, 3, 8, 8)


def test_a_pasted_image_was_augmented_by_itself() -> None:
    ids, rows, numbers = np.array([4, 8, 15, 16]), np.array([2, 0, 1, 3]), column(4, 6)
    images = random_images(4, 8, 8)
    mixed, drawn = views.look(images, SIAMESE, ids, rows, numbers, 8)
    other = views.draw(SIAMESE, ids[drawn.partner], numbers, 4)
    for j, (left, top, right, bottom) in enumerate(drawn.pixels(8)):
        wanted = views.crop(images[rows[j : j + 1]], drawn[j : j + 1], 8)[0]
        pasted = views.crop(images[drawn.partner[j : j + 1]], other[j : j + 1], 8)[0]
        wanted[:, top:bottom, left:right] = pasted[:, top:bottom, left:right]
        torch.testing.assert_close(mixed[j], wanted, rtol=0, atol=1e-6)


@pytest.mark.parametrize("siamese_of", ["color_crop_flip_scale_rotate", "dsa:color_crop_cutout_flip_scale_rotate"])
def test_students_with_hard_labels_see_what_a_teacher_would_and_labels_are_mixed_by_area(siamese_of: str) -> None:
    n, policy = 12, ViewPolicy(1.0, 1.0, 0.0, "cutmix_labels", 9, siamese=siamese_of, mix_share=0.5)
    images, ids = random_images(n, 8, 8), np.arange(n) * 3
    held = ImageSet(images.numpy(), np.arange(n) % 4, ids, ("a", "b", "c", "d"))
    dataset = CondensedDataset(held, HardLabels(held.labels, 4, torch.device("cpu")), policy)
    dataset.set_epoch(2)
    inputs, targets = dataset.batch(np.arange(n))
    seen, drawn = views.look(images, policy, ids, np.arange(n), column(n, 2), 8)
    torch.testing.assert_close(inputs, seen, rtol=0, atol=1e-6)
    kept = drawn.kept(8)
    assert 0 < (kept < 1).sum() < n
    for j in range(n):
        wanted = np.zeros(4)
        wanted[held.labels[j]] += kept[j]
        wanted[held.labels[drawn.partner[j]]] += 1 - kept[j]
        np.testing.assert_allclose(targets[j].numpy(), wanted, atol=1e-6)


# --- kept views ---


def kept_views(n: int = 4, k: int = 3, size: int = 8, mix: str = "cutmix_images", seed: int = 0) -> KeptViews:
    source = np.random.default_rng(seed)
    pixel = source.integers(1, size + 1, (2, n, k, 2))
    corner = (source.random((2, n, k, 2)) * (size + 1 - pixel)).astype(int)
    box, partner_box = (np.concatenate(pair, axis=-1) / size for pair in zip(corner, pixel, strict=True))
    arrays = {"box": box.astype(np.float32), "flip": source.integers(0, 2, (n, k)).astype(np.uint8)}
    if mix != "none":
        edges = np.sort(source.integers(0, size + 1, (2, n, k, 2)), axis=0)
        arrays |= {
            "partner": source.integers(0, n, (n, k)).astype(np.int32),
            "mix_box": np.concatenate([edges[0], edges[1]], axis=-1).astype(np.uint16),
            "partner_box": partner_box.astype(np.float32),
            "partner_flip": source.integers(0, 2, (n, k)).astype(np.uint8),
        }
    return KeptViews(mix, size, arrays)  # type: ignore[arg-type]


def view_by_hand(images: torch.Tensor, box: np.ndarray, flip: bool, size: int) -> torch.Tensor:
    """Cut the piece out, enlarge it, turn it."""
    left, top, width, height = (round(float(edge) * images.shape[1]) for edge in box)
    piece = images[None, top : top + height, left : left + width].permute(0, 3, 1, 2).float() / 255
    view = torch.nn.functional.interpolate(piece, (size, size), mode="bilinear", align_corners=False)[0]
    return torch.flip(view, [2]) if flip else view


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 1000), mix=st.sampled_from(["none", "cutmix_images"]), number=st.integers(0, 8))
def test_kept_views_are_pieces_cut_out_enlarged_and_pasted(seed: int, mix: str, number: int) -> None:
    law, images = kept_views(mix=mix, seed=seed), random_images(4, 8, 8, seed)
    rows = np.array([2, 0, 3, 2])
    found, _ = views.look(images, law, np.array([9, 5, 7, 1]), rows, np.full(4, number), 8)
    at = law.arrays
    for place, row in enumerate(rows):
        k = number % 3
        wanted = view_by_hand(images[row], at["box"][row, k], at["flip"][row, k], 8)
        if mix != "none":
            partner = images[at["partner"][row, k]]
            other = view_by_hand(partner, at["partner_box"][row, k], at["partner_flip"][row, k], 8)
            left, top, right, bottom = at["mix_box"][row, k]
            wanted[:, top:bottom, left:right] = other[:, top:bottom, left:right]
        torch.testing.assert_close(found[place], wanted, rtol=0, atol=2e-6)


def test_seeded_views_are_those_drawn() -> None:
    policy, ids = ViewPolicy(mix="cutmix_images", seed=3), np.array([4, 8, 15])
    rows, numbers = np.array([2, 0]), np.array([5, 1])
    found = views.views_of(policy, ids)
    own = found.own(rows, numbers)
    wanted = views.draw(policy, ids[rows], numbers, 3)
    for name in ("box", "flip", "partner", "mix_box"):
        np.testing.assert_array_equal(getattr(own, name), getattr(wanted, name))
    theirs = found.partners(rows, numbers, own)
    np.testing.assert_array_equal(theirs.box, views.draw(policy, ids[wanted.partner], numbers, 3).box)
    assert not own.inside


def test_kept_views_are_checked() -> None:
    law = kept_views()
    for name, value, sentence in (
        ("partner", 4, "kept views: a partner is outside 0..3"),
        ("mix_box", 9, "kept views: a pasted box leaves the view of 8 pixels"),
        ("box", np.nan, "kept views: box leaves the image; get the views again"),
        ("partner_box", 0.9, "kept views: partner_box leaves the image; get the views again"),
    ):
        changed = law.arrays[name].copy()
        changed[1] = value
        with pytest.raises(DataError) as error:
            KeptViews(law.mix, law.size, {**law.arrays, name: changed})
        assert str(error.value) == sentence
    with pytest.raises(DataError, match=r"^kept views: arrays are \{.*\}, expected \{.*\}; get the views again$"):
        KeptViews("none", 8, law.arrays)
    clean = kept_views(mix="none")
    assert clean.rows(np.array([3, 1])).arrays["flip"].tolist() == clean.arrays["flip"][[3, 1]].tolist()
    assert law.labelling is law and law.n_bytes == 4 * 3 * 46
