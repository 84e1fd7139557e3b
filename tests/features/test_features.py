"""Features of a block of candidates: direct forward passes, and the rate of labels computed one view at a time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from dcpipe import networks, views
from dcpipe.features import check_shortlist, describe_rates, extract, label_rates, shortlist
from dcpipe.selection import Candidates, Progress
from dcpipe.selection.score import score
from dcpipe.types import DataError, FloatArray, IntArray, Teacher, ViewPolicy

CPU = torch.device("cpu")
CLASSES = ("ant", "bee", "cow", "dog")
N, VIEWS, SIZE = 9, 6, 8
IDS = np.array([31, 4, 15, 92, 65, 35, 8, 97, 93])
IMAGES = np.random.default_rng(0).integers(0, 256, (N, SIZE, SIZE, 3), dtype=np.uint8)
POLICY = ViewPolicy(scale_min=0.3, seed=5)
RATES = {
    "literal": {"input": "tempered", "temperature": 2.0, "coefficient": "literal", "stored_views": 24, "eps2": 0.25},
    "sample": {"input": "logits", "coefficient": "sample", "eps2": 0.5},
    "centred": {"input": "logits", "coefficient": "sample", "eps2": 0.01, "centre": True},
}


def make_teacher() -> Teacher:
    torch.manual_seed(0)
    network = networks.build("convnet-d2-w5", len(CLASSES), SIZE)
    return Teacher("convnet-d2-w5", network.state_dict(), CLASSES, (0.4, 0.5, 0.6), (0.2, 0.25, 0.3), SIZE, {})


TEACHER = make_teacher()
NETWORK = networks.from_teacher(TEACHER, CPU)
EXACT = networks.from_teacher(TEACHER, CPU).double()


def features(
    order: np.ndarray | None = None, *, batch_size: int = 64, rate: str = "literal"
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rows = np.arange(N) if order is None else order
    vectors, logits = extract(NETWORK, TEACHER, IMAGES[rows], batch_size=batch_size, device=CPU)
    rates = label_rates(
        NETWORK,
        TEACHER,
        IMAGES[rows],
        IDS[rows],
        policy=POLICY,
        n_views=VIEWS,
        rate_options=RATES[rate],
        batch_size=batch_size,
        device=CPU,
    )
    return vectors, logits, rates


def test_features_are_computed_in_the_format_that_is_asked_for() -> None:
    vectors = {
        name: extract(NETWORK, TEACHER, IMAGES, batch_size=5, device=CPU, precision=name)[0]  # type: ignore[arg-type]
        for name in ("auto", "float32", "bfloat16")
    }
    rounded = {name: torch.from_numpy(its).bfloat16().float().numpy() for name, its in vectors.items()}
    np.testing.assert_array_equal(vectors["auto"], vectors["float32"])
    np.testing.assert_array_equal(vectors["bfloat16"], rounded["bfloat16"])
    assert not np.array_equal(vectors["float32"], rounded["float32"])
    np.testing.assert_allclose(
        vectors["bfloat16"], vectors["float32"], rtol=0, atol=0.05 * np.abs(vectors["auto"]).max()
    )


def seen(pixels: torch.Tensor) -> torch.Tensor:
    """Normalised by the teacher's own colours, in float64."""
    mean, std = (torch.tensor(value, dtype=torch.float64)[:, None, None] for value in (TEACHER.mean, TEACHER.std))
    return (pixels.double() - mean) / std


def rate_by_hand(labels: np.ndarray, rate: str) -> float:
    """R_C of one image's logits [v, c], as its formula is printed, by the determinant of the large side."""
    v, c = labels.shape
    options = RATES[rate]
    if options["input"] == "tempered":
        powers = np.exp(labels / options["temperature"])
        labels = powers / powers.sum(axis=1, keepdims=True)
    if options.get("centre"):
        labels = labels - labels.mean(axis=0)
    stored = options.get("stored_views")
    scale = stored / c * stored / v if rate == "literal" else c / v
    sign, value = np.linalg.slogdet(np.eye(v) + scale / options["eps2"] * labels @ labels.T)
    assert sign == 1
    return 0.5 * value


