"""CUR against its definition: one matrix at a time in float64, pseudo-inverses by NumPy."""

import numpy as np
import pytest
import torch
from codec_cases import decode, encode, held_pairs, labels
from hypothesis import given, settings
from hypothesis import strategies as st

from dcpipe.compression import join, payload
from dcpipe.compression.cur import Cur, leverage, pivots
from dcpipe.random import philox
from dcpipe.types import DataError, LabelShape


def pivoted(matrix: np.ndarray, rank: int) -> list[int]:
    """Columns picked one by one: the one that the previous ones explain worst."""
    picked: list[int] = []
    for _ in range(rank):
        rest = matrix - matrix[:, picked] @ np.linalg.pinv(matrix[:, picked]) @ matrix if picked else matrix
        lengths = np.linalg.norm(rest, axis=0)
        lengths[picked] = -1
        picked.append(int(np.argmax(lengths)))
    return picked


def scores(matrix: np.ndarray, rank: int) -> np.ndarray:
    """Leverage scores of the columns."""
    return (np.linalg.svd(matrix, full_matrices=False)[2][:rank] ** 2).mean(axis=0)


def crossed(matrix: np.ndarray, columns: list[int], rows: list[int]) -> np.ndarray:
    C, R = matrix[:, columns], matrix[rows]
    return C @ np.linalg.pinv(C) @ matrix @ np.linalg.pinv(R) @ R


def whole(codec: Cur, logits: torch.Tensor, rows: np.ndarray | None = None) -> torch.Tensor:
    shape = LabelShape(*logits.shape)
    arrays = encode(codec, logits, np.arange(shape.images), shape)
    return decode(codec, arrays, *held_pairs(codec, shape), shape).reshape(logits.shape)


def plain(rank: int, extra: int = 0, pick: str = "pivoted_qr", sampling: str = "top", seed: int = 0) -> Cur:
    return Cur(rank, pick, sampling, seed, extra)


SIZES = [(4, 30, 14), (4, 14, 30), (4, 12, 12)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("rank", [1, 4, 10])
def test_pivots_are_those_of_pivoted_qr(size: tuple[int, int, int], rank: int) -> None:
    logits = labels(LabelShape(*size)).double()
    assert pivots(logits, rank).tolist() == [pivoted(matrix.numpy(), rank) for matrix in logits]


@pytest.mark.parametrize("size", SIZES)
def test_leverage_scores_are_those_of_the_singular_vectors(size: tuple[int, int, int]) -> None:
    logits = labels(LabelShape(*size)).double()
    columns, rows = leverage(logits, 3)
    for image, matrix in enumerate(logits.numpy()):
        np.testing.assert_allclose(columns[image], scores(matrix, 3), atol=1e-9)
        np.testing.assert_allclose(rows[image], scores(matrix.T, 3), atol=1e-9)
        assert float(columns[image].sum()) == pytest.approx(1) and float(rows[image].sum()) == pytest.approx(1)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("pick", ["pivoted_qr", "leverage"])
def test_decodes_to_the_definition(size: tuple[int, int, int], pick: str) -> None:
    logits = labels(LabelShape(*size))
    decoded = whole(plain(3, 2, pick), logits)
    for image, rank in enumerate([4, 4, 3, 3]):
        matrix = logits[image].double().numpy()
        if pick == "pivoted_qr":
            columns, rows = pivoted(matrix, rank), pivoted(matrix.T, rank)
        else:
            columns, rows = (np.argsort(-scores(m, rank), kind="stable")[:rank].tolist() for m in (matrix, matrix.T))
        expected = crossed(matrix, columns, rows)
        np.testing.assert_allclose(decoded[image], expected, atol=5e-3 * np.abs(expected).max())


@pytest.mark.parametrize("pick", ["pivoted_qr", "leverage"])
def test_stored_columns_and_rows_are_the_labels_to_the_bit(pick: str) -> None:
    shape = LabelShape(5, 20, 13)
    logits = labels(shape)
    arrays = encode(plain(4, 2, pick), logits, np.arange(5), shape)
    exact = logits.numpy().astype(np.float16)
    for image in range(5):
        columns, rows = list(arrays["left"][image].T), list(arrays["right"][image])
        if image < 2:
            columns.append(arrays["left_more"][image])
            rows.append(arrays["right_more"][image])
        where = [np.flatnonzero((exact[image] == column[:, None]).all(axis=0)) for column in columns]
        assert len({int(place) for place in np.concatenate(where)}) == len(columns)
        where = [np.flatnonzero((exact[image] == row).all(axis=1)) for row in rows]
        assert len({int(place) for place in np.concatenate(where)}) == len(rows)


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 20), st.integers(1, 20), st.integers(1, 4), st.integers(0, 2**32))
def test_planted_labels_of_that_rank_come_back(k: int, c: int, rank: int, seed: int) -> None:
    rank = min(rank, k, c)
    rng = np.random.default_rng(seed)
    # Small integers: exact in fp16, as labels are.
    low = torch.from_numpy(rng.integers(-3, 4, (2, k, rank)) @ rng.integers(-3, 4, (2, rank, c))).float()
    decoded = whole(plain(rank), low)
    assert float((decoded - low).norm()) <= 1e-2 * float(low.norm())


