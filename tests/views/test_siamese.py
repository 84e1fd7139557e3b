"""Siamese augmentation: each operation against loops over pixels, the two rules of drawing, sharing, and gradients."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dcpipe.random import philox, uniform
from dcpipe.types import DataError
from dcpipe.types.labels import SIAMESE
from dcpipe.views import siamese
from dcpipe.views.siamese import Drawn

# Seed 7, step 3, of rows 0, 1 and 2**40; written once, as stored labels belong to these draws.
GOLDEN_NUMBERS = [
    [
        0.2217392934368364,
        0.6455773766321445,
        0.6373998899026853,
        0.7911504255229574,
        0.32187607319893374,
        0.31388053967706975,
        0.8063554944897704,
        0.8513445735039332,
        0.7954858568716143,
        0.4059364227392298,
        0.027616223621714897,
        0.7141928115260548,
    ],
    [
        0.7798794714125106,
        0.9065687122405754,
        0.9055286405948012,
        0.8173131602841059,
        0.32885634913563677,
        0.37002541630171837,
        0.12392453504882339,
        0.1396418978689612,
        0.2578923428504769,
        0.8596528721014601,
        0.5663087795929076,
        0.46161451871910064,
    ],
    [
        0.08470016234383138,
        0.5980611169127485,
        0.03841782972123098,
        0.33625871182725386,
        0.28725579392051226,
        0.1253363436225512,
        0.688862499757575,
        0.7578791697740445,
        0.32009446948922404,
        0.474628991257816,
        0.29767050393285943,
        0.3284196037371916,
    ],
]
GOLDEN_RUNS = [
    ["flip", "color", "crop", "cutout"],
    ["flip", "color", "crop", "cutout"],
    ["flip", "color", "crop", "cutout"],
]
ALL = "color_crop_cutout_flip_scale_rotate"
# Numbers at which an operation does nothing: flip, three colours, choice, crop, scale, rotate; cutout has none.
ONE = (1 - 1 / 1.2) / (1.2 - 1 / 1.2)
STILL = np.array([0.5, 0.5, 0.5, 0.5, 0.0, 0.5, 0.5, ONE, ONE, 0.5, 0.0, 0.0])


def numbers_of(seed: int = 0, step: int = 0, rows: int = 4) -> Callable[[int], np.ndarray]:
    return lambda d: uniform(philox(seed, step, d, np.arange(rows)))


def pictures(m: int, size: int, seed: int = 0) -> torch.Tensor:
    """Normalised images f64 [m, 3, s, s]."""
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(m, 3, size, size)))


def only(name: str, u: np.ndarray) -> Drawn:
    """One operation for every row of numbers."""
    return Drawn(u, np.tile([other == name for other in SIAMESE], (len(u), 1)))


# --- the operations, one pixel after the other ---


def slow_flip(x: np.ndarray, u: np.ndarray) -> np.ndarray:
    return np.array([[row[::-1] for row in channel] for channel in x]) if u[0] < 0.5 else x


def slow_color(x: np.ndarray, u: np.ndarray) -> np.ndarray:
    out, size = x.copy(), x.shape[-1]
    for c, i, j in np.ndindex(out.shape):
        out[c, i, j] += u[1] - 0.5
    for i in range(size):
        for j in range(size):
            grey = sum(out[c, i, j] for c in range(3)) / 3
            for c in range(3):
                out[c, i, j] = (out[c, i, j] - grey) * 2 * u[2] + grey
    level = sum(out[place] for place in np.ndindex(out.shape)) / out.size
    for place in np.ndindex(out.shape):
        out[place] = (out[place] - level) * (u[3] + 0.5) + level
    return out


def slow_crop(x: np.ndarray, u: np.ndarray) -> np.ndarray:
    size, out = x.shape[-1], np.zeros_like(x)
    pad = math.floor(size / 8 + 0.5)
    down, across = (math.floor(float(v) * (2 * pad + 1)) - pad for v in u[5:7])
    for c, i, j in np.ndindex(out.shape):
        if 0 <= i + down < size and 0 <= j + across < size:
            out[c, i, j] = x[c, i + down, j + across]
    return out


def slow_warp(x: np.ndarray, place_of: Callable[[float, float], tuple[float, float]]) -> np.ndarray:
    """Bilinear sampling at `place_of` each pixel's centre; coordinates are pixels from the image's middle."""
    size, out = x.shape[-1], np.zeros_like(x)
    middle = (size - 1) / 2
    for i in range(size):
        for j in range(size):
            across, down = place_of(j - middle, i - middle)
            left, top = math.floor(across + middle), math.floor(down + middle)
            for row, column in ((top, left), (top, left + 1), (top + 1, left), (top + 1, left + 1)):
                weight = (1 - abs(down + middle - row)) * (1 - abs(across + middle - column))
                if 0 <= row < size and 0 <= column < size:
                    out[:, i, j] += weight * x[:, row, column]
    return out


def slow_scale(x: np.ndarray, u: np.ndarray) -> np.ndarray:
    down, across = (1 / 1.2 + float(v) * (1.2 - 1 / 1.2) for v in u[7:9])
    return slow_warp(x, lambda a, d: (across * a, down * d))


def slow_rotate(x: np.ndarray, u: np.ndarray) -> np.ndarray:
    angle = math.radians(-15 + 30 * float(u[9]))
    cos, sin = math.cos(angle), math.sin(angle)
    return slow_warp(x, lambda a, d: (cos * a - sin * d, sin * a + cos * d))


def slow_cutout(x: np.ndarray, u: np.ndarray) -> np.ndarray:
    out, size = x.copy(), x.shape[-1]
    side = math.floor(size / 2 + 0.5)
    top, left = (math.floor(float(v) * (size + 1 - side % 2)) - side // 2 for v in u[10:12])
    for c, i, j in np.ndindex(out.shape):
        if top <= i < top + side and left <= j < left + side:
            out[c, i, j] = 0.0
    return out


SLOW = {
    "flip": slow_flip,
    "color": slow_color,
    "crop": slow_crop,
    "scale": slow_scale,
    "rotate": slow_rotate,
    "cutout": slow_cutout,
}


@pytest.mark.parametrize("size", [8, 9, 20])
@pytest.mark.parametrize("name", SIAMESE)
def test_an_operation_is_its_loops(name: str, size: int) -> None:
    images, u = pictures(5, size), np.random.default_rng(1).random((5, 12))
    found = siamese.apply(images, only(name, u))
    wanted = np.stack([SLOW[name](image, row) for image, row in zip(images.numpy(), u, strict=True)])
    np.testing.assert_allclose(found.numpy(), wanted, rtol=0, atol=1e-12)
    changed = (found != images).flatten(1).any(1).numpy()
    if name == "flip":
        assert changed.tolist() == (u[:, 0] < 0.5).tolist() and 0 < changed.sum() < 5
    else:
        assert changed.sum() >= 4  # of the crops one may stay where it is
    single = siamese.apply(images.float(), only(name, u))
    assert single.dtype == torch.float32
    np.testing.assert_allclose(single.numpy(), wanted, rtol=0, atol=2e-5)


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 10**6), names=st.sets(st.sampled_from(SIAMESE), min_size=1), dsa=st.booleans())
def test_a_strategy_is_its_operations_in_order(seed: int, names: set[str], dsa: bool) -> None:
    images, strategy = pictures(3, 8, seed), ("dsa:" if dsa else "") + "_".join(sorted(names))
    drawn = siamese.draw(strategy, numbers_of(seed, rows=3))
    wanted = images.numpy()
    for place, name in enumerate(("flip", "color", "crop", "scale", "rotate", "cutout")):
        rows = zip(wanted, drawn.numbers, drawn.runs[:, place], strict=True)
        wanted = np.stack([SLOW[name](image, u) if runs else image for image, u, runs in rows])
    np.testing.assert_allclose(siamese.apply(images, drawn).numpy(), wanted, rtol=0, atol=1e-12)


def test_numbers_that_do_nothing_leave_images_as_they_are() -> None:
    images = pictures(2, 10)
    still = np.tile(STILL, (2, 1))
    for name in SIAMESE[:-1]:
        torch.testing.assert_close(siamese.apply(images, only(name, still)), images, rtol=0, atol=1e-12)
    idle = Drawn(still, np.zeros((2, 6), dtype=np.bool_))
    assert torch.equal(siamese.apply(images, idle), images)
    torch.testing.assert_close(siamese.on_pixels(images, idle), images, rtol=0, atol=1e-12)
    assert siamese.apply(images[:0], idle).shape == (0, 3, 10, 10)
    hole = siamese.apply(images, only("cutout", still))  # a quarter of it is inside, at the corner
    assert (hole == 0).sum() == 2 * 3 * 3 * 3 and (hole[:, :, :3, :3] == 0).all()


def test_ends_of_the_draws() -> None:
    """The corners of [0, 1): shifts reach p both ways, holes reach the border, zoom and angle their limits."""
    ends = siamese.Drawn(np.array([np.zeros(12), np.full(12, 1 - 2.0**-53)]), np.ones((2, 6), dtype=np.bool_))
    amounts = siamese.amounts_of(ends, 32)
    assert amounts[:, siamese.CROP].tolist() == [[-4, -4], [4, 4]]
    assert amounts[:, siamese.CUTOUT].tolist() == [[-8, -8], [24, 24]]
    np.testing.assert_allclose(amounts[:, siamese.SCALE], [[1 / 1.2] * 2, [1.2] * 2], rtol=1e-12)
    np.testing.assert_allclose(np.degrees(amounts[:, siamese.ROTATE]), [-15, 15], rtol=1e-12)
    np.testing.assert_allclose(amounts[:, siamese.COLOR], [[-0.5, 0, 0.5], [0.5, 2, 1.5]], rtol=1e-12)
    assert siamese.amounts_of(ends, 224)[:, siamese.CROP].tolist() == [[-28, -28], [28, 28]]


# --- what is drawn ---


def ran(drawn: Drawn) -> list[list[str]]:
    return [[name for name, runs in zip(SIAMESE, row, strict=True) if runs] for row in drawn.runs]


def test_golden_draws() -> None:
    ids = np.array([0, 1, 2**40])
    drawn = siamese.draw(ALL, lambda d: uniform(philox(7, 3, d, ids)))
    np.testing.assert_array_equal(drawn.numbers, GOLDEN_NUMBERS)
    assert ran(drawn) == GOLDEN_RUNS


@pytest.mark.parametrize("strategy", [ALL, "color_crop_cutout", "crop_flip", "scale_rotate_crop", "cutout"])
def test_idcs_law_and_dsas(strategy: str) -> None:
    n, names = 6000, strategy.split("_")
    few = [name for name in ("crop", "scale", "rotate") if name in names]
    drawn = siamese.draw(strategy, numbers_of(rows=n))
    for name, share in zip(SIAMESE, drawn.runs.mean(0), strict=True):
        if name not in few:
            assert share == (name in names)
        else:
            assert abs(share - 1 / len(few)) < 5 / math.sqrt(n)
    assert (drawn.runs[:, 2:5].sum(1) == (len(few) > 0)).all()
    theirs = siamese.draw(f"dsa:{strategy}", numbers_of(rows=n))
    assert (theirs.runs.sum(1) == 1).all()
    for name, share in zip(SIAMESE, theirs.runs.mean(0), strict=True):
        assert abs(share - (name in names) / len(names)) < 5 / math.sqrt(n)
    np.testing.assert_array_equal(drawn.numbers, theirs.numbers)


def test_numbers_are_uniform_independent_and_functions_of_their_names() -> None:
    n = 4000
    u = siamese.draw(ALL, numbers_of(rows=n)).numbers
    assert u.shape == (n, 12) and u.min() >= 0 and u.max() < 1
    assert np.abs(u.mean(0) - 0.5).max() < 5 * math.sqrt(1 / 12 / n)
    assert np.abs(np.corrcoef(u.T) - np.eye(12)).max() < 5 / math.sqrt(n)
    np.testing.assert_array_equal(siamese.draw("crop_flip", numbers_of(rows=10)).numbers, u[:10])
    for other in (numbers_of(seed=1), numbers_of(step=1)):
        assert (siamese.draw(ALL, other).numbers != u[:4]).all()


def test_rows_are_taken() -> None:
    drawn = siamese.draw(ALL, numbers_of(rows=6))
    images = pictures(6, 8)
    whole = siamese.apply(images, drawn)
    for index in (slice(2, 5), np.array([4, 0]), np.arange(6) % 2 == 0):
        part = drawn[index]
        torch.testing.assert_close(siamese.apply(images[index], part), whole[index], rtol=0, atol=1e-12)
    assert len(drawn) == 6 and len(drawn[:4]) == 4


# --- sharing ---


@pytest.mark.parametrize("strategy", ["color_crop_cutout", "color_crop_flip_scale_rotate", f"dsa:{ALL}"])
def test_a_draw_a_class_is_shared_by_its_images(strategy: str) -> None:
    classes, real, synthetic = 5, pictures(5 * 3, 8, 1), pictures(5 * 2, 8, 2)
    drawn = siamese.draw(strategy, numbers_of(seed=2, rows=classes))
    for images, each in ((real, 3), (synthetic, 2)):
        found = siamese.apply(images, drawn)
        by_image = drawn[np.repeat(np.arange(classes), each)]
        torch.testing.assert_close(found, siamese.apply(images, by_image), rtol=0, atol=1e-12)
        for c in range(classes):
            rows = slice(c * each, (c + 1) * each)
            alone = siamese.apply(images[rows], drawn[c : c + 1])
            torch.testing.assert_close(found[rows], alone, rtol=0, atol=1e-12)


def test_real_and_synthetic_images_go_through_the_same() -> None:
    one = pictures(1, 12)
    real, synthetic = torch.cat([one, pictures(3, 12, 1)]), torch.cat([pictures(1, 12, 2), one])
    for step in range(8):
        drawn = siamese.draw(f"dsa:{ALL}", numbers_of(step=step, rows=1))
        first, second = siamese.apply(real, drawn)[0], siamese.apply(synthetic, drawn)[1]
        torch.testing.assert_close(first, second, rtol=0, atol=1e-12)


# --- gradients ---


@pytest.mark.parametrize("name", SIAMESE)
def test_gradients_are_finite_differences(name: str) -> None:
    drawn = only(name, np.random.default_rng(3).random((2, 12)))
    images = pictures(4, 6).requires_grad_(True)
    weights = pictures(4, 6, 9)
    loss = (siamese.apply(images, drawn) ** 2 * weights).sum()
    (gradient,) = torch.autograd.grad(loss, images)
    assert bool((gradient != 0).any())
    source = np.random.default_rng(0)
    for _ in range(12):
        place = tuple(int(source.integers(side)) for side in images.shape)
        step = torch.zeros_like(images)
        step[place] = 1e-5
        with torch.no_grad():
            up, down = ((siamese.apply(images + s, drawn) ** 2 * weights).sum() for s in (step, -step))
        assert float(gradient[place]) == pytest.approx(float(up - down) / 2e-5, abs=1e-6)


def test_gradients_flow_where_rows_do_different_things() -> None:
    images = pictures(12, 6).requires_grad_(True)
    drawn = siamese.draw(f"dsa:{ALL}", numbers_of(rows=12))
    siamese.apply(images, drawn).sum().backward()
    assert images.grad is not None
    for row, (name,) in enumerate(ran(drawn)):
        if name == "flip":
            assert (images.grad[row] == 1).all()
        if name in ("crop", "cutout"):
            assert set(images.grad[row].unique().tolist()) <= {0.0, 1.0}
    assert len({name for (name,) in ran(drawn)}) >= 4


# --- pixels, and what is refused ---


def test_pixels_are_augmented_in_units_of_cifars_colours() -> None:
    images = torch.rand(6, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    drawn = siamese.draw("color_crop_cutout_flip", numbers_of(rows=6))
    mean, std = (np.array(x)[:, None, None] for x in ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)))
    wanted = []
    for image, u in zip(images.numpy(), drawn.numbers, strict=True):
        seen = (image - mean) / std
        for name in ("flip", "color", "crop", "cutout"):
            seen = SLOW[name](seen, u)
        wanted.append(seen * std + mean)
    found = siamese.on_pixels(images, drawn)
    np.testing.assert_allclose(found.numpy(), np.stack(wanted), rtol=0, atol=1e-12)
    holes = siamese.on_pixels(images, only("cutout", np.tile(STILL, (6, 1))))
    np.testing.assert_allclose(holes[:, :, 0, 0].numpy(), np.tile(mean[:, 0, 0], (6, 1)), rtol=1e-12)


@pytest.mark.parametrize("strategy", ["", "dsa:", "colour", "crop-flip", "crop__flip", "crop_crop", "idc:crop"])
def test_a_strategy_that_is_none_is_refused(strategy: str) -> None:
    with pytest.raises(DataError) as error:
        siamese.draw(strategy, numbers_of())
    assert str(error.value) == (
        f"siamese: invalid strategy {strategy!r}; join different names of flip, color, crop, scale, rotate, cutout "
        "by _, as in color_crop, or in dsa:color_crop to apply one of them at a time"
    )


@pytest.mark.parametrize(("rows", "images"), [(3, 4), (0, 4), (8, 4)])
def test_draws_that_cannot_be_shared_are_refused(rows: int, images: int) -> None:
    with pytest.raises(DataError) as error:
        siamese.apply(pictures(images, 8), siamese.draw("crop", numbers_of(rows=rows)))
    assert str(error.value) == (
        f"siamese: {images} images cannot share {rows} rows of draws evenly; draw one row for all images, or one per "
        "class"
    )
