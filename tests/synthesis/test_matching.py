"""The matching loss is Eq. 5 of EDC, written out as loops over layers, norms and classes of pooled pixels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from slow_observers import inputs_of, teacher_of
from slow_observers import pooled as slow_pooled

from dcpipe.synthesis.matching import Matcher, Matching, needs_statistics, pooled
from dcpipe.synthesis.observers import Observer
from dcpipe.synthesis.statistics import Statistics
from dcpipe.types import DataError, FloatArray, Teacher

CPU = torch.device("cpu")
SIZE, PATCH = 16, 4
LABELS = torch.tensor([0, 2, 0, 0, 2])  # unequal counts, and a class that is not there
NETS = ("resnet10-w2", "convnet-d2-w3")
FIELDS = ("rows", "targets", "weights", "layer_weights")


def observer_of(name: str, layers: str = "bn+conv") -> Observer:
    """In float64."""
    observer = Observer("it", teacher_of(name, SIZE), CPU, layers=layers, patch=PATCH)
    observer.network.double()
    return observer


def images_of(n: int, seed: int = 0) -> FloatArray:
    rng = np.random.default_rng(seed)
    return rng.uniform(size=(n, 3, SIZE, SIZE)) * rng.uniform(0.3, 1.0, size=(n, 1, 1, 1))


def statistics_of(observer: Observer, seed: int = 3) -> Statistics:
    """Any numbers: targets need not be of real images."""
    rng = np.random.default_rng(seed)
    shapes = ((observer.entries,), (observer.entries,), (3, observer.entries), (3, observer.entries))
    parts = [torch.from_numpy(rng.uniform(0.1, 1.5, shape).astype(np.float32)) for shape in shapes]
    return Statistics(*parts, torch.tensor([4, 4, 4]))


def exact(matcher: Matcher) -> Matcher:
    """In float64."""
    for name in FIELDS:
        setattr(matcher, name, getattr(matcher, name).double())
    return matcher


def layout(watched: dict[str, tuple[str, FloatArray]]) -> list[tuple[str, str, slice]]:
    """Layer, kind and entries of every norm, in order."""
    found: list[tuple[str, str, slice]] = []
    for name, (kind, values) in watched.items():
        lengths = [(kind, values.shape[1])]
        if kind == "conv":
            lengths.append(("patch", 1 if values.shape[2] == 1 else (-(-values.shape[2] // PATCH)) ** 2))
        for each, length in lengths:
            first = found[-1][2].stop if found else 0
            found.append((name, each, slice(first, first + length)))
    return found


def apart(a: FloatArray, b: FloatArray) -> float:
    """Sum of two Euclidean norms: of means, of variances; both [2, entries]."""
    return float(sum(np.sqrt(((x - y) ** 2).sum()) for x, y in zip(a, b, strict=True)))


@dataclass(frozen=True)
class Slow:
    """What loops over the pixels of all images, and of each class's, find at every entry: [2, entries] each."""

    teacher: Teacher
    layout: list[tuple[str, str, slice]]
    labels: list[int]
    every: FloatArray
    own: dict[int, FloatArray]


@cache
def slow_of(name: str, layers: str = "bn+conv") -> Slow:
    """Of `images_of(5)`, labelled `LABELS`."""
    teacher, labels = teacher_of(name, SIZE), LABELS.tolist()
    watched = inputs_of(teacher, images_of(5), layers)
    groups = {c: [row for row, label in enumerate(labels) if label == c] for c in set(labels)}
    own = {c: slow_pooled(watched, rows, PATCH) for c, rows in groups.items()}
    return Slow(teacher, layout(watched), labels, slow_pooled(watched, list(range(5)), PATCH), own)


