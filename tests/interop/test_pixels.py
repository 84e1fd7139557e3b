"""Pixels of tensors: exact round trips, honest clamping, and statements that the values refute."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcpipe.interop import pixels
from dcpipe.interop.pixels import CONSTANTS, Scale, rounded
from dcpipe.types import DataError


def normalised(images: np.ndarray, mean: tuple, std: tuple) -> np.ndarray:
    """f32 [n, 3, s, s], as scripts compute it."""
    raw = images.transpose(0, 3, 1, 2).astype(np.float32) / 255
    return (raw - np.float32(mean)[:, None, None]) / np.float32(std)[:, None, None]


@given(st.integers(0, 2**32 - 1), st.sampled_from(sorted(CONSTANTS)))
def test_every_level_comes_back(seed: int, name: str) -> None:
    images = np.random.default_rng(seed).integers(0, 256, (3, 7, 7, 3), dtype=np.uint8)
    found = rounded(normalised(images, *CONSTANTS[name]), Scale(name), "x")
    assert np.array_equal(found.pixels, images) and found.clamped == 0


def test_blocks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).normal(0, 1.2, (5, 3, 4, 4))
    whole = rounded(values, Scale("imagenet"), "x")
    monkeypatch.setattr(pixels, "_BLOCK_BYTES", 1)
    one = rounded(values, Scale("imagenet"), "x")
    assert np.array_equal(whole.pixels, one.pixels) and whole.clamped == one.clamped


def test_what_is_outside_is_clamped_and_counted_one_by_one() -> None:
    """The slow way: each value by itself."""
    values = np.random.default_rng(1).normal(0, 1.0, (4, 3, 5, 5)).astype(np.float32)
    mean, std = CONSTANTS["cifar10"]
    found = rounded(values, Scale("cifar10"), "x")
    outside = 0
    for (n, c, y, x), value in np.ndenumerate(values):
        level = 255 * (float(value) * std[c] + mean[c])
        outside += level < -0.5 or level > 255.5
        assert found.pixels[n, y, x, c] == int(min(max(level, 0), 255) + 0.5)
    assert found.clamped == outside / values.size and 0 < found.clamped < 0.25


def test_grey_images_get_three_equal_channels() -> None:
    values = np.random.default_rng(2).random((2, 1, 3, 3))
    found = rounded((values - 0.1307) / 0.3081, Scale("mnist"), "x").pixels
    assert found.shape == (2, 3, 3, 3) and (found == found[..., :1]).all()
    assert np.array_equal(found[..., 0], np.floor(255 * values[:, 0] + 0.5).astype(np.uint8))


def test_bytes_are_kept() -> None:
    values = np.random.default_rng(3).integers(0, 256, (2, 3, 4, 4), dtype=np.uint8)
    for scale in (Scale(), Scale("none")):
        assert np.array_equal(rounded(values, scale, "x").pixels, values.transpose(0, 2, 3, 1))
    with pytest.raises(DataError, match=r"^x holds bytes 0..255, which are not normalised; give --normalised none$"):
        rounded(values, Scale("cifar10"), "x")


RAW = np.random.default_rng(4).random((6, 3, 8, 8))
NORMAL = (RAW - 0.48) / 0.2


def test_raw_values_are_guessed_where_few_are_outside() -> None:
    overshoot = RAW.copy()
    overshoot[0, 0, 0] = [1.2, -0.3, 1.1, -0.1, 1, 0, 0.5, 0.5]  # as those of IDC
    found = rounded(overshoot, Scale(), "x")
    assert found.clamped == 4 / overshoot.size
    assert found.note == "values span -0.3 to 1.2 and are taken as not normalised, because 0.3 % are outside [0, 1]"


REFUTED: list[tuple[np.ndarray, Scale, str]] = [
    (
        NORMAL,
        Scale(),
        r"normalised; say with which constants by --normalised cifar10, cifar100, svhn.* or by --mean and",
    ),
    (NORMAL, Scale("none"), r"% outside \[0, 1\], so they are normalised; say .* by --mean and --std, or use --force$"),
    (
        RAW,
        Scale("cifar10"),
        r"as of images that are not normalised; give --normalised none, or --force to undo it anyway",
    ),
    (
        NORMAL * 3,
        Scale("imagenet"),
        r"% of values are outside \[0, 1\], so these are not its constants; give others, or",
    ),
    (RAW * 255, Scale(), r"span .* to 255, in units of bytes; convert the images to torch.uint8, and save them again$"),
]


@pytest.mark.parametrize(("values", "scale", "sentence"), REFUTED)
def test_values_refute_what_is_stated(values: np.ndarray, scale: Scale, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        rounded(values, scale, "x")
    if "--force" in sentence:
        assert rounded(values, scale, "x", force=True).pixels.shape == (6, 8, 8, 3)


def test_the_name_of_the_file_helps_to_ask_and_not_to_guess() -> None:
    for name, constants in (("res_DM_CIFAR100_ConvNet.pt", "cifar100"), ("res_DC_FashionMNIST_x.pt", "fashionmnist")):
        with pytest.raises(DataError, match=f"by --normalised {constants} or by --mean and --std$"):
            rounded(NORMAL, Scale(), "x", hint=name)


def test_the_wrong_data_sets_constants_cannot_be_refuted() -> None:
    """So they are asked for: the share outside is small with either."""
    images = np.random.default_rng(5).integers(0, 256, (9, 8, 8, 3), dtype=np.uint8)
    wrong = rounded(normalised(images, *CONSTANTS["cifar10"]), Scale("svhn"), "x")
    assert wrong.clamped < 0.2 and not np.array_equal(wrong.pixels, images)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (
            {"normalised": "cifar"},
            r"^--normalised is 'cifar'; choose one of cifar10, .*, none, or give --mean and --std$",
        ),
        ({"mean": (0.5,) * 3}, r"^--mean and --std belong together; give both or none$"),
        ({"normalised": "cifar10", "mean": (0.5,) * 3, "std": (0.5,) * 3}, r"^--normalised cifar10 has its own mean"),
        ({"mean": (0.5,) * 3, "std": (0.5, 0.0, 0.5)}, r"give numbers above 0"),
    ],
)
def test_statements_that_contradict_themselves(given: dict, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        Scale(**given)


def test_constants_of_students_for_raw_images() -> None:
    scale = Scale("none", (0.5,) * 3, (0.2,) * 3)
    assert scale.undone is None and scale.constants == ((0.5,) * 3, (0.2,) * 3)
    assert Scale(None, (0.5,) * 3, (0.2,) * 3).undone == ((0.5,) * 3, (0.2,) * 3)
