"""R_C against Eq. 7 by definition, one determinant at a time."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dcpipe.coding_rate.label_rate import label_rate
from dcpipe.types import DataError, FloatArray

INPUTS = ("tempered", "probabilities", "logits")


def softmax(z: FloatArray) -> FloatArray:
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def by_definition(
    logits: FloatArray,
    input: str,
    temperature: float,
    coefficient: str,
    stored: int,
    eps2: float,
    centre: bool = False,
    unit_rows: bool = False,
) -> float:
    """Eq. 7 of one image [v, c], on the view side whatever its size."""
    views, classes = logits.shape
    y = {"tempered": softmax(logits / temperature), "probabilities": softmax(logits), "logits": logits}[input]
    longest = max(np.sqrt((row**2).sum()) for row in y)
    if centre:
        y = np.stack([row - sum(y) / views for row in y])
    if unit_rows:
        lengths = [np.sqrt((row**2).sum()) for row in y]
        y = np.stack([row / s if s > 1e-9 * longest else 0 * row for row, s in zip(y, lengths, strict=True)])
    a = {"literal": stored / (classes * eps2) * stored / views, "sample": classes / (views * eps2)}[coefficient]
    return float(np.linalg.slogdet(np.eye(views) + a * y @ y.T)[1]) / 2


def made(n: int, v: int, c: int, seed: int = 0) -> FloatArray:
    return np.random.Generator(np.random.Philox(seed)).standard_normal((n, v, c)) * 3


@settings(deadline=None, max_examples=80)
@given(
    st.tuples(st.integers(1, 4), st.integers(1, 6), st.integers(1, 6)),
    st.sampled_from(INPUTS),
    st.sampled_from(["literal", "sample"]),
    st.floats(0.5, 50),
    st.integers(1, 300),
    st.floats(0.01, 2),
    st.integers(0, 999),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
def test_equals_the_definition(
    shape: tuple[int, int, int],
    input: str,
    coefficient: str,
    temperature: float,
    stored: int,
    eps2: float,
    seed: int,
    repeat: bool,
    centre: bool,
    unit_rows: bool,
) -> None:
    logits = made(*shape, seed=seed)
    if repeat:
        logits[:, -1] = logits[:, 0]
    found = label_rate(
        torch.from_numpy(logits),
        input=input,
        temperature=temperature,
        coefficient=coefficient,
        stored_views=stored,
        eps2=eps2,
        centre=centre,
        unit_rows=unit_rows,
    )
    expected = [by_definition(one, input, temperature, coefficient, stored, eps2, centre, unit_rows) for one in logits]
    assert found.dtype == torch.float64
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("shape", [(3, 300, 10), (3, 16, 200)])
def test_real_sizes_on_either_side(shape: tuple[int, int, int]) -> None:
    logits = made(*shape)
    found = label_rate(torch.from_numpy(logits))
    expected = [by_definition(one, "tempered", 20.0, "literal", 300, 0.5) for one in logits]
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-10)


@pytest.mark.parametrize("shape", [(1, 30, 4), (1, 4, 30)])
def test_the_smaller_side_is_factorised(shape: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[torch.Size] = []
    cholesky = torch.linalg.cholesky
    monkeypatch.setattr(torch.linalg, "cholesky", lambda a: sizes.append(a.shape) or cholesky(a))
    label_rate(torch.from_numpy(made(*shape)))
    assert sizes == [(1, 4, 4)]


def test_golden_defaults() -> None:
    logits = torch.arange(24, dtype=torch.float32).reshape(1, 4, 6).remainder(7)
    assert label_rate(logits).item() == pytest.approx(GOLDEN, abs=1e-10)


GOLDEN = 8.222378826978764


@settings(deadline=None, max_examples=20)
@given(st.sampled_from(INPUTS), st.sampled_from([1, 2, 5]), st.integers(0, 99))
def test_a_subsample_stands_for_its_copies(input: str, copies: int, seed: int) -> None:
    """Where the other views repeat the measured ones, both conventions give the rate of all of them."""
    few = torch.from_numpy(made(2, 4, 7, seed))
    stored = 4 * copies
    for coefficient in ("literal", "sample"):
        measured = label_rate(few, input=input, coefficient=coefficient, stored_views=stored)
        whole = label_rate(few.repeat(1, copies, 1), input=input, coefficient=coefficient, stored_views=stored)
        np.testing.assert_allclose(measured.numpy(), whole.numpy(), rtol=1e-10)


@settings(deadline=None, max_examples=20)
@given(st.permutations(range(5)), st.permutations(range(4)))
def test_order_of_views_and_classes_does_not_matter(views: list[int], classes: list[int]) -> None:
    logits = torch.from_numpy(made(2, 5, 4))
    moved = logits[:, views][:, :, classes]
    np.testing.assert_allclose(label_rate(moved).numpy(), label_rate(logits).numpy(), rtol=1e-10)


def test_views_that_agree_are_cheaper_than_views_that_differ() -> None:
    same = torch.zeros(1, 8, 10)
    same[:, :, 0] = 12.0
    varied = torch.zeros(1, 8, 10)
    varied[0, torch.arange(8), torch.arange(8)] = 12.0
    for coefficient in ("literal", "sample"):
        rates = label_rate(torch.cat([same, varied]), input="probabilities", coefficient=coefficient)
        assert rates[0] < rates[1]


@pytest.mark.parametrize("input", INPUTS)
@pytest.mark.parametrize("coefficient", ["literal", "sample"])
def test_centred_labels_that_do_not_vary_cost_nothing(input: str, coefficient: str) -> None:
    """However confident the teacher is; without `centre`, a confident teacher makes the same labels more expensive."""
    sure, unsure = torch.zeros(1, 8, 10), torch.zeros(1, 8, 10)
    sure[:, :, 3], unsure[:, :, 3] = 30.0, 2.0
    both = torch.cat([sure, unsure])
    assert label_rate(both, input=input, coefficient=coefficient, centre=True).tolist() == pytest.approx([0, 0])
    plain = label_rate(both, input=input, coefficient=coefficient)
    assert plain[0] > plain[1] > 0


@settings(deadline=None, max_examples=30)
@given(st.sampled_from(["literal", "sample"]), st.booleans(), st.floats(0.01, 100), st.integers(0, 99))
def test_only_the_directions_of_unit_rows_count(coefficient: str, centre: bool, length: float, seed: int) -> None:
    logits = torch.from_numpy(made(3, 6, 4, seed))
    options = {"input": "logits", "coefficient": coefficient, "centre": centre, "unit_rows": True}
    np.testing.assert_allclose(label_rate(logits * length, **options), label_rate(logits, **options), rtol=1e-9)


def test_centred_rates_rank_images_by_their_variation_and_others_by_confidence() -> None:
    """Image i has i times the noise of the first; its teacher is the less confident the more its labels vary."""
    noise, level = made(8, 50, 20), np.arange(1, 9)[:, None, None]
    logits = 0.02 * level * noise
    logits[:, :, 0] += 60 - 6 * level[:, 0]
    found = [
        label_rate(torch.from_numpy(logits), temperature=20.0, centre=centre).argsort().tolist()
        for centre in (True, False)
    ]
    assert found == [list(range(8)), list(range(7, -1, -1))]


def test_the_mean_of_logits_does_not_matter_to_centred_rates() -> None:
    logits, moved = made(3, 9, 5), made(3, 1, 5, seed=1) * 10
    for coefficient in ("literal", "sample"):
        options = {"input": "logits", "coefficient": coefficient, "centre": True}
        found = label_rate(torch.from_numpy(logits + moved), **options)
        np.testing.assert_allclose(found.numpy(), label_rate(torch.from_numpy(logits), **options).numpy(), rtol=1e-9)


def test_a_constant_row_has_a_closed_form() -> None:
    # Y = 1/c everywhere: one eigenvalue a v / c, here 300 / (5 * 0.5) * 300 / 6 * 6 / 5.
    rate = label_rate(torch.zeros(1, 6, 5))
    assert rate.item() == pytest.approx(np.log1p(300 / (5 * 0.5) * 300 / 6 * 6 / 5) / 2, abs=1e-12)


def test_half_precision_logits_are_read_as_they_are() -> None:
    half = torch.from_numpy(made(2, 5, 4)).half()
    assert label_rate(half).tolist() == label_rate(half.double()).tolist()


def test_no_image_is_no_rate() -> None:
    assert label_rate(torch.zeros(0, 4, 3)).shape == (0,)


@pytest.mark.gpu
def test_a_cuda_device_gives_the_same_rates() -> None:
    logits = torch.from_numpy(made(64, 16, 50))
    np.testing.assert_allclose(label_rate(logits.cuda()).cpu().numpy(), label_rate(logits).numpy(), rtol=1e-10)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"input": "labels"}, "label_rate.input is 'labels'; choose one of tempered, probabilities, logits"),
        ({"coefficient": "both"}, "label_rate.coefficient is 'both'; choose one of literal, sample"),
        ({"temperature": 0.0}, "label_rate.temperature is 0.0; give a number above 0"),
        ({"stored_views": 0}, "label_rate.stored_views is 0; give a number above 0"),
        ({"eps2": -1.0}, "label_rate.eps2 is -1.0; give a number above 0"),
    ],
)
def test_errors_name_the_option_and_the_remedy(options: dict[str, object], sentence: str) -> None:
    with pytest.raises(DataError) as error:
        label_rate(torch.zeros(1, 2, 3), **options)
    assert str(error.value) == sentence


def test_errors_of_the_logits() -> None:
    with pytest.raises(DataError) as error:
        label_rate(torch.zeros(2, 3))
    assert str(error.value) == "label_rate: logits must be [n, v, c], got [2, 3]; stack the views on axis 1"
    with pytest.raises(DataError) as error:
        label_rate(torch.full((1, 2, 3), float("nan")))
    assert str(error.value) == "label_rate: logits contain NaN or infinity; check the teacher"