def slow_loss(slow: Slow, statistics: Statistics, choices: Matching, dropped: tuple[str, ...] = ()) -> float:
    measured = torch.stack([statistics.mean, statistics.variance]).double().numpy()
    class_measured = torch.stack([statistics.class_mean, statistics.class_variance]).double().numpy()
    shares = {c: slow.labels.count(c) / len(slow.labels) for c in slow.own}
    total = 0.0
    for layer, kind, span in slow.layout:
        target = measured[:, span]
        if kind == "bn" and choices.norms == "running":
            weights = slow.teacher.weights
            target = np.stack([weights[f"{layer}.running_{which}"].double().numpy() for which in ("mean", "var")])
        wanted = {c: class_measured[:, c, span] for c in shares}
        if kind == "patch" and choices.swapped:
            wanted = {c: its[::-1] for c, its in wanted.items()}
        loss = choices.alpha * apart(slow.every[:, span], target)
        if choices.classes == "mixture":
            mean = sum(share * wanted[c] for c, share in shares.items())
            loss += (1 - choices.alpha) * apart(slow.every[:, span], mean)
        else:
            for c, share in shares.items():
                loss += (1 - choices.alpha) * share * apart(slow.own[c][:, span], wanted[c])
        if layer not in dropped:
            total += loss * (choices.first if layer == slow.layout[0][0] else 1.0)
    return total


VARIANTS: list[dict[str, Any]] = [
    {"alpha": alpha, "classes": classes, "norms": norms}
    for alpha, classes, norms in product((0.0, 0.3, 1.0), ("each", "mixture"), ("running", "measured"))
] + [
    {"alpha": 0.3, "first": 1.0},
    {"alpha": 0.3, "swapped": True},
    {"alpha": 0.3, "classes": "mixture", "swapped": True},
]


@pytest.mark.parametrize("name", NETS)
def test_loss_is_equation_5_written_as_loops(name: str) -> None:
    observer = observer_of(name)
    statistics = statistics_of(observer)
    _, means, variances = observer.measure(torch.from_numpy(images_of(5)))
    found = []
    for options in VARIANTS:
        choices = Matching(**options)
        loss = exact(Matcher(observer, statistics, LABELS, choices)).loss(means, variances)
        slow = slow_loss(slow_of(name), statistics, choices)
        assert float(loss) == pytest.approx(slow, rel=1e-6), options
        found.append(round(float(loss), 6))
    # The convnet has no batch norm, so `norms` has no effect; at alpha = 1 the classes have none.
    assert len(set(found)) == (11 if name == "resnet10-w2" else 6 + 2)


def test_batch_norms_alone() -> None:
    observer = observer_of("resnet10-w2", "bn")
    statistics, choices = statistics_of(observer), Matching()
    _, means, variances = observer.measure(torch.from_numpy(images_of(5)))
    loss = exact(Matcher(observer, None, LABELS, choices)).loss(means, variances)
    slow = slow_loss(slow_of("resnet10-w2", "bn"), statistics, choices)
    assert float(loss) == pytest.approx(slow, rel=1e-6)


def test_alpha_1_is_the_global_matching_whatever_the_classes() -> None:
    observer = observer_of("resnet10-w2")
    _, means, variances = observer.measure(torch.from_numpy(images_of(5)))
    known = statistics_of(observer)
    unknown = replace(known, class_mean=known.class_mean * torch.nan, class_variance=known.class_variance * torch.nan)
    losses = [
        float(exact(Matcher(observer, statistics, labels, Matching(classes=classes))).loss(means, variances))
        for statistics in (known, unknown)
        for labels in (LABELS, torch.zeros(5, dtype=torch.int64))
        for classes in ("each", "mixture")
    ]
    assert len(set(losses)) == 1 and np.isfinite(losses[0])


def test_the_statistics_of_a_single_class_are_the_global_ones() -> None:
    observer = observer_of("resnet10-w2")
    _, means, variances = observer.measure(torch.from_numpy(images_of(5)))
    labels = torch.full((5,), 2)
    known = statistics_of(observer)
    known.class_mean[2], known.class_variance[2] = known.mean, known.variance
    losses = [
        float(
            exact(Matcher(observer, known, labels, Matching(alpha, classes, norms="measured"))).loss(means, variances)
        )
        for alpha, classes in product((0.0, 0.3, 1.0), ("each", "mixture"))
    ]
    assert losses == pytest.approx([losses[0]] * 6, rel=1e-6)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**31), st.lists(st.integers(1, 4), min_size=1, max_size=4), st.floats(-1e3, 1e3))
