"""The k largest logits against FKD's rules for probabilities, written out label by label."""

import numpy as np
import pytest
import torch
from codec_cases import decode, encode, held_pairs, labels
from hypothesis import given, settings
from hypothesis import strategies as st

from dcpipe import training
from dcpipe.compression import join, payload
from dcpipe.compression.topk import Topk
from dcpipe.types import DataError, LabelShape

SHAPE = LabelShape(4, 6, 30)
ROWS = np.arange(4)
KINDS = ("hard", "smoothing", "marginal_smoothing", "marginal_renorm", "minimum")
MARGINAL = ("marginal_smoothing", "marginal_renorm", "minimum")
shapes = st.builds(LabelShape, st.integers(1, 6), st.integers(1, 300), st.integers(2, 1000))
small = st.builds(LabelShape, st.integers(1, 5), st.integers(1, 7), st.integers(2, 40))


def softmax(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    powers = np.exp((logits - logits.max()) / temperature)
    return powers / powers.sum()


def ranked(logits: np.ndarray, k: int) -> list[int]:
    """Classes of the k largest logits; ties go to the lower class."""
    return sorted(range(len(logits)), key=lambda c: (-logits[c], c))[:k]


def rule(kind: str, p: np.ndarray, kept: list[int]) -> np.ndarray:
    """What FKD makes of the probabilities of one label, from the classes it keeps."""
    q = np.zeros_like(p)
    if kind == "hard":
        q[kept[0]] = 1
    elif kind == "marginal_renorm":
        q[kept] = p[kept] / p[kept].sum()
    else:
        q[:] = (1 - p[kept].sum()) / (len(p) - len(kept))
        q[kept] = p[kept]
    return q


def counts_of(codec: Topk, shape: LabelShape) -> np.ndarray:
    """Entries of each label: the first `extra` views, image by image, have one more."""
    return codec.per_view + (np.arange(shape.images * shape.views) < codec.extra)


def recoded(codec: Topk, logits: torch.Tensor, shape: LabelShape) -> torch.Tensor:
    arrays = encode(codec, logits, np.arange(shape.images), shape)
    return decode(codec, arrays, *held_pairs(codec, shape), shape)


def planned(kind: str, shape: LabelShape, ratio: float, **options: object) -> Topk:
    return Topk.plan(shape, int(shape.reference_bytes / ratio), kind=kind, **options)


@pytest.mark.parametrize("kind", KINDS[:-1])
def test_at_temperature_one_students_see_fkds_distribution(kind: str) -> None:
    codec = planned(kind, SHAPE, 3)
    assert kind not in MARGINAL or (codec.per_view, codec.extra) == (6, 16)  # 480 bytes, 3 an entry, 24 labels
    logits = labels(SHAPE) / 2
    decoded = recoded(codec, logits, SHAPE).double().numpy()
    for label, found, k in zip(logits.double().flatten(0, 1).numpy(), decoded, counts_of(codec, SHAPE), strict=True):
        # A logit is off by at most half a unit in fp16's last place, 2^-11 of its size.
        np.testing.assert_allclose(softmax(found), rule(kind, softmax(label), ranked(label, k)), rtol=0.03, atol=1e-12)


@pytest.mark.parametrize("temperature", [0.5, 4.0, 20.0])
def test_renorm_is_mr_k_at_every_temperature_to_the_bit(temperature: float) -> None:
    codec, logits = planned("marginal_renorm", SHAPE, 3), labels(SHAPE)
    softened = training.soften(recoded(codec, logits, SHAPE), temperature)
    for label, found, k in zip(logits.flatten(0, 1), softened, counts_of(codec, SHAPE), strict=True):
        kept = ranked(label.tolist(), k)
        expected = torch.zeros(SHAPE.classes)
        expected[kept] = torch.softmax(label[kept] / temperature, dim=0)
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-9)
        assert set(torch.nonzero(found)[:, 0].tolist()) <= set(kept)


