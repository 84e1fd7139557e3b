"""The engine of recovery: its steps against hand-written ones, its batches, and its reports."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from largest_tensor import Largest
from scenes import CPU, EVERYTHING, LABELS, THREE, World, made, start_of, two_worlds
from slow_observers import MEAN, STD

from dcpipe import networks
from dcpipe.synthesis import recovery
from dcpipe.synthesis.batches import recover
from dcpipe.synthesis.matching import Matcher, Matching
from dcpipe.synthesis.recovery import Engine, Recovery, batches_of
from dcpipe.synthesis.weak_augmentation import WeakAugmentation
from dcpipe.types import DataError, ImageSet

STILL = WeakAugmentation(flip=0.0)


def engine_of(world: World, choices: Recovery, labels: list[int] = LABELS) -> Engine:
    return Engine(start_of(labels), world.context, 3, world.progress, choices)


def started(engine: Engine) -> tuple[recovery.Batch, np.ndarray]:
    """The first batch, before its first step."""
    [rows, *_] = batches_of(engine.start, engine.choices)
    return engine._open(rows, None), rows


def test_terms_are_those_of_the_formula(tmp_path: Path) -> None:
    world = World(tmp_path)
    choices = Recovery(5, 0.1, weight=0.2, cross_entropy=3.0, density=0.7, flat=1.5, augmentation=STILL)
    engine = engine_of(world, choices)
    batch, rows = started(engine)
    labels = torch.tensor([LABELS[row] for row in rows])
    rng = np.random.default_rng(0)
    batch.average += torch.from_numpy(0.1 * rng.normal(size=batch.average.shape).astype(np.float32))
    observer = engine.observers["res"]
    found = engine.terms(batch, 0, observer, batch.matchers[0], labels)
    assert list(found) == ["match", "cross-entropy", "flatness", "density"]
    network = networks.from_teacher(world.teachers["res"], CPU)
    with torch.no_grad():  # both the engine and this teacher normalise by the same colours
        now, then = network(batch.pixels), network(batch.average)
    chances = torch.softmax(now.double(), 1)
    slow = -sum(math.log(float(chances[row, label])) for row, label in enumerate(labels)) / len(labels)
    assert found["cross-entropy"].item() == pytest.approx(3 * slow, rel=1e-5)
    p, q = (torch.softmax(its.double() / 4, 1) for its in (now, then))
    assert found["flatness"].item() == pytest.approx(1.5 * float((p * (p / q).log()).sum()) / len(labels), rel=1e-3)
    inputs = batch.pixels.detach() * torch.tensor(STD).view(3, 1, 1) + torch.tensor(MEAN).view(3, 1, 1)
    matcher = Matcher(observer, engine.statistics["res"], labels, Matching())
    with torch.no_grad():
        value = matcher.loss(*observer.measure(inputs)[1:])
    assert found["match"].item() == pytest.approx(0.2 * float(value), rel=1e-5)
    spread = recovery.densification(batch.pixels.detach(), recovery.class_groups(labels))
    assert found["density"].item() == pytest.approx(0.7 * float(spread), rel=1e-5)


def test_terms_without_weight_are_left_out(tmp_path: Path) -> None:
    engine = engine_of(World(tmp_path), Recovery(5, 0.1, cross_entropy=0.0))
    batch, _ = started(engine)
    assert list(engine.terms(batch, 0, engine.observers["res"], batch.matchers[0], engine.labels)) == ["match"]


def test_flatness_is_zero_at_step_0_and_not_after(tmp_path: Path) -> None:
    engine = engine_of(
        World(tmp_path), Recovery(4, 0.1, flat=1.0, augmentation=WeakAugmentation(crop_min=0.3, flip=0.5, jitter=2))
    )
    batch, rows = started(engine)
    values = [terms["flatness"].item() for terms in engine._steps(batch, 0, rows)]
    assert abs(values[0]) < 1e-7 and min(values[1:]) > 1e-6


def test_steps_are_adam_s_with_a_cosine_and_a_clamp(tmp_path: Path) -> None:
    """betas (0.5, 0.9), eps 1e-8, written out in float64 from the gradients of the terms."""
    choices = Recovery(6, 1.0, observers=["res"], flat=1.0, decay=0.9, augmentation=STILL)
    engine = engine_of(World(tmp_path), choices)
    batch, rows = started(engine)
    labels = engine.labels[torch.from_numpy(rows)]
    x, average = (batch.pixels.detach().double() for _ in "xa")
    low, high = ((edge - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1) for edge in (0.0, 1.0))
    m = v = torch.zeros_like(x)
    steps, at_edge = engine._steps(batch, 0, rows), 0
    for t in range(6):
        terms = engine.terms(batch, 0, engine.observers["res"], batch.matchers[0], labels)
        [gradient] = torch.autograd.grad(sum(terms.values()), batch.pixels)
        g = gradient.double()
        m, v = 0.5 * m + 0.5 * g, 0.9 * v + 0.1 * g * g
        rate = 1.0 * 0.5 * (1 + math.cos(math.pi * t / 6))
        x = x - rate * (m / (1 - 0.5 ** (t + 1))) / ((v / (1 - 0.9 ** (t + 1))).sqrt() + 1e-8)
        x = torch.maximum(torch.minimum(x, high), low)
        at_edge = int(((x == low) | (x == high)).sum())
        average = 0.9 * average + 0.1 * x
        next(steps)
        assert torch.allclose(batch.pixels.detach().double(), x, atol=2e-5)
        assert torch.allclose(batch.average.double(), average, atol=2e-5)
        x, average = batch.pixels.detach().double(), batch.average.double()
    assert next(steps, None) is None
    assert at_edge > 50


def test_pixels_stay_images(tmp_path: Path) -> None:
    result = made(World(tmp_path), Recovery(4, 3.0, initial="noise", batch_size=8))
    assert result.images.dtype == np.uint8
    assert {0, 255} <= set(result.images.ravel().tolist())


def test_images_are_rounded(tmp_path: Path) -> None:
    engine = engine_of(World(tmp_path), Recovery(1, 0.1))
    values = torch.tensor([-0.1, 0.0, 10.4, 10.6, 255.0, 256.0]) / 255
    pixels = torch.zeros(8, 3, 16, 16)
    pixels[0, :, 0, :6] = (values - torch.tensor(MEAN)[:, None]) / torch.tensor(STD)[:, None]
    assert engine.rounded(pixels)[0, 0, :6].tolist() == [[n] * 3 for n in (0, 0, 10, 11, 255, 255)]


def test_observers_take_turns_across_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    met: list[tuple[int, int, str]] = []
    terms = Engine.terms

    def noted(self: Engine, batch: Any, number: int, observer: Any, *rest: Any) -> Any:
        met.append((number, batch.step, observer.name))
        return terms(self, batch, number, observer, *rest)

    monkeypatch.setattr(Engine, "terms", noted)
    made(World(tmp_path, THREE), Recovery(4, 0.1, batch_size=4, observers=["conv", "res", "wide"]))
    names = ["conv", "res", "wide"]
    assert met == [(number, step, names[(4 * number + step) % 3]) for number in range(2) for step in range(4)]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=40), st.integers(1, 12))
def test_every_row_is_in_one_batch(labels: list[int], batch_size: int) -> None:
    pixels = np.zeros((len(labels), 2, 2, 3), dtype=np.uint8)
    start = ImageSet(pixels, np.array(labels), np.arange(len(labels)), tuple("abcde"))
    for order in ("classes", "rounds"):
        batches = batches_of(start, Recovery(1, 1.0, batch_size, order=order))
        assert sorted(row for rows in batches for row in rows.tolist()) == list(range(len(labels)))
        assert all(1 <= len(rows) <= batch_size for rows in batches)
        if order == "classes":
            assert [labels[row] for rows in batches for row in rows] == sorted(labels)
            assert all(len(rows) == batch_size for rows in batches[:-1])
        else:
            place = {row: labels[:row].count(label) for row, label in enumerate(labels)}
            for rows in batches:
                assert len({place[row] for row in rows}) == 1  # no batch across rounds
                assert len({labels[row] for row in rows}) == len(rows)  # one image of a class
            assert [place[rows[0]] for rows in batches] == sorted(place[rows[0]] for rows in batches)


@pytest.mark.parametrize("initial", ["noise", "real"])
def test_memory_on_the_device_does_not_grow_with_the_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, initial: str
) -> None:
    monkeypatch.setattr(recovery, "REPORT_SECONDS", -1.0)
    choices = Recovery(1, 0.1, batch_size=3, flat=1.0, initial=initial)

    def largest(repeats: int) -> int:
        world = World(tmp_path)
        shown: list[ImageSet] = []
        progress = replace(world.progress, report=lambda done, total, note, images: shown.append(images()))
        with Largest() as tensors:
            result = recover(start_of([0, 1, 2] * repeats), world.context, 3, progress, choices)
        assert shown and len(result) == 3 * repeats
        return tensors.seen

    largest(1)  # measures the statistics for all
    assert largest(2) == largest(9) < 9 * 3 * 3 * 16 * 16


@pytest.mark.parametrize("initial", ["noise", "real"])
def test_images_on_the_way_show_every_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, initial: str) -> None:
    monkeypatch.setattr(recovery, "REPORT_SECONDS", -1.0)
    world = World(tmp_path)
    shown: list[np.ndarray] = []

    def report(done: int, total: int, note: str, images: Any) -> None:
        if note.startswith("batch"):
            shown.append(images().images.copy())

    choices = replace(EVERYTHING, initial=initial)
    result = recover(start_of(LABELS), world.context, 3, replace(world.progress, report=report), choices)
    first, second = batches_of(start_of(LABELS), choices)
    engine = engine_of(World(tmp_path), choices)
    started = engine.rounded(engine.pixels(np.arange(len(LABELS))))
    assert len(shown) == 10
    assert np.array_equal(shown[4][second], started[second]) and not np.array_equal(shown[4][first], started[first])
    assert np.array_equal(shown[-1], result.images) and np.array_equal(shown[4][first], result.images[first])
    if initial == "real":
        assert np.array_equal(started, engine.start.images)


def test_reports_change_nothing_and_show_the_terms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    silent, told = two_worlds(tmp_path)
    expected = made(silent)
    assert not any(note.startswith("batch") for _, _, note in silent.told)
    monkeypatch.setattr(recovery, "REPORT_SECONDS", -1.0)
    assert made(told).images.tobytes() == expected.images.tobytes()
    batches = [(done, note) for done, _, note in told.told if note.startswith("batch")]
    assert [done for done, _ in batches] == list(range(1, 11))
    assert batches[0][1].startswith("batch 1 of 2: match ")
    assert [word in batches[0][1] for word in ("cross-entropy", "flatness", "density")] == [True] * 3
    assert not list((tmp_path / "other" / "notes").glob("*-open.pt"))  # too short for a checkpoint


def test_statistics_are_collected_once_for_all_runs(tmp_path: Path) -> None:
    world = World(tmp_path)
    first = made(world)
    assert world.passes == 1
    assert made(world).images.tobytes() == first.images.tobytes() and world.passes == 1
    names = {path.name for path in (tmp_path / "shared").iterdir()}
    assert names == {"res-bn+conv-auto-total.safetensors", "conv-bn+conv-auto-total.safetensors"}
    (tmp_path / "shared" / "res-bn+conv-auto-total.safetensors").unlink()
    made(world)
    assert world.passes == 2
    within = Recovery(1, 0.1, variance="within", observers=["conv"])
    made(world, within), made(world, within)
    assert world.passes == 3


def test_damaged_statistics_are_refused(tmp_path: Path) -> None:
    world = World(tmp_path)
    made(world, Recovery(1, 0.1))
    path = tmp_path / "shared" / "res-bn+conv-auto-total.safetensors"
    path.write_bytes(path.read_bytes()[:-4] + b"abcd")
    with pytest.raises(DataError, match="are damaged"):
        made(world, Recovery(1, 0.1))


def test_pixels_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        made(World(tmp_path), Recovery(2, 0.1, weight=float("inf")))
    assert str(caught.value) == "synthesis: pixels of batch 0 became NaN or infinite; lower lr (0.1)"


def test_seeds_give_other_images_and_the_same_seed_the_same(tmp_path: Path) -> None:
    results = [made(World(tmp_path), seed=seed).images.tobytes() for seed in (1, 2, 1)]
    assert results[0] != results[1] and results[0] == results[2]


def test_what_a_batch_becomes_does_not_depend_on_the_others(tmp_path: Path) -> None:
    """Except for its number, which determines its augmentation and the first observer."""
    choices = Recovery(3, 0.1, batch_size=4, observers=["res"])
    whole = made(World(tmp_path), choices)
    order = np.argsort(LABELS, kind="stable")
    start = start_of(LABELS)
    part = ImageSet(start.images[order[:4]], start.labels[order[:4]], start.ids[order[:4]], start.classes)
    alone = recover(part, World(tmp_path).context, 3, World(tmp_path).progress, choices)
    assert np.array_equal(alone.images, whole.images[order[:4]])


def test_teachers_of_other_colours_share_the_pixels(tmp_path: Path) -> None:
    """Pixels are normalised for the first observer; the other must see the same image."""
    world = World(tmp_path)
    world.teachers["conv"] = replace(world.teachers["conv"], mean=(0.1, 0.3, 0.2), std=(0.5, 0.4, 0.3))
    engine = engine_of(world, Recovery(1, 0.1, augmentation=STILL, observers=["conv", "res"]))
    batch, rows = started(engine)
    terms = engine.terms(batch, 0, engine.observers["res"], batch.matchers[1], engine.labels[torch.from_numpy(rows)])
    images = torch.from_numpy(engine.start.images[rows]).permute(0, 3, 1, 2) / 255
    logits = engine.observers["res"].logits(images)
    slow = F.cross_entropy(logits, engine.labels[torch.from_numpy(rows)])
    assert terms["cross-entropy"].item() == pytest.approx(slow.item(), rel=1e-4)


def test_the_course_of_the_loss_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By step and observer, the mean over batches; with 3 observers and 4 steps the turns of batches differ."""
    seen: dict[tuple[int, str], list[dict[str, float]]] = {}
    terms = Engine.terms

    def noted(self: Engine, batch: Any, number: int, observer: Any, *rest: Any) -> Any:
        found = terms(self, batch, number, observer, *rest)
        seen.setdefault((batch.step, observer.name), []).append({name: its.item() for name, its in found.items()})
        return found

    monkeypatch.setattr(Engine, "terms", noted)
    world = World(tmp_path, THREE)
    made(world, replace(EVERYTHING, iterations=4, batch_size=2))
    rows = world.recorded["loss"]
    assert [(row["step"], row["observer"]) for row in rows] == sorted(
        seen, key=lambda key: (key[0], list(THREE).index(key[1]))
    )
    for row in rows:
        own = seen[row["step"], row["observer"]]
        assert row["batches"] == len(own) and list(row)[3:] == list(own[0])
        for name in own[0]:
            assert row[name] == pytest.approx(sum(one[name] for one in own) / len(own), abs=1e-5)
    assert {row["batches"] for row in rows} == {1, 2}
