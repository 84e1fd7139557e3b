"""The starts of recovery: noise that depends on the row, the selection, and RDED's mosaics."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dcpipe import networks
from dcpipe.random import philox
from dcpipe.synthesis import Progress, SynthesisContext
from dcpipe.synthesis.initial import initial
from dcpipe.synthesis.rded import rded
from dcpipe.types import ImageSet, Teacher

CLASSES = ("ant", "bee")
MEAN, STD = (0.3, 0.5, 0.6), (0.2, 0.3, 0.25)
WATCH = Progress(Path("nowhere"), Path("nowhere"), lambda *_: None)
GOLDEN = [1.0711808204650879, 0.3005410134792328, 0.16173849999904633, -0.6566289067268372]


def start_of(n: int, size: int = 8) -> ImageSet:
    pixels = np.random.default_rng(n).integers(0, 256, size=(n, size, size, 3), dtype=np.uint8)
    return ImageSet(pixels, np.arange(n) % 2, np.arange(n) * 3, CLASSES)


def untouched() -> Iterator[Any]:
    raise AssertionError("the real images are not asked for")


BARE = SynthesisContext({}, untouched, np.zeros(0, dtype=np.int64), torch.device("cpu"))


def made(name: str, start: ImageSet, context: SynthesisContext = BARE, seed: int = 0, **options: Any) -> torch.Tensor:
    """The pixels of all rows."""
    return initial(name, start, context, seed, WATCH, mean=MEAN, std=STD, **options)(np.arange(len(start)))


def slow_noise(seed: int, row: int, count: int) -> list[float]:
    """Box and Muller, two words' halves at a time, from the library's generator."""
    numbers: list[float] = []
    draw = 1024
    while len(numbers) < count:
        for word in philox(seed, 0, draw, row).tolist():
            u, v = (word // 2**32 + 0.5) / 2**32, (word % 2**32) / 2**32
            radius = (-2 * np.log(u)) ** 0.5
            numbers += [radius * np.cos(2 * np.pi * v), radius * np.sin(2 * np.pi * v)]
        draw += 1
    return numbers[:count]


@pytest.mark.parametrize("size", [1, 3, 8])
def test_noise_is_the_slow_definition(size: int) -> None:
    pixels = made("noise", start_of(4, size), seed=11)
    assert pixels.shape == (4, 3, size, size) and pixels.dtype == torch.float32
    for row in range(4):
        expected = slow_noise(11, row, 3 * size * size)
        np.testing.assert_allclose(pixels[row].flatten().numpy(), expected, rtol=1e-6, atol=1e-7)


def test_noise_will_not_change() -> None:
    pixels = made("noise", start_of(2), seed=3)
    assert pixels[1, 0, 0, :4].tolist() == pytest.approx(GOLDEN, abs=1e-6)


def test_noise_is_finite_whatever_the_words(monkeypatch: pytest.MonkeyPatch) -> None:
    for word in (0, 2**64 - 1):

        class Stuck:
            def __init__(self, **_: Any) -> None: ...

            def random_raw(self, n: int) -> np.ndarray:
                return np.full(n, word, dtype=np.uint64)  # noqa: B023

        monkeypatch.setattr(np.random, "Philox", Stuck)
        assert made("noise", start_of(2)).isfinite().all()


def test_noise_is_standard_normal() -> None:
    pixels = made("noise", start_of(30, 32)).double()
    n = pixels.numel()
    assert abs(float(pixels.mean())) < 4 / n**0.5
    assert abs(float(pixels.var()) - 1) < 4 * (2 / n) ** 0.5
    assert abs(float((pixels**4).mean()) - 3) < 4 * (96 / n) ** 0.5
    flat = np.sort(pixels.flatten().numpy())
    exact = torch.special.ndtr(torch.from_numpy(flat)).numpy()
    assert np.abs(exact - (np.arange(n) + 0.5) / n).max() < 1.95 / n**0.5, "Kolmogorov and Smirnov, 0.1 %"
    rows = pixels.flatten(1)
    between = torch.corrcoef(rows).fill_diagonal_(0)
    assert float(between.abs().max()) < 5 / rows.shape[1] ** 0.5


def test_noise_belongs_to_seed_and_row() -> None:
    few, many = made("noise", start_of(3)), made("noise", start_of(6))
    assert (few == many[:3]).all()
    assert len({tuple(row.flatten().tolist()) for row in many}) == 6
    assert (made("noise", start_of(3), seed=1) != few).float().mean() > 0.99
    assert (made("noise", start_of(3), seed=2**32) != few).float().mean() > 0.99, "all 64 bits of a seed count"
    assert (made("noise", start_of(3), seed=-1) == made("noise", start_of(3), seed=2**64 - 1)).all()


def test_real_is_the_selection_normalised() -> None:
    start = start_of(5)
    pixels = made("real", start)
    assert pixels.dtype == torch.float32 and pixels.is_contiguous()
    expected = (start.images.astype(np.float64) / 255 - MEAN) / STD
    np.testing.assert_allclose(pixels.permute(0, 2, 3, 1).numpy(), expected, atol=1e-5)
    assert (made("real", start, seed=9) == pixels).all()


@pytest.mark.parametrize("name", ["noise", "real", "rded"])
def test_rows_have_the_same_pixels_in_any_batch(name: str) -> None:
    start, context = start_of(4), real_scene()
    pixels = initial(name, start, context, 6, WATCH, mean=MEAN, std=STD, **OPTIONS)
    whole = pixels(np.arange(4))
    assert torch.equal(pixels(np.array([3, 1])), whole[[3, 1]])
    pixels(np.array([0])).zero_()
    assert torch.equal(pixels(np.array([0])), whole[:1]), "pixels are fresh, so that they can be optimised in place"


def real_scene() -> SynthesisContext:
    torch.manual_seed(2)
    weights = networks.build("convnet-d1-w4", 2, 8).state_dict()
    noun = Teacher("convnet-d1-w4", weights, CLASSES, MEAN, STD, 8, {})
    other = Teacher("convnet-d1-w4", {k: -v for k, v in weights.items()}, CLASSES, MEAN, STD, 8, {})
    pixels = np.random.default_rng(1).integers(0, 256, size=(24, 8, 8, 3), dtype=np.uint8)
    labels = np.arange(24) % 2
    return SynthesisContext({"a": noun, "b": other}, lambda: iter([(pixels, labels)]), labels, torch.device("cpu"))


OPTIONS = {"observers": ["a"], "factor": 2, "candidates": 10, "crops": 3}


def test_rded_is_the_mosaics_normalised() -> None:
    start, context = start_of(4), real_scene()
    mosaics = rded(start, context, 6, WATCH, **OPTIONS)
    expected = made("real", mosaics)
    assert (made("rded", start, context, 6, **OPTIONS, batch_size=5) == expected).all()
    assert (made("rded", start, context, 6, **OPTIONS, once=lambda make: mosaics.images) == expected).all()


@pytest.mark.parametrize("change", [{"seed": 7}, {"observers": ["b"]}, {"factor": 1}, {"candidates": 8}, {"crops": 1}])
def test_every_option_of_rded_changes_something(change: dict[str, Any]) -> None:
    start, context = start_of(4), real_scene()
    assert (made("rded", start, context, **OPTIONS) != made("rded", start, context, **(OPTIONS | change))).any()


def test_the_others_do_not_mind_its_options() -> None:
    for name in ("noise", "real"):
        assert (made(name, start_of(3), **OPTIONS) == made(name, start_of(3))).all()
