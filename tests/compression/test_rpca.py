"""Principal component pursuit against the textbook's loop on one matrix with a full SVD, and its truncation."""

import itertools

import numpy as np
import pytest
import torch
from codec_cases import decode, encode, held_pairs, labels
from hypothesis import given, settings
from hypothesis import strategies as st

from dcpipe.compression import CODECS, payload, traded
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
    codec = Rpca.plan(shape, shape.reference_bytes // 3, parts="pursuit", precision="float64")
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
    codec = Rpca.plan(shape, budget, parts="pursuit", sparse_share=share)
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
    assert [plan.traded for plan in plans] == [0] * 5
    fitted = [Rpca.plan(shape, shape.reference_bytes // ratio).traded for ratio in (10, 20, 30, 40, 100)]
    assert fitted == [8, 4, 2, 2, 1]
    codec = Rpca.plan(shape, shape.reference_bytes // 10, parts="pursuit")
    assert (codec.rank, codec.extra, codec.per_view, codec.traded) == (17, 5, 12, None)
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


def fitted(codec: Rpca, matrix: np.ndarray, rank: int, per_view: int) -> np.ndarray:
    """L + S of one image by the alternation as described, with full SVDs in float64, and stored numbers as fp16."""
    sparse = rounded(cut(textbook(matrix, codec.lam, codec.tolerance)[1], per_view))
    for _ in range(4):
        low = stored(matrix - sparse, rank)
        sparse = rounded(cut(matrix - low, per_view))
    return low + sparse


def stored(matrix: np.ndarray, rank: int) -> np.ndarray:
    """The best approximation of a rank, from factors in fp16 that have the roots of the singular values."""
    u, sigma, v = np.linalg.svd(matrix, full_matrices=False)
    roots = np.sqrt(sigma[:rank])
    return rounded(u[:, :rank] * roots) @ rounded(roots[:, None] * v[:rank])


def rounded(values: np.ndarray) -> np.ndarray:
    return values.astype(np.float16).astype(np.float64)


def truncated(matrix: np.ndarray, rank: int) -> np.ndarray:
    u, sigma, v = np.linalg.svd(matrix, full_matrices=False)
    return (u[:, :rank] * sigma[:rank]) @ v[:rank]


def cut(matrix: np.ndarray, count: int) -> np.ndarray:
    kept = np.zeros_like(matrix)
    for row, values in zip(kept, matrix, strict=True):
        top = np.argsort(-np.abs(values), kind="stable")[:count]
        row[top] = values[top]
    return kept


@pytest.mark.parametrize("shape", [LabelShape(6, 24, 16), LabelShape(6, 12, 40), LabelShape(6, 10, 300)])
def test_each_image_trades_what_leaves_the_smallest_error(shape: LabelShape) -> None:
    logits = labels(shape)
    logits[:3] = torch.from_numpy(dense(shape)[:3]).float()  # their sparse part is not worth a component
    codec = Rpca(7, 0, max(shape.views, shape.classes) ** -0.5, 1e-7, "float64", extra=2, traded=4)
    arrays = encode(codec, logits, np.arange(6), shape)
    assert {name: (array.shape, array.dtype.name) for name, array in arrays.items()} == codec.specs(shape)
    decoded = decode(codec, arrays, *held_pairs(codec, shape), shape).reshape(logits.shape)
    chosen = []
    for image, rank in enumerate([8, 8, 7, 7, 7, 7]):
        matrix = logits[image].double().numpy()
        tried = {0: stored(matrix, rank)}
        for count in (1, 2, 4):
            if (per_view := traded.entries(shape, count)) > 0:
                tried[count] = fitted(codec, matrix, rank - count, per_view)
        errors = {count: np.linalg.norm(found - matrix) for count, found in tried.items()}
        chosen.append(min(errors, key=errors.__getitem__))
        np.testing.assert_allclose(decoded[image], tried[chosen[-1]], atol=3e-3 * np.abs(matrix).max())
    assert 0 in chosen and len(set(chosen)) > 1, chosen


def error_of(name: str, logits: torch.Tensor, shape: LabelShape, budget: int, **options: object) -> torch.Tensor:
    """||decoded - logits|| of each image, f64 [n]."""
    codec = CODECS[name].plan(shape, budget, **options)
    arrays = encode(codec, logits, np.arange(shape.images), shape)
    decoded = decode(codec, arrays, *held_pairs(codec, shape), shape).reshape(logits.shape)
    return (decoded - logits).double().norm(dim=(1, 2))


def sure(n: int, k: int, c: int, value: float) -> torch.Tensor:
    """Logits that are large in one class in every view of an image."""
    logits = labels(LabelShape(n, k, c), seed=1)
    logits[torch.arange(n), :, torch.arange(n) % c] = value
    return logits


def dense(shape: LabelShape, seed: int = 0) -> np.ndarray:
    """Labels of full rank with slowly falling singular values."""
    rng, most = np.random.default_rng(seed), min(shape.views, shape.classes)
    sizes = 4 / np.arange(1, most + 1)
    left, right = (
        rng.normal(size=(shape.images, shape.views, most)),
        rng.normal(size=(shape.images, most, shape.classes)),
    )
    return ((left * sizes) @ right).astype(np.float16)


LOGITS = {
    "sparse": labels,
    "sure": lambda shape, seed: sure(shape.images, shape.views, shape.classes, 30.0),
    "dense": lambda shape, seed: torch.from_numpy(dense(shape, seed)).float(),
    "both": lambda shape, seed: labels(shape, seed) + torch.from_numpy(dense(shape, seed)).float(),
    "integers": lambda shape, seed: labels(shape, seed).div(6).round() * 6,
    "constant": lambda shape, seed: torch.full((shape.images, shape.views, shape.classes), float(seed % 9)),
    "huge": lambda shape, seed: (labels(shape, seed) * 900).clamp(-65504, 65504).half().float(),
}
CASES = {
    "shape": st.builds(LabelShape, st.integers(1, 4), st.integers(1, 40), st.integers(1, 70) | st.just(300)),
    "kind": st.sampled_from(sorted(LOGITS)),
    "seed": st.integers(0, 10**6),
    "share": st.floats(0, 1) | st.none(),
}


def budget_for(shape: LabelShape, ratio: float) -> int:
    return max(2 * shape.images * (shape.views + shape.classes), int(shape.reference_bytes / ratio))


@settings(deadline=None, max_examples=150)
@given(**CASES, ratio=st.floats(1, 12))
def test_never_worse_than_svd_in_as_many_bytes(
    shape: LabelShape, kind: str, seed: int, share: float | None, ratio: float
) -> None:
    logits, budget = LOGITS[kind](shape, seed), budget_for(shape, ratio)
    svd = error_of("svd", logits, shape, budget)
    found = error_of("rpca", logits, shape, budget, sparse_share=share)
    assert payload(Rpca.plan(shape, budget, sparse_share=share).specs(shape)) == payload(
        CODECS["svd"].plan(shape, budget).specs(shape)
    )
    # Products round differently in batches of another size.
    assert (found <= svd * (1 + 1e-5) + 1e-6 * logits.double().norm(dim=(1, 2))).all()


@settings(deadline=None, max_examples=100)
@given(**CASES, ratios=st.lists(st.floats(1, 12), min_size=2, max_size=4, unique=True))
def test_more_bytes_never_raise_the_error(
    shape: LabelShape, kind: str, seed: int, share: float | None, ratios: list[float]
) -> None:
    logits = LOGITS[kind](shape, seed)
    budgets = [budget_for(shape, ratio) for ratio in sorted(ratios, reverse=True)]
    errors = [error_of("rpca", logits, shape, budget, sparse_share=share) for budget in budgets]
    for smaller, larger in itertools.pairwise(errors):
        # Factors of fp16 leave an error of this size even at full rank.
        assert (larger <= smaller * (1 + 1e-5) + 3e-4 * logits.double().norm(dim=(1, 2))).all()


@settings(deadline=None, max_examples=40)
@given(**{key: CASES[key] for key in ("shape", "kind", "seed")}, ratio=st.floats(1, 12))
def test_without_a_share_for_s_it_is_svd(shape: LabelShape, kind: str, seed: int, ratio: float) -> None:
    logits, budget = LOGITS[kind](shape, seed), budget_for(shape, ratio)
    packs = [
        encode(codec, logits, np.arange(shape.images), shape)
        for codec in (Rpca.plan(shape, budget, sparse_share=0.0), CODECS["svd"].plan(shape, budget))
    ]
    for name, array in packs[1].items():
        np.testing.assert_array_equal(packs[0][name], array)


@pytest.mark.parametrize("ratio", [4, 8])
def test_a_class_that_all_views_agree_on_is_kept(ratio: int) -> None:
    """With more classes than views the pursuit moves it into S; at 8x there are no bytes for S."""
    shape = LabelShape(20, 30, 40)
    rng = np.random.default_rng(0)
    logits = torch.from_numpy(rng.normal(size=(20, 1, 40)) + 0.1 * rng.normal(size=(20, 30, 40))).float()
    logits[:, :, 7] = 60
    tops = {}
    for parts in ("pursuit", "fitted"):
        codec = Rpca.plan(shape, shape.reference_bytes // ratio, parts=parts)
        arrays = encode(codec, logits, np.arange(20), shape)
        tops[parts] = decode(codec, arrays, *held_pairs(codec, shape), shape)[:, 7]
    torch.testing.assert_close(tops["fitted"], torch.full((600,), 60.0), rtol=1e-2, atol=0)
    assert ratio == 4 or float(tops["pursuit"].max()) < 40


def test_settings_without_a_remainder_are_unchanged() -> None:
    said = {"rank": 2, "per_view": 1, "lam": 0.2, "tolerance": 1e-5, "precision": "float32"}
    assert Rpca(**said).settings == said and Rpca(**said, extra=3).settings == {**said, "extra": 3}
    assert Rpca(**said, traded=0).settings == {**said, "traded": 0}


REFUSALS = [
    ({"parts": "printed"}, "codec 'rpca': parts is 'printed': input should be 'fitted' or 'pursuit'"),
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