def test_vectors_and_logits_are_a_direct_forward_pass() -> None:
    vectors, logits, _ = features()
    inputs = seen(torch.from_numpy(IMAGES).permute(0, 3, 1, 2) / 255)
    body = torch.nn.Sequential(*list(EXACT.children())[:-1])
    assert vectors.dtype == logits.dtype == np.float32
    assert vectors.shape == (N, 5 * 2 * 2) and logits.shape == (N, len(CLASSES))
    np.testing.assert_allclose(vectors, body(inputs).numpy(), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(logits, EXACT(inputs).numpy(), rtol=1e-4, atol=1e-5)
    assert float(vectors.std(axis=0).max()) > 0.05


@pytest.mark.parametrize("rate", RATES)
def test_rates_are_those_of_labels_made_one_view_at_a_time(rate: str) -> None:
    expected = []
    for row in range(N):
        labels = []
        for view in range(VIEWS):
            drawn = views.draw(POLICY, IDS[[row]], np.array([view]), N)
            labels.append(EXACT(seen(views.crop(torch.from_numpy(IMAGES[[row]]), drawn, SIZE)))[0].numpy())
        expected.append(rate_by_hand(np.stack(labels), rate))
    _, _, rates = features(rate=rate)
    assert rates.dtype == np.float64 and rates.shape == (N,)
    np.testing.assert_allclose(rates, expected, rtol=1e-4)
    assert np.ptp(expected) > 1e-3 * np.mean(expected)  # images differ by more than the tolerance


@pytest.mark.parametrize("batch_size", [1, 4, VIEWS, 2 * VIEWS + 1, 1000])
def test_features_do_not_depend_on_the_batch_size(batch_size: int) -> None:
    for found, expected in zip(features(batch_size=batch_size), features(), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_the_same_call_gives_the_same_bytes() -> None:
    assert [array.tobytes() for array in features()] == [array.tobytes() for array in features()]


def test_features_belong_to_ids_not_to_positions() -> None:
    order = np.random.default_rng(1).permutation(N)
    for found, expected in zip(features(order), features(), strict=True):
        np.testing.assert_allclose(found, expected[order], rtol=1e-4, atol=1e-5)


def test_the_spread_of_rates_shows_what_a_beta_can_do() -> None:
    rates = np.array([0.5497, 0.5503] * 50)
    assert describe_rates(rates) == (
        "R_C of 100 images: mean 0.55, standard deviation 0.0003 nats; selection subtracts beta times R_C, so a beta "
        "of 0.1 shifts gains by about 3e-05 nats"
    )


# --- the shortlist ---

LABELS = np.array([2, 0, 1, 1, 0, 2, 2, 0, 1, 0, 2, 1])
VECTORS = np.random.default_rng(2).normal(size=(12, 3)).astype(np.float32)


def ranks(folder: Path, per_class: int = 3, **options: object) -> IntArray:
    return shortlist(VECTORS, LABELS, 3, per_class=per_class, alpha=2.0, eps2=0.5, device=CPU, folder=folder, **options)


def test_a_shortlist_is_what_score_without_label_rates_would_pick(tmp_path: Path) -> None:
    order = np.argsort(LABELS, kind="stable")
    pool = Candidates(VECTORS[order], np.zeros((12, 3)), np.zeros(12), np.array([0, 4, 8, 12]))
    picks = score(pool, 3, 0, Progress(), alpha=2.0, beta=0.0, eps2=0.5)
    found = ranks(tmp_path)
    for place, row in enumerate(order[picks.rows]):
        assert found[row] == place // 3
    assert (found == -1).sum() == 12 - 9
    for label in range(3):
        assert sorted(found[label == LABELS]) == [-1, 0, 1, 2]


def test_a_killed_shortlist_goes_on_from_what_it_had_chosen(tmp_path: Path) -> None:
    seen: list[tuple[IntArray, FloatArray]] = []
    whole = ranks(tmp_path, report=lambda rows, gains: seen.append((rows.copy(), gains.copy())))
    assert len(seen[0][0]) < len(seen[-1][0]) == 9
    rows, gains = seen[len(seen) // 2]
    again: list[int] = []
    rest = ranks(tmp_path, earlier={"rows": rows, "gains": gains}, report=lambda rows, gains: again.append(len(rows)))
    assert np.array_equal(rest, whole) and again[0] > len(rows)


def test_a_shortlist_longer_than_a_class_is_refused() -> None:
    check_shortlist(4, LABELS, CLASSES[:3])
    with pytest.raises(DataError) as error:
        check_shortlist(4, LABELS[1:], CLASSES[:3])
    assert str(error.value) == (
        "features.label_rate.shortlist.per_class is 4 but class 'cow' has 3 images; lower it, or leave the shortlist "
        "out"
    )
