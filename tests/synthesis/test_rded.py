"""RDED: the picked crops and their layout, against loops in float64 and examples done by hand."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from dcpipe import networks, views
from dcpipe.random import Draw, permutation
from dcpipe.synthesis import Progress, SynthesisContext
from dcpipe.synthesis.rded import rded
from dcpipe.types import DataError, ImageSet, Teacher, ViewPolicy

CLASSES = ("ant", "bee", "cat")
SIZE = 8
CPU = torch.device("cpu")


class Plain(nn.Module):
    """Logits from the mean and the mean square of every channel: f(x) = sharp W (mean x, mean x^2)."""

    def __init__(self, weights: np.ndarray, sharp: float = 1.0) -> None:
        super().__init__()
        self.weights = torch.from_numpy(weights * sharp).float()

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return torch.cat([inputs.mean((2, 3)), inputs.square().mean((2, 3))], 1) @ self.weights


def plain_weights(number: int, n_classes: int = len(CLASSES)) -> np.ndarray:
    return np.random.default_rng(number).normal(size=(6, n_classes))


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """A teacher's network is named `plain-N` and means `Plain(plain_weights(N))`."""
    made: Callable[..., nn.Module] = lambda noun, _: Plain(plain_weights(int(noun.network[6:])), 5.0)  # noqa: E731
    monkeypatch.setattr(networks, "from_teacher", made)


def teacher(network: str = "plain-1", classes: tuple[str, ...] = CLASSES, size: int = SIZE, **given: Any) -> Teacher:
    stats = {"mean": (0.3, 0.5, 0.6), "std": (0.2, 0.3, 0.25)} | given
    return Teacher(network, stats.pop("weights", {}), classes, stats["mean"], stats["std"], size, {})


def trained(network: str) -> Teacher:
    """A real network with random weights."""
    torch.manual_seed(7)
    net = networks.build(network, len(CLASSES), SIZE)
    return teacher(network, weights=net.state_dict())


def pictures(n: int = 36, size: int = SIZE) -> tuple[np.ndarray, np.ndarray]:
    """Smooth random pictures, so that crops of one differ, and mixed labels."""
    rng = np.random.default_rng(3)
    coarse = torch.from_numpy(rng.uniform(0, 255, size=(n, 3, 3, 3)))
    fine = nn.functional.interpolate(coarse, (size, size), mode="bilinear").permute(0, 2, 3, 1).numpy()
    return fine.round().astype(np.uint8), rng.permutation(np.arange(n) % len(CLASSES))


def scene_of(images: np.ndarray, labels: np.ndarray, teachers: dict[str, Teacher], part: int = 7) -> SynthesisContext:
    def real() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for first in range(0, len(images), part):
            yield images[first : first + part], labels[first : first + part]

    return SynthesisContext(teachers, real, labels, CPU)


def start_of(labels: list[int], classes: tuple[str, ...] = CLASSES, size: int = SIZE) -> ImageSet:
    n = len(labels)
    pixels = np.random.default_rng(n).integers(0, 256, size=(n, size, size, 3), dtype=np.uint8)
    return ImageSet(pixels, np.array(labels), np.arange(n) * 5 + 2, classes)


def silent(*_: object) -> None:
    pass


WATCH = Progress(Path("nowhere"), Path("nowhere"), silent)
STANDARD = start_of([2, 0, 1, 1, 2, 0])


def standard(part: int = 7, **teachers: Teacher) -> SynthesisContext:
    return scene_of(*pictures(), teachers or {"a": teacher("plain-1"), "b": teacher("plain-2", mean=(0.4,) * 3)}, part)


# The second implementation: loops, float64.