@pytest.mark.parametrize("bits", [16, 8])
@pytest.mark.parametrize("temperature", [1.0, 4.0, 20.0])
def test_minimum_fills_with_the_smallest_logit_and_its_divergence_is_finite(bits: int, temperature: float) -> None:
    codec, logits = planned("minimum", SHAPE, 3, bits=bits), labels(SHAPE)
    decoded = recoded(codec, logits, SHAPE).double().numpy()
    for label, found, k in zip(logits.double().flatten(0, 1).numpy(), decoded, counts_of(codec, SHAPE), strict=True):
        kept = ranked(label, k)
        filled = np.full_like(label, label.min())
        filled[kept] = label[kept]
        step = (label.max() - label.min()) * (2**-11 if bits == 16 else 0.51 / 255)
        np.testing.assert_allclose(found, filled - label.min(), atol=step + 1e-3)
        p, q = softmax(label, temperature), softmax(found, temperature)
        assert 0 <= (p * np.log(p / q)).sum() < 20 / temperature


@pytest.mark.parametrize("kind", ["smoothing", "marginal_smoothing"])
@pytest.mark.parametrize("exact_at", [1.0, 4.0, 20.0])
def test_the_others_mass_is_exact_at_its_temperature_and_too_large_above(kind: str, exact_at: float) -> None:
    codec, logits = planned(kind, SHAPE, 3, temperature=exact_at), labels(SHAPE)
    decoded = recoded(codec, logits, SHAPE).double().numpy()
    for label, found, k in zip(logits.double().flatten(0, 1).numpy(), decoded, counts_of(codec, SHAPE), strict=True):
        kept = ranked(label, k)
        for temperature in (1.0, 4.0, 20.0, 60.0):
            true, ours = (1 - softmax(z, temperature)[kept].sum() for z in (label, found))
            assert temperature != exact_at or ours == pytest.approx(true, rel=0.03, abs=1e-12)
            assert temperature <= exact_at or ours > true * 0.97
            assert temperature >= exact_at or ours < true * 1.03 + 1e-12
        # Stored classes keep their ratios at every temperature.
        np.testing.assert_allclose(found[kept] - found[kept[0]], label[kept] - label[kept[0]], atol=0.05)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("temperature", [1.0, 20.0])
def test_no_nan_reaches_a_student(kind: str, temperature: float) -> None:
    codec, logits = planned(kind, SHAPE, 4), 40 * labels(SHAPE)  # sure labels, tails that underflow
    target = training.soften(recoded(codec, logits, SHAPE), temperature)
    student = (100 * torch.randn(target.shape, generator=torch.Generator().manual_seed(0))).requires_grad_()
    loss = training.divergence(temperature)(student, target)
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(student.grad).all() and float(loss.detach()) > 0
    torch.testing.assert_close(target.sum(dim=1), torch.ones(len(target)))
    mixed = 0.3 * target + 0.7 * target.flip(0)  # as labels mixed in training are
    assert torch.isfinite(training.divergence(temperature)(student, mixed))


@pytest.mark.parametrize("kind", MARGINAL)
def test_a_full_table_loses_nothing(kind: str) -> None:
    logits = labels(SHAPE)
    codec = Topk.plan(SHAPE, 10 * SHAPE.reference_bytes, kind=kind)
    assert (codec.per_view, codec.extra) == (30 - (kind != "marginal_renorm"), 0)
    decoded = recoded(codec, logits, SHAPE)
    if kind == "marginal_renorm":
        assert torch.equal(decoded, logits.flatten(0, 1))
    else:
        shifted = logits.flatten(0, 1) - logits.flatten(0, 1).amin(dim=1, keepdim=True)
        torch.testing.assert_close(decoded, shifted, rtol=6e-4, atol=0)


