"""The loop of trajectory matching: ranges, batches, step size, and the method as a stage runs it."""

from __future__ import annotations

import inspect
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from matching_scenes import NETWORK, KilledError, World, start_of

from dcpipe import training
from dcpipe.config.options import check_options
from dcpipe.synthesis import METHODS
from dcpipe.synthesis.trajectories import engine, labels, unrolling
from dcpipe.synthesis.trajectories.engine import Choices
from dcpipe.types import DataError, ImageSet

TINY: dict[str, Any] = {
    **{"network": NETWORK, "iterations": 4, "steps": 3, "span": 1, "start_below": 3, "lr": 300.0, "rate": 0.05},
    **{"lr_rate": 1e-3, "experts": 2, "expert_epochs": 3, "expert_lr": 0.05, "expert_batch": 16},
}
CHANGES: list[tuple[str, Any, dict[str, Any]]] = [
    ("network", "convnet-d1-w4", {}),
    ("iterations", 2, {}),
    ("steps", 3, {}),
    ("span", 2, {"start_below": 2}),
    ("start_from", 2, {}),
    ("start_below", 1, {}),
    ("grow_from", 1, {}),
    ("grow_for", 1, {"grow_from": 1}),
    ("lr", 100.0, {}),
    ("momentum", 0.0, {}),
    ("rate", 0.1, {}),
    ("lr_rate", 0.0, {}),
    ("batch", 4, {}),
    ("strategy", "", {}),
    ("initial", "noise", {}),
    ("through", "tesla", {}),
    ("skip_above", 1e-6, {}),
    ("experts", 3, {}),
    ("expert_epochs", 4, {}),
    ("expert_lr", 0.02, {}),
    ("expert_batch", 8, {}),
    ("expert_rho", 0.5, {}),
    ("expert_alpha", 5.0, {"expert_rho": 0.5}),
    ("initial", "predicted", {}),
    ("lr_labels", 1.0, {}),
    ("subsets", {"period": 1}, {}),
    ("whitening", 0.1, {}),
]
SAME = {"expert_epochs"}  # more epochs than are matched give the same images


def choices(**changed: Any) -> Choices:
    defaults = {p.name: p.default for p in inspect.signature(METHODS["mtt"]).parameters.values()}
    defaults["gsam"] = None
    return Choices(**{f.name: (defaults | changed)[f.name] for f in fields(Choices)})


def run(world: World, ipc: int = 2, seed: int = 0, **options: Any) -> ImageSet:
    check_options(METHODS, "mtt", options)
    (world.folder / engine.CHECKPOINT).unlink(missing_ok=True)
    return METHODS["mtt"](start_of(ipc), world.context, seed, world.progress, **options)


def test_every_option_changes_something(tmp_path: Path) -> None:
    parameters = inspect.signature(METHODS["mtt"]).parameters.values()
    assert {name for name, *_ in CHANGES} | {"trajectories"} == {p.name for p in parameters if p.kind is p.KEYWORD_ONLY}
    world, made, few = World(tmp_path), {}, TINY | {"iterations": 3, "steps": 2}
    for name, value, beside in CHANGES:
        if str(beside) not in made:
            made[str(beside)] = run(world, **few | beside).images
        other = run(world, **few | beside | {name: value}).images
        assert np.array_equal(made[str(beside)], other) == (name in SAME), name


def test_exact_and_unrolled_make_the_same_images(tmp_path: Path) -> None:
    made = [run(World(tmp_path), **TINY, through=through).images.astype(int) for through in ("exact", "unrolled")]
    assert np.abs(made[0] - made[1]).max() <= 1  # in float32 both are rounded


def test_labels_and_ids_are_those_of_the_start_and_the_seed_matters(tmp_path: Path) -> None:
    start, result = start_of(2), run(World(tmp_path), **TINY)
    assert result.images.dtype == np.uint8 and result.images.shape == start.images.shape
    assert np.array_equal(result.labels, start.labels) and np.array_equal(result.ids, start.ids)
    assert not np.array_equal(result.images, run(World(tmp_path), seed=1, **TINY).images)


