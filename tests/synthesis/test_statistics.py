"""Statistics of real images: those of all pixels of a class together, for any division into batches."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from largest_tensor import Largest
from slow_observers import Odd, inputs_of, pooled, teacher_of

from dcpipe import networks
from dcpipe.synthesis import statistics
from dcpipe.synthesis.observers import Observer, Segment
from dcpipe.synthesis.statistics import NAMES, Statistics, collect
from dcpipe.types import DataError, FloatArray, IntArray

CPU = torch.device("cpu")
N, CLASSES, SIZE = 9, 3, 11
LABELS = np.array([2, 0, 0, 1, 2, 0, 2, 2, 1])
Part = tuple[npt.NDArray[np.uint8], IntArray]
NETS = [("odd", SIZE), ("resnet10-w2", 16), ("convnet-d2-w3", 16)]


@pytest.fixture(autouse=True)
def odd(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(networks.BUILDERS, "odd", lambda name, n, size: Odd(n) if name == "odd" else None)


def images_of(size: int, n: int = N, labels: IntArray = LABELS) -> npt.NDArray[np.uint8]:
    """Classes of their own brightness, images of their own contrast."""
    rng = np.random.default_rng(0)
    bright = 60 * labels[:, None, None, None] + rng.uniform(0, 40, (n, 1, 1, 1))
    return (bright + rng.uniform(0, 90, (n, size, size, 3))).astype(np.uint8)


def parts(images: npt.NDArray[np.uint8], labels: IntArray = LABELS, each: int = 4) -> Iterator[Part]:
    for start in range(0, len(images), each):
        yield images[start : start + each], labels[start : start + each]


def watched_of(name: str, size: int, images: npt.NDArray[np.uint8]) -> dict[str, tuple[str, FloatArray]]:
    return inputs_of(teacher_of(name, size), images.transpose(0, 3, 1, 2) / 255.0, "bn+conv")


def near(found: torch.Tensor, expected: FloatArray) -> None:
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.numpy(), expected, rtol=3e-4, atol=3e-5)


@pytest.mark.parametrize(("name", "size"), NETS)
def test_statistics_are_those_of_all_pixels_of_a_class(name: str, size: int) -> None:
    images = images_of(size)
    watched = watched_of(name, size, images)
    observers = {"it": Observer("it", teacher_of(name, size), CPU)}
    found = collect(observers, lambda: parts(images), CLASSES, batch_size=3)["it"]
    slow = pooled(watched, list(range(N)), 4)
    near(found.mean, slow[0])
    near(found.variance, slow[1])
    for label in range(CLASSES):
        slow = pooled(watched, np.flatnonzero(label == LABELS).tolist(), 4)
        near(found.class_mean[label], slow[0])
        near(found.class_variance[label], slow[1])
    assert found.counts.tolist() == [3, 2, 4] and found.counts.dtype == torch.int64


@pytest.mark.parametrize(("name", "size"), NETS)
def test_within_concerns_classes_only(name: str, size: int) -> None:
    """EDC's code averages the variances of the images of a class. Its global variances include that between images."""
    images = images_of(size)
    watched = watched_of(name, size, images)
    observers = {"it": Observer("it", teacher_of(name, size), CPU)}
    within = collect(observers, lambda: parts(images), CLASSES, batch_size=4, variance="within")["it"]
    total = collect(observers, lambda: parts(images), CLASSES)["it"]
    each = np.stack([pooled(watched, [row], 4) for row in range(N)])
    whole = pooled(watched, list(range(N)), 4)
    near(within.mean, whole[0])
    near(within.variance, whole[1])
    torch.testing.assert_close(within.variance, total.variance, rtol=1e-6, atol=1e-7)
    for label in range(CLASSES):
        own = each[label == LABELS]
        near(within.class_mean[label], own[:, 0].mean(0))
        near(within.class_variance[label], own[:, 1].mean(0))
        near(total.class_variance[label], own[:, 1].mean(0) + own[:, 0].var(0))
    assert (within.variance.numpy() > 1.5 * each[:, 1].mean(0))[:3].all(), "or a mean of variances would pass, too"