def slow_crop(image: np.ndarray, box: np.ndarray, size: int, factor: int) -> np.ndarray:
    """f64 [size/factor, size/factor, 3] in [0, 1]: bilinear samples at `size`, then the mean of factor x factor."""
    h, w = image.shape[:2]
    whole = np.empty((size, size, 3))
    for i in range(size):
        for j in range(size):
            x = min(max((box[0] + box[2] * (j + 0.5) / size) * w - 0.5, 0), w - 1)
            y = min(max((box[1] + box[3] * (i + 0.5) / size) * h - 0.5, 0), h - 1)
            x0, y0 = int(x), int(y)
            x1, y1 = min(x0 + 1, w - 1), min(y0 + 1, h - 1)
            upper = image[y0, x0] * (1 - (x - x0)) + image[y0, x1] * (x - x0)
            lower = image[y1, x0] * (1 - (x - x0)) + image[y1, x1] * (x - x0)
            whole[i, j] = (upper * (1 - (y - y0)) + lower * (y - y0)) / 255
    cell = size // factor
    small = np.zeros((cell, cell, 3))
    for i in range(size):
        for j in range(size):
            small[i // factor, j // factor] += whole[i, j] / factor**2
    return small


def slow_score(crop: np.ndarray, label: int, teachers: dict[str, Teacher], size: int, pad: bool) -> float:
    logits = np.zeros(len(CLASSES))
    for noun in teachers.values():
        if pad:
            seen = np.tile(np.array(noun.mean), (size, size, 1))
            first = (size - len(crop)) // 2
            seen[first : first + len(crop), first : first + len(crop)] = crop
        else:
            seen = slow_crop(crop * 255, np.array([0.0, 0.0, 1.0, 1.0]), size, 1)
        normal = (seen - noun.mean) / noun.std
        summary = np.concatenate([normal.mean((0, 1)), (normal**2).mean((0, 1))])
        logits += 5.0 * summary @ plain_weights(int(noun.network[6:])) / len(teachers)
    return float(np.log(np.exp(logits).sum()) - logits[label])


def slow_rded(
    start: ImageSet, context: SynthesisContext, seed: int, factor: int, candidates: int, crops: int, pad: bool
) -> tuple[np.ndarray, float]:
    """Mosaics f64 in [0, 255], and the smallest gap between scores that decide something."""
    size = start.images.shape[1]
    images = np.concatenate([part for part, _ in context.real()]).astype(np.float64)
    policy = ViewPolicy(0.08, 1.0, 0.0, seed=seed, ratio_min=1.0, ratio_max=1.0)
    result = np.zeros((len(start), size, size, 3))
    gap = np.inf
    for label in range(len(start.classes)):
        rows = [row for row in range(len(images)) if context.labels[row] == label]
        drawn = [rows[place] for place in permutation(seed, label, len(rows), draw=Draw.RDED_CANDIDATES)[:candidates]]
        found = []
        for row in drawn:
            tried = []
            for number in range(crops):
                box = views.draw(policy, np.array([row]), np.array([number]), 1).box[0]
                crop = slow_crop(images[row], box, size, factor)
                tried.append((slow_score(crop, label, context.observers, size, pad), crop))
            scores = sorted(score for score, _ in tried)
            gap = min([gap, *np.diff(scores)[:1]])
            found.append(min(tried, key=lambda pair: pair[0]))
        found.sort(key=lambda pair: pair[0])
        gap = min([gap, *np.diff([score for score, _ in found])])
        own = [row for row in range(len(start)) if start.labels[row] == label]
        cell = size // factor
        for i, row in enumerate(own):
            for k in range(factor**2):
                top, left = k // factor * cell, k % factor * cell
                result[row, top : top + cell, left : left + cell] = found[k * len(own) + i][1] * 255
    return result, gap


@pytest.mark.parametrize(("factor", "pad"), [(1, True), (2, True), (2, False), (4, True)])
@pytest.mark.usefixtures("plain")
def test_the_mosaics_are_those_of_the_slow_definition(factor: int, pad: bool) -> None:
    start = start_of([2, 0, 1]) if factor == 4 else STANDARD
    context = scene_of(*pictures(54), dict(standard().observers)) if factor == 4 else standard()
    expected, gap = slow_rded(start, context, 5, factor, candidates=16, crops=2, pad=pad)
    assert gap > 1e-6, "choose other pictures: rounding may swap two crops"
    result = rded(start, context, 5, WATCH, factor=factor, candidates=16, crops=2, pad=pad)
    assert np.abs(result.images - expected).max() <= 0.5 + 1e-3
    assert result.images.dtype == np.uint8


def test_the_other_observer_alone_is_the_paper_s(plain: None) -> None:
    context = standard()
    only = scene_of(*pictures(), {"b": context.observers["b"]})
    expected, gap = slow_rded(STANDARD, only, 1, 2, candidates=300, crops=3, pad=True)
    assert gap > 1e-6
    result = rded(STANDARD, context, 1, WATCH, observers=["b"], factor=2, crops=3)
    assert np.abs(result.images - expected).max() <= 0.5 + 1e-3


def planted() -> tuple[ImageSet, SynthesisContext]:
    """Flat pictures of 20 shades; the observer takes bright ones for `day` and dark ones for `night`."""
    shades = np.random.default_rng(0).permutation(np.arange(20)) * 10 + 20
    images = np.broadcast_to(shades[:, None, None, None], (20, 4, 4, 3)).astype(np.uint8)
    labels = np.arange(20) % 2
    start = start_of([0, 1, 1, 0], ("day", "night"), 4)
    noun = teacher("bright", ("day", "night"), 4, mean=(0.0,) * 3, std=(1.0,) * 3)
    return start, scene_of(images, labels, {"bright": noun}, 3)


@pytest.mark.parametrize("ranks", ["stratified", "consecutive"])
def test_the_layout_done_by_hand(ranks: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = np.zeros((6, 2))
    weights[:3] = [1, -1]
    monkeypatch.setattr(networks, "from_teacher", lambda *_: Plain(weights))
    start, context = planted()
    shades = np.concatenate([part for part, _ in context.real()])[:, 0, 0, 0]
    day, night = np.sort(shades[::2])[::-1], np.sort(shades[1::2])
    result = rded(start, context, 0, WATCH, factor=2, ranks=ranks)
    cells = result.images[:, ::2, ::2, 0].reshape(4, 4)  # row by row
    assert (result.images == np.kron(cells.reshape(4, 2, 2), np.ones((2, 2)))[..., None]).all()
    places = [[0, 2, 4, 6], [1, 3, 5, 7]] if ranks == "stratified" else [[0, 1, 2, 3], [4, 5, 6, 7]]
    expected = [day[places[0]], night[places[0]], night[places[1]], day[places[1]]]
    assert cells.tolist() == np.array(expected).tolist()
    assert len(set(cells.reshape(-1))) == 16, "one crop of an image"


def test_only_the_pixels_of_the_start_change(plain: None) -> None:
    start, context = STANDARD, standard()
    result = rded(start, context, 0, WATCH)
    assert (result.labels == start.labels).all() and (result.ids == start.ids).all()
    assert (result.classes, result.grid, result.images.shape) == (start.classes, 1, start.images.shape)
    blank = replace(start, images=np.zeros_like(start.images))
    assert (rded(blank, context, 0, WATCH).images == result.images).all()


def test_classes_may_have_different_numbers_of_images(plain: None) -> None:
    uneven = start_of([0, 0, 2, 0])
    expected, _ = slow_rded(uneven, standard(), 0, 2, candidates=300, crops=2, pad=True)
    result = rded(uneven, standard(), 0, WATCH, factor=2, crops=2)
    assert np.abs(result.images - expected).max() <= 0.5 + 1e-3


def test_neither_parts_nor_batches_decide() -> None:
    observers = {"net": trained("convnet-d1-w4"), "other": trained("resnet10-w2")}
    expected = rded(STANDARD, standard(**observers), 3, WATCH, factor=2, candidates=10).images
    for part, batch_size in ((1, 1), (5, 7), (36, 10_000), (36, 5)):
        context = standard(part, **observers)
        again = rded(STANDARD, context, 3, WATCH, factor=2, candidates=10, batch_size=batch_size)
        assert (again.images == expected).all(), (part, batch_size)


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"observers": ["b"]},
        {"observers": ["a"]},
        {"factor": 1},
        {"candidates": 9},
        {"crops": 2},
        {"scale_min": 0.9},
        {"pad": False},
        {"ranks": "consecutive"},
        {"edges": "pixels"},
    ],
    ids=str,
)
@pytest.mark.usefixtures("plain")
def test_every_option_changes_something(change: dict[str, Any]) -> None:
    def made(seed: int = 0, factor: int = 2, **options: Any) -> np.ndarray:
        return rded(STANDARD, standard(), seed, WATCH, factor=factor, **options).images

    assert (made() == made()).all()
    assert (made() != made(**change)).any()