@pytest.mark.parametrize(("expert_epoch", "iteration"), [(2, -1), (-1, 1), (-1, 3)])
def test_a_killed_run_resumes_to_the_same_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, expert_epoch: int, iteration: int
) -> None:
    one, world, method = World(tmp_path / "a"), World(tmp_path / "b", kill_at=expert_epoch), METHODS["mtt"]
    learned = TINY | {"lr_labels": 5.0, "initial": "predicted", "subsets": {"period": 1}}
    whole = run(one, **learned).images
    monkeypatch.setattr(training, "checkpoint_pause", lambda: -1.0)
    iterate, made = engine.Engine._iterate, []

    def killed(self: engine.Engine) -> float:
        if self.iteration == iteration and iteration not in made:
            made.append(iteration)
            raise KilledError
        made.append(self.iteration)
        return iterate(self)

    monkeypatch.setattr(engine.Engine, "_iterate", killed)
    with pytest.raises(KilledError):
        method(start_of(2), world.context, 0, world.progress, **learned)
    world.kill_at = -1
    assert np.array_equal(method(start_of(2), world.context, 0, world.progress, **learned).images, whole)
    assert np.array_equal(world.kept[0]["logits"], one.kept[0]["logits"])
    assert sorted(made) == sorted([0, 1, 2, 3, *([iteration] if iteration >= 0 else [])])  # none is repeated
    assert dict(world.records) == dict(one.records)
    assert [name for name, _ in one.records] == ["experts", "subsets", "distances", "trajectories"]


@pytest.mark.parametrize("beside", [{}, {"lr_labels": 5.0, "subsets": {"period": 1}, "momentum": 0.9}])
def test_snapshots_are_the_images_of_shorter_runs_also_of_a_killed_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, beside: dict[str, Any]
) -> None:
    shorter = World(tmp_path / "shorter")
    expected = {k: run(shorter, **TINY | beside | {"iterations": k}).images for k in range(1, 5)}
    expected[0] = start_of(2).images
    monkeypatch.setattr(training, "checkpoint_pause", lambda: -1.0)
    world, kept = World(tmp_path / "killed"), list[tuple[int, np.ndarray]]()
    iterate, killed = engine.Engine._iterate, list[int]()

    def once(self: engine.Engine) -> float:
        if self.iteration == 2 and not killed:
            killed.append(2)
            raise KilledError
        return iterate(self)

    monkeypatch.setattr(engine.Engine, "_iterate", once)
    told = replace(world.progress, snapshot=lambda number, images: kept.append((number, images().images)))
    with pytest.raises(KilledError):
        METHODS["mtt"](start_of(2), world.context, 0, told, **TINY | beside)
    METHODS["mtt"](start_of(2), world.context, 0, told, **TINY | beside)
    assert [number for number, _ in kept] == [0, 1, 2, 2, 3, 4]
    assert all(np.array_equal(images, expected[number]) for number, images in kept)
    assert not np.array_equal(expected[1], expected[2])


def test_learned_labels_start_from_experts_and_move_by_their_gradient(tmp_path: Path) -> None:
    world, one = World(tmp_path), TINY | {"iterations": 1, "lr_labels": 7.0, "strategy": "", "initial": "predicted"}
    made = engine.Engine(start_of(2), world.context, 0, world.progress, choices(**one))
    made.experts = made._experts()
    made._begin()
    pixels, first, rate = made.pixels.clone(), made.soft, made.rate
    assert first is not None
    last = [made.experts.read(number, 3)[0] for number in range(2)]
    assert torch.equal(first, labels.mean_logits(made.student, last, pixels, made.labels))
    assert not torch.equal(pixels, engine.Engine(start_of(2), world.context, 0, world.progress, made.choices).pixels)
    leaves = [pixels.requires_grad_(True), first.clone().requires_grad_(True)]
    expert, begin, own = made.choices.segment(0, 0)
    ends = made.experts.read(expert, begin, begin + 1)

    def batches(step: int) -> tuple[torch.Tensor, torch.Tensor]:
        some = torch.from_numpy(made._batch(own, step, np.arange(6)))
        return leaves[0][some], leaves[1][some].softmax(1)

    found = unrolling.gradients(made.student, *ends, batches, 3, rate, leaves, "unrolled")
    run(world, **one)
    [kept] = world.kept
    assert np.allclose(kept["logits"], (first - 7.0 * found.leaves[1]).numpy(), atol=1e-5)
    assert not np.allclose(kept["logits"], first.numpy(), atol=1e-3)
    assert kept["rate"] == pytest.approx(rate * np.exp(-1e-3 / 0.05**2 * rate * float(found.rate)), rel=1e-4)


