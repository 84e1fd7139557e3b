"""Parameters of views: drawn as documented, and never changing."""

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
from view_cases import SIAMESE, column, random_images

from dcpipe import views
from dcpipe.random import philox, uniform
from dcpipe.types import ViewPolicy
from dcpipe.views import Views, siamese

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "views.json").read_text(encoding="utf-8"))
WORD = st.integers(0, 2**63 - 1)


# --- golden values ---


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


# --- the distribution of the draws ---


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
def test_every_draw_is_valid(policy: ViewPolicy, view: int, n: int) -> None:
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
    assert (drawn.unmixed_share(16) >= 0).all() and (drawn.unmixed_share(16) <= 1).all()
    if policy.mix == "none":
        assert (drawn.unmixed_share(16) == 1).all()


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
    bound = np.sqrt(np.log(2 / 1e-5) / n)  # probability of a false alarm: 1e-5 per comparison
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
    assert (
        (half.unmixed_share(32)[~mixed] == 1).all() and (none.unmixed_share(32) == 1).all() and not none.mix_box.any()
    )
    assert every.mix_box.any(axis=1).all()
    for name in ("box", "flip", "partner"):
        np.testing.assert_array_equal(getattr(half, name), getattr(every, name))
    again = views.draw(ViewPolicy(mix="cutmix_labels", mix_share=0.5, seed=3), np.arange(n), column(n, 6), n)
    both = (mixed & again.mix_box.any(axis=1)).mean()  # whether view 5 is mixed says nothing of view 6
    assert abs(both - 0.25) < 5 * np.sqrt(0.1875 / n)
    # nor does the share say anything of the box: lambda is as uniform where views are mixed
    spread = np.sqrt(1 / 12)
    sides = (every.unmixed_share(10**6)[mixed].mean(), every.unmixed_share(10**6)[~mixed].mean())
    assert abs(sides[0] - sides[1]) < 5 * spread * np.sqrt(4 / n)


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


def test_slices_of_views_keep_rows_together() -> None:
    drawn = views.draw(ViewPolicy(mix="cutmix_images"), np.arange(6), column(6), 6)
    assert len(drawn) == 6
    for index in (slice(1, 4), np.array([4, 0]), np.arange(6) % 2 == 0):
        part = drawn[index]
        assert part.box.tolist() == drawn.box[index].tolist() and part.flip.tolist() == drawn.flip[index].tolist()
        assert part.partner.tolist() == drawn.partner[index].tolist()
        assert part.mix_box.tolist() == drawn.mix_box[index].tolist()


def test_box_edges_round_to_the_nearest_pixel() -> None:
    drawn = Views(np.ones((1, 4)), np.array([False]), column(1), np.array([[0.04, 0.06, 0.55, 1.0]]))
    assert drawn.pixels(10).tolist() == [[0, 1, 6, 10]]
    assert drawn.unmixed_share(10).tolist() == [1 - 6 * 9 / 100]
