"""Principal component pursuit against the textbook's loop on one matrix with a full SVD, and its truncation."""

import numpy as np
import pytest
import torch
from codec_cases import decode, encode, held_pairs, labels
from hypothesis import given, settings
from hypothesis import strategies as st

from dcpipe.compression import CODECS, payload
from dcpipe.compression.rpca import Rpca, pursue
from dcpipe.types import DataError, LabelShape


def textbook(matrix: np.ndarray, lam: float, tolerance: float) -> tuple[np.ndarray, np.ndarray]:
    """Inexact ALM as printed: one matrix, full SVDs, float64."""
    norm_two = np.linalg.norm(matrix, 2)
    Y = matrix / max(norm_two, np.abs(matrix).max() / lam)
    L = np.zeros_like(matrix)
    mu, limit = 1.25 / norm_two, 1.25 / norm_two * 1e7
    for _ in range(1000):
        T = matrix - L + Y / mu
        S = np.maximum(T - lam / mu, 0) + np.minimum(T + lam / mu, 0)
        u, sigma, v = np.linalg.svd(matrix - S + Y / mu, full_matrices=False)
        L = (u * np.maximum(sigma - 1 / mu, 0)) @ v
        Z = matrix - L - S
        Y = Y + mu * Z
        mu = min(1.5 * mu, limit)
        if np.linalg.norm(Z) <= tolerance * np.linalg.norm(matrix):
            return L, S
    raise AssertionError("did not converge")