def test_a_skipped_iteration_changes_neither_labels_nor_step_size(tmp_path: Path) -> None:
    world = World(tmp_path)
    run(world, **TINY, lr_labels=7.0, skip_above=1e-9)
    run(world, **TINY | {"iterations": 1}, lr_labels=7.0, skip_above=1e-9)
    assert world.kept[0]["rate"] == pytest.approx(0.05, rel=1e-6)
    assert np.array_equal(world.kept[0]["logits"], world.kept[1]["logits"])


def test_without_learned_labels_only_the_step_size_is_kept(tmp_path: Path) -> None:
    world = World(tmp_path)
    run(world, **TINY)
    [kept] = world.kept
    assert list(kept) == ["rate"] and kept["rate"].shape == () and kept["rate"].dtype == np.float32
    assert kept["rate"] == pytest.approx(world.records[-1][1][-1]["step size"], rel=0.1)


def test_experts_of_a_folder_are_used_and_kept(tmp_path: Path) -> None:
    own, folder = run(World(tmp_path / "a"), **TINY), str(tmp_path / "experts")
    kept = run(World(tmp_path / "b"), **TINY, trajectories=folder)
    assert np.array_equal(own.images, kept.images)
    world = World(tmp_path / "c", kill_at=1)  # no expert is trained again, which would end the run
    assert np.array_equal(run(world, **TINY, trajectories=folder).images, own.images)


def test_iterations_on_other_experts_are_not_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "checkpoint_pause", lambda: -1.0)
    method, folder = METHODS["mtt"], tmp_path / "experts"
    whole = run(World(tmp_path / "a"), **TINY).images
    world = World(tmp_path / "b")
    method(start_of(2), world.context, 1, world.progress, **TINY, trajectories=str(folder))
    folder.rename(tmp_path / "former")
    made = method(start_of(2), world.context, 0, world.progress, **TINY, trajectories=str(folder))
    assert np.array_equal(made.images, whole)


def test_the_step_size_stays_positive_and_is_recorded(tmp_path: Path) -> None:
    world = World(tmp_path)
    run(world, **TINY | {"lr_rate": 3e-2, "iterations": 12})
    [(first, _), (name, rows)] = world.records
    assert first == "experts" and name == "trajectories" and [row["iteration"] for row in rows] == list(range(12))
    sizes = [row["step size"] for row in rows]
    assert min(sizes) > 0 and len(set(sizes)) == 12


def test_ranges_grow_as_in_datm() -> None:
    own = choices(start_below=20, grow_from=10, grow_for=1000)
    table = {0: 10, 99: 10, 100: 11, 500: 15, 999: 19, 1000: 20, 5000: 20}
    assert {t: own.bound(t) for t in table} == table
    assert choices(start_below=20).bound(0) == 20


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 9), st.integers(1, 10))
def test_segments_are_inside_their_range(seed: int, iteration: int, first: int, more: int) -> None:
    own = choices(start_from=first, start_below=first + more, experts=7)
    expert, begin, _ = own.segment(seed, iteration)
    assert 0 <= expert < 7 and first <= begin < first + more


def test_batches_take_every_image_before_any_comes_again(tmp_path: Path) -> None:
    world = World(tmp_path)
    own = engine.Engine(start_of(3), world.context, 0, world.progress, choices(**TINY, batch=4))
    for turn in range(2):
        rows = [own._batch(5, 3 * turn + place, np.arange(9)) for place in range(3)]
        assert [len(part) for part in rows] == [4, 4, 1]
        assert sorted(np.concatenate(rows)) == list(range(9))
    some = np.array([7, 2, 5])
    assert sorted(own._batch(5, 0, some)) == [2, 5, 7]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"start_below": 50}, "set expert_epochs: 51"),
        ({"start_from": 20}, "start_from < grow_from <= start_below"),
        ({"grow_from": 21}, "start_from < grow_from <= start_below"),
        ({"expert_alpha": 0.3}, "without expert_rho experts are trained by plain SGD; set expert_rho: 0.01"),
        ({"rate": 0.0}, "rate"),
        ({"through": "half"}, "through"),
    ],
)
def test_bad_options_are_refused_before_any_work(options: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        check_options(METHODS, "mtt", options)


def test_networks_with_batch_norm_and_divergence_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="group norm"):
        run(World(tmp_path), **TINY | {"network": "resnet10-w16"})
    with pytest.raises(DataError, match="lower lr"):
        run(World(tmp_path), **TINY | {"lr": 1e38})