def test_one_part_is_in_memory_at_a_time(plain: None) -> None:
    images, labels = pictures(60)
    alive: list[weakref.ref[np.ndarray]] = []
    steps: list[str] = []

    def real() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for first in range(0, 60, 6):
            part = images[first : first + 6].copy()
            alive.append(weakref.ref(part))
            steps.append("read")
            yield part, labels[first : first + 6]
            del part
            # The caller's own name for the last part goes when it gets the next one.
            assert sum(ref() is not None for ref in alive) <= 1

    def report(done: int, total: int, note: str, made: Callable[[], ImageSet]) -> None:
        steps.append(f"{done}/{total} {note}")

    rded(
        STANDARD,
        SynthesisContext({"a": teacher()}, real, labels, CPU),
        0,
        Progress(Path(), Path(), report),
        candidates=300,
    )
    assert len(alive) == 10
    told = [f"{done}/60 crops of candidates" for done in range(6, 61, 6)]
    assert steps == [step for pair in zip(["read"] * 10, told, strict=True) for step in pair]


def test_no_batch_is_larger_than_the_given_size(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    inner = Plain(plain_weights(1))
    inner.register_forward_pre_hook(lambda _, arguments: seen.append(len(arguments[0])))
    monkeypatch.setattr(networks, "from_teacher", lambda *_: inner)
    rded(STANDARD, standard(36, a=teacher()), 0, WATCH, crops=3, batch_size=10)
    assert set(seen) == {9} and sum(seen) == 36 * 3


def test_progress_shows_the_current_mosaics(plain: None) -> None:
    shown: list[np.ndarray] = []
    progress = Progress(Path(), Path(), lambda done, total, note, made: shown.append(made().images))
    looked = rded(STANDARD, standard(), 0, progress)
    assert (looked.images == rded(STANDARD, standard(), 0, WATCH).images).all()
    assert len(shown) == 6 and (shown[-1] == looked.images).all() and (shown[0] != looked.images).any()


def refused(sentence: str, start: ImageSet = STANDARD, context: SynthesisContext | None = None, **options: Any) -> None:
    with pytest.raises(DataError) as caught:
        rded(start, context or standard(), 0, WATCH, **options)
    assert str(caught.value) == sentence


@pytest.mark.parametrize("name", ["factor", "candidates", "crops", "batch_size"])
def test_refuses_a_count_below_one(name: str) -> None:
    refused(f"synthesis method 'rded': {name} is 0: input should be greater than or equal to 1", **{name: 0})


def test_refuses_options_that_do_not_fit() -> None:
    refused("rded: factor 3 does not divide the images' 8 pixels; choose one of 1, 2, 4, 8", factor=3)
    wrong = "synthesis method 'rded': "
    refused(f"{wrong}ranks is 'rows': input should be 'stratified' or 'consecutive'", ranks="rows")
    refused(f"{wrong}scale_min is 0: input should be greater than 0", scale_min=0)
    refused(f"{wrong}observers is ['a', 'a']: 'a' is listed more than once; list each once", observers=["a", "a"])
    refused("synthesis: observer 'c' is not among the teachers; choose from a, b", observers=["a", "c"])


def test_refuses_classes_with_too_little() -> None:
    refused(
        "rded: class 'ant' has 12 training images, but its 2 mosaics of 4x4 crops need 32; "
        "lower selection.ipc or factor",
        factor=4,
    )
    refused(
        "rded: candidates is 7, but the 2 mosaics of 2x2 crops of class 'ant' need 8; raise candidates to 8 or more",
        factor=2,
        candidates=7,
    )


def test_refuses_observers_of_other_images() -> None:
    other = teacher("plain-1", ("bee", "ant", "cat"))
    refused(
        "teacher 'a' and images: class 0 is 'bee' on one side and 'ant' on the other; use one class order",
        context=standard(a=other),
    )
    refused(
        "teacher 'a' was trained at 16 pixels, but images have 8; train it again",
        context=standard(a=teacher("plain-1", size=16)),
    )


def test_refuses_scores_that_are_not_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(networks, "from_teacher", lambda *_: Plain(np.full((6, 3), np.nan)))
    refused(
        "rded: the logits of a for real crops are NaN or infinite; train the teacher again",
        context=standard(a=teacher()),
    )


@pytest.mark.gpu
def test_the_gpu_finds_about_the_same_crops() -> None:
    teachers = {"net": trained("convnet-d1-w4")}
    cpu = standard(**teachers)
    gpu = replace(cpu, device=torch.device("cuda"))
    one, other = (rded(STANDARD, context, 0, WATCH, factor=2).images.astype(int) for context in (cpu, gpu))
    assert np.mean(np.abs(one - other) <= 1) > 0.6, "rounding swaps neighbours in rank, no more"
    again = rded(STANDARD, gpu, 0, WATCH, factor=2).images
    assert (again == other).all()