@settings(deadline=None, max_examples=30)
@given(small, st.sampled_from(MARGINAL), st.floats(1.5, 8), st.integers(0, 2**16))
def test_eight_bits_are_within_half_a_step(shape: LabelShape, kind: str, ratio: float, seed: int) -> None:
    try:
        codec = planned(kind, shape, ratio, bits=8)
    except DataError:
        return
    logits = labels(shape, seed)
    found = recoded(codec, logits, shape).double().numpy()
    for label, decoded, k in zip(logits.double().flatten(0, 1).numpy(), found, counts_of(codec, shape), strict=True):
        kept = ranked(label, k)
        rest = label.min()
        if kind == "marginal_renorm":
            rest = label[kept].min()
            assert np.isneginf(np.delete(decoded, kept)).all()
        elif kind == "minimum":
            assert (np.delete(decoded, kept) == 0).all()
        elif k < shape.classes:
            others = np.delete(label, kept)
            rest = others.max() + np.log(np.exp(others - others.max()).mean())
            assert (np.delete(decoded, kept) == 0).all()
        step = (label[kept].max() - rest) / 255
        np.testing.assert_allclose(decoded[kept], label[kept] - rest, atol=0.51 * step + 1e-5)


@settings(deadline=None, max_examples=200)
@given(shapes, st.sampled_from(MARGINAL), st.sampled_from([16, 8]), st.floats(1, 300))
def test_the_budget_is_used_up_to_one_entry(shape: LabelShape, kind: str, bits: int, ratio: float) -> None:
    count, entry = shape.images * shape.views, bits // 8 + (1 if shape.classes <= 256 else 2)
    steps = 2 * count if bits == 8 else 0
    budget = max(int(shape.reference_bytes / ratio), count * entry + steps)
    codec = Topk.plan(shape, budget, kind=kind, bits=bits)
    most = shape.classes - (kind != "marginal_renorm")
    assert 1 <= codec.per_view <= most and 0 <= codec.extra < count
    size = payload(codec.specs(shape))
    assert size == entry * counts_of(codec, shape).sum() + steps <= budget
    assert codec.per_view == most or budget - size < entry
    assert codec.per_view == most or size > 0.98 * budget or budget < 50 * entry


def test_known_counts_at_a_thousand_classes() -> None:
    shape = LabelShape(2, 300, 1000)
    plans = [planned("marginal_renorm", shape, ratio) for ratio in (10, 20, 30, 40, 100)]
    assert [codec.per_view for codec in plans] == [50, 25, 16, 12, 5]
    assert [codec.extra for codec in plans] == [0, 0, 400, 300, 0]
    assert payload(plans[2].specs(shape)) == shape.reference_bytes // 30
    assert payload(planned("hard", shape, 10).specs(shape)) == 2 * 600
    assert payload(planned("smoothing", shape, 10).specs(shape)) == 4 * 600


@settings(deadline=None, max_examples=40)
@given(small, st.sampled_from(MARGINAL[:2]), st.data())
def test_the_divergence_does_not_grow_with_the_budget(shape: LabelShape, kind: str, data: st.DataObject) -> None:
    """Renorm by KL(q || p) = -log of the kept mass, smoothing by KL(p || q): one entry more never hurts a label."""
    logits = labels(shape, data.draw(st.integers(0, 2**16)))
    budgets = sorted(data.draw(st.lists(st.integers(0, 2 * shape.reference_bytes), min_size=2, max_size=4)))
    p = torch.softmax(logits.flatten(0, 1).double(), dim=1)
    least = shape.images * shape.views * 3
    before = torch.full((len(p),), torch.inf, dtype=torch.float64)
    for budget in budgets:
        q = torch.softmax(recoded(Topk.plan(shape, least + budget, kind=kind), logits, shape).double(), dim=1)
        ours, theirs = (q, p) if kind == "marginal_renorm" else (p, q)
        after = (torch.xlogy(ours, ours) - torch.xlogy(ours, theirs)).sum(dim=1)
        assert (after <= before + 1e-3).all()
        before = after