def planted(n: int, k: int, c: int, rank: int, share: float, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    low = rng.normal(size=(n, k, rank)) @ rng.normal(size=(n, rank, c))
    sparse = np.where(rng.random((n, k, c)) < share, rng.uniform(-20, 20, (n, k, c)), 0.0)
    return torch.from_numpy(low), torch.from_numpy(sparse)


@pytest.mark.parametrize("size", [(30, 14), (14, 30), (12, 12)])
def test_equals_the_textbook(size: tuple[int, int]) -> None:
    logits = labels(LabelShape(4, *size)).double()
    logits[2] *= 40  # scales differ, so images leave the batch at different iterations
    lam = 1 / np.sqrt(max(size))
    low, sparse = pursue(logits, lam=lam, tolerance=1e-7)
    for image in range(4):
        expected = textbook(logits[image].numpy(), lam, 1e-7)
        scale = float(logits[image].norm())
        np.testing.assert_allclose(low[image], expected[0], atol=1e-8 * scale)
        np.testing.assert_allclose(sparse[image], expected[1], atol=1e-8 * scale)


@pytest.mark.parametrize(("dtype", "tolerance", "error"), [(torch.float64, 1e-7, 1e-6), (torch.float32, 1e-5, 1e-4)])
def test_recovers_what_was_planted(dtype: torch.dtype, tolerance: float, error: float) -> None:
    low, sparse = planted(2, 60, 60, rank=2, share=0.03)
    found, rest = pursue((low + sparse).to(dtype), lam=1 / np.sqrt(60), tolerance=tolerance)
    assert found.dtype == dtype
    assert float((found - low).norm() / low.norm()) < error
    assert float((rest - sparse).norm() / sparse.norm()) < error
    assert int(torch.linalg.matrix_rank(found[0].double(), rtol=1e-4)) == 2


def test_dense_noise_converges_in_fp32() -> None:
    """An fp32 Gram matrix would stall at a residual of 1e-4 here."""
    rng = np.random.default_rng(0)
    noisy = rng.normal(size=(1, 90, 4)) @ rng.normal(size=(1, 4, 70)) + 0.3 * rng.normal(size=(1, 90, 70))
    matrices = torch.from_numpy(10 * noisy).float()
    low, sparse = pursue(matrices, lam=1 / np.sqrt(90), tolerance=1e-5)
    assert float((low + sparse - matrices).norm() / matrices.norm()) <= 1.1e-5


def test_an_image_does_not_depend_on_other_images() -> None:
    logits = labels(LabelShape(3, 20, 11)).double()
    logits[1] = 0
    together = pursue(logits, lam=0.2, tolerance=1e-7)
    for image in range(3):
        alone = pursue(logits[image : image + 1], lam=0.2, tolerance=1e-7)
        for found, expected in zip(together, alone, strict=True):
            torch.testing.assert_close(found[image], expected[0], rtol=0, atol=1e-7)


def test_decodes_to_truncated_low_rank_plus_largest_sparse() -> None:
    shape = LabelShape(2, 25, 300)  # more than 256 classes: u16 columns
    codec = Rpca.plan(shape, shape.reference_bytes // 3, precision="float64")
    logits = labels(shape)
    arrays = encode(codec, logits, np.arange(2), shape)
    assert arrays["columns"].dtype == np.uint16
    decoded = decode(codec, arrays, *held_pairs(codec, shape), shape).reshape(logits.shape)
    for image in range(2):
        low, sparse = textbook(logits[image].double().numpy(), codec.lam, codec.tolerance)
        u, sigma, v = np.linalg.svd(low, full_matrices=False)
        expected = (u[:, : codec.rank] * sigma[: codec.rank]) @ v[: codec.rank]
        for view in range(25):
            top = np.argsort(-np.abs(sparse[view]), kind="stable")[: codec.per_view]
            expected[view, top] += sparse[view, top]
        np.testing.assert_allclose(decoded[image], expected, atol=1e-3 * np.abs(expected).max())


@settings(deadline=None, max_examples=80)
@given(
    st.builds(LabelShape, st.integers(1, 9), st.integers(1, 300), st.integers(1, 1000)),
    st.floats(0, 1),
    st.floats(1, 40),
)
def test_the_budget_is_shared_as_given(shape: LabelShape, share: float, ratio: float) -> None:
    one = 2 * (shape.views + shape.classes)
    per_rank = shape.images * one
    per_entry = shape.images * shape.views * (3 if shape.classes <= 256 else 4)
    budget = max(per_rank, int(shape.reference_bytes / ratio))
    codec = Rpca.plan(shape, budget, sparse_share=share)
    full = min(shape.views, shape.classes)
    assert 1 <= codec.rank <= full and 0 <= codec.per_view <= shape.classes and 0 <= codec.extra < shape.images
    assert codec.extra == 0 or codec.rank < full
    left = budget - payload(codec.specs(shape))
    assert left == budget - codec.rank * per_rank - codec.extra * one - codec.per_view * per_entry >= 0
    if codec.rank < full:
        assert left < one
    else:
        assert share == 0 or left < per_entry or codec.per_view == shape.classes
    wanted = min(int(share * budget) // per_entry, (budget - per_rank) // per_entry, shape.classes)
    assert codec.per_view == wanted or (codec.rank == full and codec.per_view > wanted)


def test_known_ranks_at_a_thousand_classes() -> None:
    shape = LabelShape(10, 300, 1000)
    plans = [Rpca.plan(shape, shape.reference_bytes // ratio, sparse_share=0.0) for ratio in (10, 20, 30, 40, 100)]
    assert [(plan.rank, plan.extra) for plan in plans] == [(23, 0), (11, 5), (7, 6), (5, 7), (2, 3)]
    codec = Rpca.plan(shape, shape.reference_bytes // 10)
    assert (codec.rank, codec.extra, codec.per_view) == (17, 5, 12)
    assert codec.lam == 1000**-0.5 and codec.tolerance == 1e-5


def test_the_first_images_get_the_component_that_others_lack() -> None:
    shape = LabelShape(3, 20, 12)
    logits = labels(shape)
    codec = Rpca(2, 1, 0.2, 1e-7, "float64", extra=1)
    arrays = encode(codec, logits, np.arange(3), shape)
    assert {name: (array.shape, array.dtype.name) for name, array in arrays.items()} == codec.specs(shape)
    decoded = decode(codec, arrays, *held_pairs(codec, shape), shape).reshape(logits.shape)
    for image, rank in enumerate([3, 2, 2]):
        low, sparse = textbook(logits[image].double().numpy(), 0.2, 1e-7)
        u, sigma, v = np.linalg.svd(low, full_matrices=False)
        expected = (u[:, :rank] * sigma[:rank]) @ v[:rank]
        top = np.abs(sparse).argmax(axis=1)
        expected[np.arange(20), top] += sparse[np.arange(20), top]
        np.testing.assert_allclose(decoded[image], expected, atol=1e-3 * np.abs(expected).max())


def refitted(codec: Rpca, matrix: np.ndarray, rank: int) -> np.ndarray:
    """L + S of one image by the alternation as described, with full SVDs in float64."""
    sparse = cut(textbook(matrix, codec.lam, codec.tolerance)[1], codec.per_view)
    for _ in range(3):
        sparse = cut(matrix - truncated(matrix - sparse, rank), codec.per_view)
    return truncated(matrix - sparse, rank) + sparse


def truncated(matrix: np.ndarray, rank: int) -> np.ndarray:
    u, sigma, v = np.linalg.svd(matrix, full_matrices=False)
    return (u[:, :rank] * sigma[:rank]) @ v[:rank]


def cut(matrix: np.ndarray, count: int) -> np.ndarray:
    kept = np.zeros_like(matrix)
    for row, values in zip(kept, matrix, strict=True):
        top = np.argsort(-np.abs(values), kind="stable")[:count]
        row[top] = values[top]
    return kept


@pytest.mark.parametrize("per_view", [0, 1, 3])
def test_refitting_alternates_between_both_parts(per_view: int) -> None:
    shape = LabelShape(3, 20, 12)
    logits = labels(shape)
    codec = Rpca(2, per_view, 0.2, 1e-7, "float64", extra=1, residual="refit")
    decoded = decode(codec, encode(codec, logits, np.arange(3), shape), *held_pairs(codec, shape), shape)
    for image, rank in enumerate([3, 2, 2]):
        matrix = logits[image].double().numpy()
        expected = refitted(codec, matrix, rank)
        if per_view == 0:
            np.testing.assert_allclose(expected, truncated(matrix, rank), atol=1e-12)
        found = decoded.reshape(logits.shape)[image]
        np.testing.assert_allclose(found, expected, atol=2e-3 * np.abs(expected).max())


def error_of(name: str, logits: torch.Tensor, shape: LabelShape, ratio: float, **options: object) -> float:
    codec = CODECS[name].plan(shape, int(shape.reference_bytes / ratio), **options)
    arrays = encode(codec, logits, np.arange(shape.images), shape)
    decoded = decode(codec, arrays, *held_pairs(codec, shape), shape).reshape(logits.shape)
    return float((decoded - logits).norm() / logits.norm())


def sure(n: int, k: int, c: int, value: float) -> torch.Tensor:
    """Logits that are large in one class in every view of an image."""
    logits = labels(LabelShape(n, k, c), seed=1)
    logits[torch.arange(n), :, torch.arange(n) % c] = value
    return logits


@pytest.mark.parametrize("ratio", [4, 8])
def test_refitting_decodes_a_class_that_all_views_agree_on(ratio: int) -> None:
    """With more classes than views the pursuit moves it into S; at 8x there are no bytes for S."""
    shape = LabelShape(20, 30, 40)
    rng = np.random.default_rng(0)
    logits = torch.from_numpy(rng.normal(size=(20, 1, 40)) + 0.1 * rng.normal(size=(20, 30, 40))).float()
    logits[:, :, 7] = 60
    tops = {}
    for residual in ("drop", "refit"):
        codec = Rpca.plan(shape, shape.reference_bytes // ratio, residual=residual)
        arrays = encode(codec, logits, np.arange(20), shape)
        tops[residual] = decode(codec, arrays, *held_pairs(codec, shape), shape)[:, 7]
    assert codec.per_view == (ratio == 4)
    torch.testing.assert_close(tops["refit"], torch.full((600,), 60.0), rtol=1e-2, atol=0)
    assert ratio == 4 or float(tops["drop"].max()) < 40


@pytest.mark.parametrize("shape", [LabelShape(6, 30, 60), LabelShape(6, 60, 30), LabelShape(6, 25, 300)])
@pytest.mark.parametrize("ratio", [4, 8])
def test_refitting_reduces_the_error(shape: LabelShape, ratio: int) -> None:
    for logits in (labels(shape), sure(shape.images, shape.views, shape.classes, 30.0)):
        refit = error_of("rpca", logits, shape, ratio, residual="refit")
        assert refit <= error_of("rpca", logits, shape, ratio) * 1.001
        # Without bytes for S it is the best approximation of this rank.
        alone = error_of("rpca", logits, shape, ratio, residual="refit", sparse_share=0.0)
        assert alone == pytest.approx(error_of("svd", logits, shape, ratio), rel=1e-3)


def test_settings_without_a_remainder_are_unchanged() -> None:
    said = {"rank": 2, "per_view": 1, "lam": 0.2, "tolerance": 1e-5, "precision": "float32"}
    assert Rpca(**said).settings == said and Rpca(**said, extra=3).settings == {**said, "extra": 3}
    assert Rpca(**said, residual="refit").settings == {**said, "residual": "refit"}


REFUSALS = [
    ({"residual": "keep"}, "codec 'rpca': residual is 'keep': input should be 'drop' or 'refit'"),
    ({"precision": "half"}, "codec 'rpca': precision is 'half': input should be 'float32' or 'float64'"),
    ({"sparse_share": 1.5}, "codec 'rpca': sparse_share is 1.5: input should be less than or equal to 1"),
    ({"lam": 0.0}, "codec 'rpca': lam is 0.0: input should be greater than 0"),
    (
        {"tolerance": 1e-7},
        "codec 'rpca': tolerance is 1e-07, below what float32 resolves (3e-06); give a larger one or precision float64",
    ),
]


@pytest.mark.parametrize(("options", "sentence"), REFUSALS)
def test_options_are_checked(options: dict, sentence: str) -> None:
    with pytest.raises(DataError) as caught:
        Rpca.plan(LabelShape(2, 30, 20), 10**6, **options)
    assert str(caught.value) == sentence


def test_too_many_classes_for_columns() -> None:
    with pytest.raises(
        DataError,
        match=r"^codec 'rpca' supports up to 65536 classes, but there are 65537; choose "
        r"codec 'svd'$",
    ):
        Rpca.plan(LabelShape(1, 2, 65537), 10**9)


def test_no_convergence_is_an_error() -> None:
    matrices = labels(LabelShape(2, 20, 12))
    with pytest.raises(DataError, match="2 of 2 images did not reach tolerance 1e-12 in 200 iterations; give a larger"):
        pursue(matrices, lam=0.2, tolerance=1e-12)
