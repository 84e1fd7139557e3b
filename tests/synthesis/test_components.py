"""A set as components: against plain NumPy, the error against the tail of singular values, and what is stored."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dcpipe import store
from dcpipe.store import tensors
from dcpipe.synthesis import components
from dcpipe.synthesis.components import BITS, Components
from dcpipe.types import DataError, ImageSet

CLASSES = ("a", "b", "c")


def set_of(n: int, seed: int = 0, side: int = 4) -> ImageSet:
    """Rounds of one image per class, with the classes in another order each time."""
    labels = np.concatenate([np.roll(np.arange(3), k) for k in range(n)])
    pixels = np.random.default_rng(seed).integers(0, 256, (3 * n, side, side, 3)).astype(np.uint8)
    return ImageSet(pixels, labels, 5 * np.arange(3 * n) + 2, CLASSES)


def planted(n: int, rank: int, d: int, seed: int) -> np.ndarray:
    """Values [2, n, d] around a mean in `rank` directions."""
    rng = np.random.default_rng(seed)
    return rng.uniform(0.3, 0.7, (2, 1, d)) + rng.normal(0, 0.05, (2, n, rank)) @ rng.normal(0, 1, (2, rank, d))


def plain_bytes(pictures: ImageSet) -> int:
    """A measure without a file format: values of k bits take k bits, and 10 bytes for each picture."""
    bits = int(pictures.images.max()).bit_length()
    return pictures.images.size * bits // 8 + 10 * len(pictures)


@settings(max_examples=25)
@given(n=st.integers(1, 9), rank=st.integers(0, 9), seed=st.integers(0, 10**6))
def test_singular_values_are_those_of_numpy_and_zero_beyond_the_planted_rank(n: int, rank: int, seed: int) -> None:
    values = planted(n, rank, 20, seed)
    parts, singular = components.decompose(values)
    for label, own in enumerate(values):
        expected = np.linalg.svd(own - own.mean(0), compute_uv=False)
        assert np.allclose(singular[label], expected, rtol=1e-10, atol=1e-12)
        directions = min(rank, n - 1)
        assert (singular[label, :directions] > 1e-6).all() and (singular[label, directions:] == 0).all()
    assert not parts.bases[:, min(rank, n - 1) :].any()


@settings(max_examples=25)
@given(n=st.integers(1, 8), d=st.sampled_from([3, 12, 48]), rank=st.integers(0, 8), seed=st.integers(0, 10**6))
def test_the_error_is_the_tail_and_no_other_directions_come_closer(n: int, d: int, rank: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.uniform(0, 1, (2, n, d))
    parts, singular = components.decompose(values)
    rank = min(rank, n, d)
    error = float(np.linalg.norm(parts.first(rank).decoded() - values))
    assert error == pytest.approx(components.tail(singular, rank), rel=1e-9, abs=1e-12)
    centred = values - values.mean(1, keepdims=True)
    other = np.linalg.qr(rng.normal(size=(2, d, rank)))[0]
    assert np.linalg.norm(centred - centred @ other @ other.swapaxes(1, 2)) >= error - 1e-9


def test_all_components_are_the_set_and_fewer_are_the_first_of_them() -> None:
    images = set_of(5)
    values = components.values_of(images)
    parts, _ = components.decompose(values)
    assert np.array_equal(components.images_of(parts.decoded(), images).images, images.images)
    for rank in range(parts.rank):
        more, less = parts.first(rank + 1), parts.first(rank)
        assert np.array_equal(more.bases[:, :rank], less.bases) and less.rank == rank
        assert np.array_equal(more.coefficients[..., :rank], less.coefficients)
    grams = parts.bases @ parts.bases.swapaxes(1, 2)
    assert np.allclose(grams, np.diag([1, 1, 1, 1, 0]), atol=1e-12)


def test_the_largest_value_of_each_basis_is_positive() -> None:
    """So a set upside down, in other rows, or from a library with other signs has the same bases."""
    values = components.values_of(set_of(6))
    parts, _ = components.decompose(values)
    bases = parts.bases[:, :5]
    largest = np.take_along_axis(bases, np.abs(bases).argmax(2)[..., None], 2)
    assert (largest > 0).all()
    mirrored, _ = components.decompose(2 * values.mean(1, keepdims=True) - values)
    assert np.allclose(mirrored.bases[:, :5], bases, atol=1e-10)
    assert np.allclose(mirrored.coefficients[..., :5], -parts.coefficients[..., :5], atol=1e-10)


def test_a_set_is_read_by_class_and_written_back_in_its_order() -> None:
    images = set_of(4)
    values = components.values_of(images)
    for label in range(3):
        assert np.array_equal(values[label].reshape(4, 4, 4, 3) * 255, images.images[images.labels == label])
    back = components.images_of(values, images)
    assert np.array_equal(back.images, images.images) and np.array_equal(back.ids, images.ids)
    far = components.images_of(values + 2, images)
    assert (far.images == 255).all(), "clipped, not wrapped around"
    uneven = ImageSet(images.images[:-1], images.labels[:-1], images.ids[:-1], CLASSES)
    with pytest.raises(DataError, match=r"^slimming: classes have 3 to 4 images; all are slimmed alike, so select "):
        components.values_of(uneven)


# --- as stored ---


@pytest.mark.parametrize("bits", BITS)
def test_rounding_of_pictures_is_half_a_step_and_coefficients_are_fitted_to_it(bits: int) -> None:
    values = components.values_of(set_of(6))
    parts, singular = components.decompose(values)
    found = components.stored(parts.first(3), values, bits)
    assert found.codes.max() < 2**bits and found.codes.shape == (3, 4, 48) and found.rank == 3
    decoded = found.components()
    assert np.abs(decoded.mean - parts.mean).max() <= 0.5 / (2**bits - 1) + 1e-12
    scaled = parts.bases[:, :3] / np.abs(parts.bases[:, :3]).max(2, keepdims=True)
    assert np.abs(decoded.bases - scaled).max() <= 0.5 / (2 ** (bits - 1) - 1) + 1e-12
    assert (decoded.bases.max(2) == 1).all()
    error = np.linalg.norm(decoded.decoded() - values)
    assert error >= components.tail(singular, 3)
    unfitted = parts.coefficients[..., :3] * np.abs(parts.bases[:, :3]).max(2)[:, None]
    plain = np.linalg.norm(Components(decoded.mean, decoded.bases, unfitted).decoded() - values)
    assert error < plain * (1 + 1e-3), "fp16 coefficients, but the best ones"
    for label in range(3):  # least squares: what is left is orthogonal to the bases
        left = values[label] - decoded.decoded()[label]
        assert np.abs(left @ decoded.bases[label].T).max() < 0.05


def test_dependent_bases_get_no_huge_coefficients() -> None:
    """Training may make two bases equal."""
    values = components.values_of(set_of(3))
    base = np.ones((3, 1, 48))
    twice = Components(values.mean(1), np.concatenate([base, base, 0 * base], axis=1), np.zeros((3, 3, 3)))
    found = components.stored(twice, values, 8)
    assert np.abs(found.coefficients).max() < 1 and not found.coefficients[..., 2].any()
    assert np.allclose(found.coefficients[..., 0], found.coefficients[..., 1])


@settings(max_examples=6)
@given(size=st.integers(1, 6), seed=st.integers(0, 10**6))
def test_what_is_fitted_keeps_to_the_budget_and_is_the_best_of_all_that_do(size: int, seed: int) -> None:
    """A slow search of all ranks and bits finds nothing closer."""
    images = set_of(6, seed)
    values = components.values_of(images)
    parts, _ = components.decompose(values)
    budget = plain_bytes(images.prefix(size))
    found = components.fitted(parts, values, images, budget, plain_bytes)
    assert found.n_bytes(images, plain_bytes) <= budget

    def error(made: components.Stored) -> int:
        shown = components.images_of(made.components().decoded(), images)
        return int(np.square(shown.images.astype(int) - images.images).sum())

    for bits in BITS:
        every = [components.stored(parts.first(rank), values, bits) for rank in range(6)]
        fits = [made for made in every if made.n_bytes(images, plain_bytes) <= budget]
        if fits:
            assert error(found) <= error(fits[-1])


def test_bytes_are_those_of_the_files(tmp_path: Path) -> None:
    images = set_of(4)
    values = components.values_of(images)
    found = components.stored(components.decompose(values)[0].first(2), values, 5)
    notes = store.Notes(tmp_path)

    def measure(pictures: ImageSet) -> int:
        assert len(pictures) == 9 and pictures.labels.tolist() == [0, 1, 2] * 3
        assert np.array_equal(pictures.images[3].reshape(-1), found.codes[0, 1])
        return notes.image_file(pictures).stat().st_size

    coefficients = tensors.write(tmp_path / "c.safetensors", {"coefficients": found.coefficients}, {})
    assert found.n_bytes(images, measure) == coefficients + (tmp_path / "images.parquet").stat().st_size


def test_a_budget_below_the_coarsest_means_is_refused() -> None:
    images = set_of(3)
    values = components.values_of(images)
    with pytest.raises(DataError) as error:
        components.fitted(components.decompose(values)[0], values, images, 20, plain_bytes)
    assert str(error.value) == (
        "slimming: 20 bytes do not hold one mean image per class, not even in 2 bits; leave this size out"
    )