@settings(deadline=None, max_examples=30)
@given(small, st.sampled_from(MARGINAL), st.sampled_from([16, 8]), st.data())
def test_blocks_and_order_do_not_matter(shape: LabelShape, kind: str, bits: int, data: st.DataObject) -> None:
    try:
        codec = planned(kind, shape, data.draw(st.floats(1, 6)), bits=bits)
    except DataError:
        return
    logits = labels(shape).round()  # many ties
    whole = encode(codec, logits, np.arange(shape.images), shape)
    at = data.draw(st.lists(st.integers(1, shape.images), max_size=3))
    parts = [part for part in np.split(np.arange(shape.images), sorted(set(at))) if len(part)]
    joined = join([encode(codec, logits[part], part, shape) for part in parts])
    for name, array in whole.items():
        np.testing.assert_array_equal(joined[name], array)
    rows, stored = held_pairs(codec, shape)
    order = np.array(data.draw(st.permutations(range(len(rows)))))
    decoded = decode(codec, joined, rows[order], stored[order], shape)
    assert torch.equal(decoded, decode(codec, whole, rows, stored, shape)[torch.from_numpy(order)])


def test_recovers_what_was_planted() -> None:
    """Three classes above equal others, as smoothing assumes, so three entries are exact."""
    shape = LabelShape(3, 8, 400)
    rng = np.random.default_rng(0)
    logits = np.full((3, 8, 400), -2.0)
    for label in logits.reshape(-1, 400):
        label[rng.choice(400, 3, replace=False)] = rng.integers(1, 16, 3)
    codec = Topk.plan(shape, 24 * 12, kind="marginal_smoothing")
    assert (codec.per_view, codec.extra) == (3, 0)
    arrays = encode(codec, torch.from_numpy(logits).float(), np.arange(3), shape)
    assert arrays["classes"].dtype == np.uint16 and arrays["values"].dtype == np.float16
    decoded = decode(codec, arrays, *held_pairs(codec, shape), shape)
    torch.testing.assert_close(decoded, torch.from_numpy(logits + 2).float().flatten(0, 1), rtol=1e-3, atol=1e-4)


def test_ties_go_to_the_lower_class() -> None:
    shape = LabelShape(1, 2, 300)
    logits = torch.zeros(1, 2, 300)
    logits[0, 1, 299] = 1
    codec = Topk("marginal_renorm", 2, 1, 16, 1.0)
    arrays = encode(codec, logits, np.arange(1), shape)
    assert arrays["classes"].tolist() == [[0, 1], [299, 0]] and arrays["classes_more"].tolist() == [2]


REFUSALS = [
    (
        {"kind": "soft"},
        "codec 'topk': kind is 'soft': input should be 'hard', 'smoothing', 'marginal_smoothing', 'marginal_renorm' "
        "or 'minimum'",
    ),
    ({"bits": 4}, "codec 'topk': bits is 4: input should be 16 or 8"),
    (
        {"kind": "smoothing", "bits": 8},
        "codec 'topk': bits is 8, but kind smoothing stores at most one value per view, so a step would save nothing; "
        "leave bits at 16",
    ),
    ({"temperature": 0.0, "kind": "smoothing"}, "codec 'topk': temperature is 0.0: input should be greater than 0"),
    (
        {"temperature": 4.0},
        "codec 'topk': temperature is 4.0, but kind marginal_renorm does not depend on it; leave it at 1",
    ),
]


@pytest.mark.parametrize(("options", "sentence"), REFUSALS)
def test_options_are_checked(options: dict, sentence: str) -> None:
    with pytest.raises(DataError) as caught:
        Topk.plan(SHAPE, 10**6, **options)
    assert str(caught.value) == sentence


def test_the_smallest_size_is_named() -> None:
    with pytest.raises(DataError) as caught:
        Topk.plan(SHAPE, 70)
    assert str(caught.value) == (
        "codec 'topk': its arrays take at least 72 bytes (20.00x below fp16) but the budget leaves 70 after the "
        "header; choose a smaller ratio or codec 'prune_topk'"
    )
    with pytest.raises(DataError, match=r"^codec 'topk': its arrays take at least 24 bytes \(60.00x below fp16\)"):
        Topk.plan(SHAPE, 23, kind="hard")


def test_too_many_classes_to_name() -> None:
    sentence = "^codec 'topk' supports up to 65536 classes, but there are 65537; choose codec 'svd'$"
    with pytest.raises(DataError, match=sentence):
        Topk.plan(LabelShape(1, 2, 65537), 10**9)