def test_groups_have_the_moments_of_their_pixels(seed: int, counts: list[int], shift: float) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(len(counts)), counts))
    pixels = rng.normal(size=(len(labels), 3, 7)) + rng.normal(size=(len(labels), 3, 1)) + shift
    weights = np.stack([np.where(labels == c, 1 / n, 0.0) for c, n in enumerate(counts)])
    found = pooled(*map(torch.from_numpy, (weights, pixels.mean(2), pixels.var(2))))
    for c in range(len(counts)):
        for entry in range(3):
            own = pixels[labels == c, entry]
            assert float(found[0][c, entry]) == pytest.approx(own.mean(), rel=1e-9, abs=1e-9)
            assert float(found[1][c, entry]) == pytest.approx(own.var(), rel=1e-7, abs=1e-9)


def test_pooled_variances_survive_a_large_mean_in_float32() -> None:
    means = 1000 + torch.tensor([[0.0], [0.01], [0.02]])
    weights, variances = torch.full((1, 3), 1 / 3), torch.full((3, 1), 1e-5)
    _, variance = pooled(weights, means, variances)
    slow = 1e-5 + means.double().var(0, correction=0)
    assert float(variance) == pytest.approx(float(slow), rel=1e-3)


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("classes", ["each", "mixture"])
def test_gradients_are_finite_differences(name: str, classes: Any) -> None:
    observer = observer_of(name)
    matcher = exact(Matcher(observer, statistics_of(observer), LABELS, Matching(0.4, classes)))
    images = torch.from_numpy(images_of(5)).requires_grad_(True)

    def loss(inputs: torch.Tensor) -> torch.Tensor:
        return matcher.loss(*observer.measure(inputs)[1:])

    [gradient] = torch.autograd.grad(loss(images), images)
    rng, h = np.random.default_rng(5), 1e-6
    for _ in range(4):
        way = torch.from_numpy(rng.normal(size=images.shape))
        with torch.no_grad():
            grad = float(loss(images + h * way) - loss(images - h * way)) / (2 * h)
        assert grad == pytest.approx(float((gradient * way).sum()), rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("start", ["first", "zero"])
def test_the_running_average_is_valued_and_the_batch_has_the_gradient(start: Any) -> None:
    observer = observer_of("resnet10-w2")
    statistics, rng = statistics_of(observer), np.random.default_rng(2)
    choices = Matching(0.4, momentum=0.7, average=start)
    matcher = exact(Matcher(observer, statistics, LABELS, choices))
    plain = exact(Matcher(observer, statistics, LABELS, replace(choices, momentum=0.0)))
    average = torch.zeros(())
    for step in range(4):
        means, variances = (
            torch.from_numpy(rng.uniform(0.1, 1, (5, observer.entries))).requires_grad_(True) for _ in "mv"
        )
        batch = torch.stack(pooled(matcher.rows, means, variances), dim=1)
        average = batch.detach() if step == 0 and start == "first" else 0.7 * average + 0.3 * batch.detach()
        loss = matcher.loss(means, variances)
        # The loss and its gradient as a function of the statistics themselves, at their average.
        at = average.clone().requires_grad_(True)
        value = statistics_loss(plain, at)
        [grads] = torch.autograd.grad(value, at)
        assert loss.item() == pytest.approx(value.item(), rel=1e-9)
        for found, slow in zip(
            torch.autograd.grad(loss, (means, variances)),
            torch.autograd.grad((batch * grads).sum(), (means, variances)),
            strict=True,
        ):
            assert torch.allclose(found, slow, rtol=1e-8, atol=1e-12)
        if step or start == "zero":
            assert loss.item() != pytest.approx(plain.loss(means, variances).item(), rel=1e-5)


def statistics_loss(matcher: Matcher, batch: torch.Tensor) -> torch.Tensor:
    """A matcher's weighted sum of distances of given statistics [rows, 2, entries], segment by segment."""
    total = torch.zeros((), dtype=torch.float64)
    for term, weight in enumerate(matcher.weights):
        for place, layer_weight in enumerate(matcher.layer_weights):
            span = matcher.segment == place
            for which in (0, 1):
                total = total + weight * layer_weight * (batch[term] - matcher.targets[term])[which, span].norm()
    return total


def test_only_convolutions_with_low_uniform_numbers_are_dropped() -> None:
    slow, observer = slow_of("resnet10-w2"), observer_of("resnet10-w2")
    statistics, choices = statistics_of(observer), Matching(0.3, drop=0.4)
    _, means, variances = observer.measure(torch.from_numpy(images_of(5)))
    matcher = exact(Matcher(observer, statistics, LABELS, choices))
    layers = list(dict.fromkeys(layer for layer, _, _ in slow.layout))
    convolutions = {part.layer for part in observer.segments if part.kind == "conv"}
    low = np.random.default_rng(1).random(len(layers)) < 0.5
    low[0] = True  # the stem, which weighs most
    values = torch.full((len(matcher.layer),), 0.99, dtype=torch.float32)
    values[: len(layers)] = torch.from_numpy(np.where(low, 0.39, 0.4).astype(np.float32))
    dropped = tuple(layer for layer, is_low in zip(layers, low, strict=True) if is_low and layer in convolutions)
    assert 1 < len(dropped) < low.sum()  # batch norms got low numbers, too
    without, whole = slow_loss(slow, statistics, choices, dropped), slow_loss(slow, statistics, choices)
    assert float(matcher.loss(means, variances, values)) == pytest.approx(without, rel=1e-6)
    assert float(matcher.loss(means, variances)) == pytest.approx(whole, rel=1e-6)
    assert without < 0.9 * whole


def test_at_distance_zero_the_gradient_is_zero() -> None:
    observer = observer_of("convnet-d2-w3")
    _, means, variances = (part.detach() for part in observer.measure(torch.from_numpy(images_of(5))))
    matcher = exact(Matcher(observer, statistics_of(observer), LABELS, Matching(0.5)))
    matcher.targets = torch.stack(pooled(matcher.rows, means, variances), dim=1)
    means.requires_grad_(True), variances.requires_grad_(True)
    loss = matcher.loss(means, variances)
    assert loss.item() < 1e-10
    for gradient in torch.autograd.grad(loss, (means, variances)):
        assert torch.equal(gradient, torch.zeros_like(gradient))


@pytest.mark.parametrize("classes", ["each", "mixture"])
def test_float32_is_close_to_float64(classes: Any) -> None:
    images = torch.from_numpy(images_of(5))
    results = []
    for double in (False, True):
        observer = Observer("it", teacher_of("resnet10-w2", SIZE), CPU, patch=PATCH)
        matcher = Matcher(observer, statistics_of(observer), LABELS, Matching(0.4, classes))
        inputs = images.float().requires_grad_(True)
        if double:
            observer.network.double()
            exact(matcher)
            inputs = images.clone().requires_grad_(True)
        loss = matcher.loss(*observer.measure(inputs)[1:])
        results.append((loss.item(), torch.autograd.grad(loss, inputs)[0].double()))
    (small, coarse), (large, fine) = results
    assert small == pytest.approx(large, rel=1e-5)
    assert float((coarse - fine).norm() / fine.norm()) < 1e-4


def test_real_statistics_are_computed_only_if_they_are_needed() -> None:
    assert not needs_statistics(Matching(), "bn")
    assert needs_statistics(Matching(), "bn+conv")
    assert needs_statistics(Matching(alpha=0.9), "bn")
    assert needs_statistics(Matching(norms="measured"), "bn")


def test_layers_without_running_statistics_need_real_images() -> None:
    observer = observer_of("convnet-d2-w3")
    with pytest.raises(DataError) as caught:
        Matcher(observer, None, LABELS, Matching())
    assert str(caught.value) == (
        "synthesis: observer 'it' has layers without running statistics; leave it out, or choose a "
        "method that measures the real images (gvbsm, edc)"
    )