@settings(deadline=None, max_examples=40)
@given(st.integers(2, 20), st.integers(2, 20), st.integers(0, 2**32), st.data())
def test_the_error_of_pivoted_qr_does_not_grow_with_the_budget(k: int, c: int, seed: int, data: st.DataObject) -> None:
    """Its picks are nested. Those by leverage are not, because the scores depend on the rank."""
    shape = LabelShape(3, k, c)
    logits = labels(shape, seed)
    smallest = 6 * (k + c + 1)
    budgets = sorted(data.draw(st.tuples(st.integers(0, 3000), st.integers(0, 3000))))
    errors = [float((whole(Cur.plan(shape, smallest + b), logits) - logits).norm()) for b in budgets]
    assert errors[1] <= errors[0] + 3e-2 * float(logits.norm())  # what rounding U leaves near full rank


@settings(deadline=None, max_examples=100)
@given(st.builds(LabelShape, st.integers(1, 60), st.integers(1, 300), st.integers(2, 1000)), st.floats(1, 60))
def test_arrays_use_the_budget_up_to_one_column_and_row(shape: LabelShape, ratio: float) -> None:
    side = shape.views + shape.classes
    budget = max(int(shape.reference_bytes / ratio), 2 * shape.images * (side + 1))
    codec = Cur.plan(shape, budget)
    size = payload(codec.specs(shape))
    one = 2 * (side + 2 * codec.rank + 1)
    assert size == 2 * shape.images * codec.rank * (side + codec.rank) + codec.extra * one <= budget
    if codec.rank < min(shape.views, shape.classes):
        assert budget - size < one and codec.extra < shape.images
        assert shape.images * codec.rank < 100 or size >= 0.98 * budget
    else:
        assert codec.extra == 0


@pytest.mark.parametrize("options", [{}, {"pick": "leverage", "sampling": "column_select"}])
@pytest.mark.parametrize("extra", [0, 1, 3, 6])
def test_an_image_does_not_depend_on_its_block(options: dict, extra: int) -> None:
    shape = LabelShape(6, 20, 13)
    logits, codec = labels(shape), plain(2, extra, **options)
    parts = (np.arange(2), np.arange(2, 4), np.arange(4, 6))
    joined = join([encode(codec, logits[part], part, shape) for part in parts])
    assert {name: (array.shape, array.dtype.name) for name, array in joined.items()} == codec.specs(shape)
    together = encode(codec, logits, np.arange(6), shape)
    assert all(np.array_equal(joined[name], together[name]) for name in ("left", "right"))
    pairs = held_pairs(codec, shape)
    order = np.random.default_rng(0).permutation(len(pairs[0]))
    found = decode(codec, joined, pairs[0][order], pairs[1][order], shape)
    expected = decode(codec, together, *pairs, shape)[torch.from_numpy(order)]
    torch.testing.assert_close(found, expected, rtol=2e-3, atol=2e-2)