def test_one_pass_serves_all_observers() -> None:
    images, passes = images_of(16), []

    def real() -> Iterator[Part]:
        passes.append(1)
        return parts(images)

    observers = {name: Observer(name, teacher_of(name, 16), CPU) for name in ("resnet10-w2", "convnet-d2-w3")}
    together = collect(observers, real, CLASSES)
    assert list(together) == list(observers) and len(passes) == 1
    for name, observer in observers.items():
        alone = collect({name: observer}, real, CLASSES)[name]
        assert all(torch.equal(getattr(alone, field), getattr(together[name], field)) for field in NAMES)


class Told:
    """An observer that returns what the images contain: three means and three variances of any size."""

    name, device, entries, n_classes = "told", CPU, 3, CLASSES
    segments = (Segment("first", "bn", 0, 1), Segment("second", "bn", 1, 3))

    def __init__(self, offset: float = 0.0) -> None:
        self.offset = offset

    def measure(self, inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        said = inputs.double()[:, :, :, 0] * 255
        return said[:, 0], self.offset + said[:, 1], said[:, 2]


def told(images: npt.NDArray[np.uint8], labels: IntArray, each: int = 4, offset: float = 0.0, **options: Any) -> Any:
    observers: dict[str, Any] = {"told": Told(offset)}
    return collect(observers, lambda: parts(images, labels, each), int(labels.max()) + 1, **options)["told"]


LABELLED = st.integers(0, 3).flatmap(
    lambda top: st.tuples(st.permutations(range(top + 1)), st.lists(st.integers(0, top), max_size=8))
)


@settings(max_examples=40, deadline=None)
@given(LABELLED, st.integers(1, 13), st.sampled_from([1, 3, 256]), st.sampled_from([0.0, 1e5]))
def test_how_the_pass_is_cut_does_not_matter(
    drawn: tuple[list[int], list[int]], each: int, batch_size: int, offset: float
) -> None:
    """Nor how far means are from zero: sums of squares in float64 keep variances a 1e10th of them."""
    labels = np.array([*drawn[0], *drawn[1]])
    images = np.random.default_rng(len(labels)).integers(0, 256, (len(labels), 3, 3, 3), dtype=np.uint8)
    found = told(images, labels, each, offset, batch_size=batch_size)
    means, variances = offset + images[:, :, 0, 1].astype(float), images[:, :, 0, 2].astype(float)
    for label in range(labels.max() + 1):
        own = labels == label
        expected = variances[own].mean(0) + means[own].var(0)
        np.testing.assert_allclose(found.class_mean[label], means[own].mean(0), rtol=1e-6)
        np.testing.assert_allclose(found.class_variance[label], expected, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(found.mean, means.mean(0), rtol=1e-6)
    np.testing.assert_allclose(found.variance, variances.mean(0) + means.var(0), rtol=1e-5, atol=1e-4)


def test_batches_of_a_network_do_not_matter() -> None:
    images = images_of(16)
    observers = {"it": Observer("it", teacher_of("resnet10-w2", 16), CPU)}
    whole = collect(observers, lambda: parts(images, each=9), CLASSES)["it"]
    for size in (1, 3):
        cut = collect(observers, lambda: parts(images), CLASSES, batch_size=size)["it"]
        for name in NAMES:
            torch.testing.assert_close(getattr(cut, name), getattr(whole, name), rtol=1e-5, atol=1e-6)


def test_statistics_of_a_single_class_are_the_global_ones() -> None:
    images, labels = images_of(SIZE), np.zeros(N, dtype=np.int64)
    observers = {"it": Observer("it", teacher_of("odd", SIZE), CPU)}
    found = collect(observers, lambda: parts(images, labels), 1)["it"]
    assert torch.equal(found.class_mean[0], found.mean) and torch.equal(found.class_variance[0], found.variance)


def test_variances_are_never_negative() -> None:
    """Of identical images the difference of squares is rounding alone, of either sign."""
    images = np.zeros((N, 3, 3, 3), dtype=np.uint8)
    for offset in np.linspace(0.1, 0.9, 9).tolist():
        found = told(images, LABELS, offset=offset)
        for variance in (found.variance, found.class_variance):
            assert variance.min() >= 0 and variance.max() < 1e-12


def test_memory_does_not_grow_with_the_images() -> None:
    def largest(repeats: int) -> int:
        living: list[weakref.ref[Any]] = []

        def real() -> Iterator[Part]:
            for _ in range(repeats):
                assert sum(one() is not None for one in living) <= 1  # the part before, until this one replaces it
                images = images_of(16)
                living.append(weakref.ref(images))
                yield images, LABELS
                del images

        with Largest() as progress:
            collect({"it": Observer("it", teacher_of("resnet10-w2", 16), CPU)}, real, CLASSES, batch_size=4)
        assert len(living) == repeats
        return progress.seen

    assert largest(1) == largest(6) > 0


def test_progress_reports_the_number_of_images() -> None:
    told_of: list[int] = []
    told(images_of(3), LABELS, batch_size=3, report=told_of.append)
    assert told_of == [3, 4, 7, 8, 9]


def same(first: Statistics, second: Statistics) -> bool:
    return all(torch.equal(getattr(first, name), getattr(second, name)) for name in NAMES)


def test_a_file_gives_back_what_was_saved(tmp_path: Path) -> None:
    images, path = images_of(16), tmp_path / "statistics.safetensors"
    nets = {"b/1": "resnet10-w2", "a": "convnet-d2-w3"}
    found = collect({k: Observer(k, teacher_of(n, 16), CPU) for k, n in nets.items()}, lambda: parts(images), CLASSES)
    statistics.save(path, found)
    again = statistics.load(path, CPU)
    assert sorted(again) == ["a", "b/1"] and all(same(found[name], again[name]) for name in nets)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    statistics.save(path, {"a": found["a"]})  # an old file is replaced
    assert list(statistics.load(path, CPU)) == ["a"]


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "statistics.safetensors"
    statistics.save(path, {"told": told(images_of(3), LABELS)})
    whole = path.read_bytes()
    digest = f"statistics {path} are damaged (their digest differs); remove the file and run again"
    unreadable = f"statistics {path} cannot be read (.*); remove the file and run again"
    changed = whole[:-1] + bytes([whole[-1] ^ 1])
    renamed = whole.replace(b"told/mean", b"told/meen")
    for content, sentence in ((changed, digest), (renamed, digest), (whole[:-8], unreadable), (b"", unreadable)):
        path.write_bytes(content)
        with pytest.raises(DataError, match="^" + sentence.replace("(their digest differs)", r"\(.* differs\)") + "$"):
            statistics.load(path, CPU)
    path.unlink()
    with pytest.raises(DataError, match="cannot be read"):
        statistics.load(path, CPU)


def refused(labels: IntArray = LABELS, n_classes: int = CLASSES, observer: Any = None, **options: Any) -> str:
    with pytest.raises(DataError) as caught:
        collect({"told": observer or Told()}, lambda: parts(images_of(3), labels), n_classes, **options)
    return str(caught.value)


def test_what_has_no_statistics_is_refused() -> None:
    empty = "statistics: class 3 has no images among the 9 real ones; add some or leave the class out"
    assert refused(n_classes=5) == empty
    outside = "statistics: a label of the real images is outside 0..1; check the class list"
    assert refused(n_classes=2) == refused(LABELS - 1, n_classes=2) == outside
    assert refused(variance="both") == "statistics: variance must be total or within, got 'both'"
    assert refused(batch_size=0) == "statistics: batch_size must be at least 1, got 0"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("variance", ["total", "within"])
def test_numbers_that_are_not_finite_are_refused(value: float, variance: Any) -> None:
    class Broken(Told):
        def measure(self, inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
            logits, means, variances = super().measure(inputs)
            variances[0, 2] = value
            return logits, means, variances

    assert refused(observer=Broken(), variance=variance) == (
        "statistics: observer 'told' gives NaN or infinity at the input of layer 'second'; "
        "train it again or leave it out"
    )