@pytest.mark.parametrize("scale", [2.0**-12, 2.0**-4, 2.0**11])
def test_logits_of_any_scale_decode_equally_well(scale: float) -> None:
    logits = (torch.from_numpy(np.random.default_rng(0).integers(-9, 10, (2, 20, 12))) / 8).float()
    torch.testing.assert_close(whole(plain(3), logits * scale) / scale, whole(plain(3), logits), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("pick", ["pivoted_qr", "leverage"])
def test_nearly_equal_columns_and_rows_do_not_overflow(pick: str) -> None:
    """All labels are 8 except for the last bit: an exact pseudo-inverse multiplies by a million."""
    rng = np.random.default_rng(0)
    logits = torch.from_numpy(8 + rng.integers(0, 2, (3, 30, 20)) / 128).float()
    decoded = whole(plain(6, 1, pick), logits)
    torch.testing.assert_close(decoded, logits, rtol=0, atol=0.02)


def test_column_select_favours_high_scores_as_promised() -> None:
    """The same labels 3,000 times: at rank 1 column j is kept with probability pi_j."""
    matrix = labels(LabelShape(1, 9, 5), seed=4)
    logits, shape = matrix.expand(3000, -1, -1), LabelShape(3000, 9, 5)
    arrays = encode(plain(1, pick="leverage", sampling="column_select", seed=1), logits, np.arange(3000), shape)
    exact = matrix[0].numpy().astype(np.float16)
    kept = (arrays["left"][:, :, 0][:, None] == exact.T[None]).all(axis=2).mean(axis=0)
    np.testing.assert_allclose(kept, scores(matrix[0].double().numpy(), 1), atol=0.035)
    kept = (arrays["right"] == exact[None]).all(axis=2).mean(axis=0)
    np.testing.assert_allclose(kept, scores(matrix[0].double().numpy().T, 1), atol=0.035)


def test_column_select_draws_by_weights_without_replacement() -> None:
    logits = labels(LabelShape(3, 12, 9))
    codec = plain(3, pick="leverage", sampling="column_select", seed=7)
    columns, rows = codec._picks(logits.double(), np.arange(3), 3)
    for image in range(3):
        matrix = logits[image].double().numpy()
        for side, (found, pi) in enumerate([(columns, scores(matrix, 3)), (rows, scores(matrix.T, 3))]):
            u = [int(philox(7, place, 18, image)[side] >> np.uint64(11)) / 2**53 for place in range(len(pi))]
            keys = [-np.log(1 - x) / weight for x, weight in zip(u, pi, strict=True)]
            assert found[image].tolist() == np.argsort(keys)[:3].tolist()


@pytest.mark.parametrize("pick", ["pivoted_qr", "leverage"])
def test_more_columns_than_the_rank_do_no_harm(pick: str) -> None:
    logits = torch.zeros(3, 10, 8)
    logits[1] = 2.5
    logits[2] = torch.arange(8.0)
    torch.testing.assert_close(whole(plain(4, 1, pick), logits), logits, rtol=2e-3, atol=1e-3)
    assert pivots(torch.zeros(1, 4, 5), 4).tolist() == [[0, 1, 2, 3]]


REFUSALS = [
    ({"pick": "best"}, "codec 'cur': pick is 'best': input should be 'pivoted_qr' or 'leverage'"),
    ({"sampling": "all"}, "codec 'cur': sampling is 'all': input should be 'top' or 'column_select'"),
    (
        {"sampling": "column_select"},
        "codec 'cur': sampling 'column_select' uses leverage scores, but pick is 'pivoted_qr'; choose pick leverage",
    ),
]


@pytest.mark.parametrize(("options", "sentence"), REFUSALS)
def test_options_are_checked(options: dict, sentence: str) -> None:
    with pytest.raises(DataError) as caught:
        Cur.plan(LabelShape(2, 30, 20), 10**6, **options)
    assert str(caught.value) == sentence


def test_a_budget_below_rank_one_names_its_size() -> None:
    with pytest.raises(DataError) as caught:
        Cur.plan(LabelShape(7, 12, 9), 100)
    assert str(caught.value) == (
        "codec 'cur': its arrays take at least 308 bytes (4.91x below fp16) but the budget leaves 100 after the "
        "header; choose a smaller ratio or codec 'prune'"
    )
