"""MGD3 with a model of a few lines: modes shared with D4M, every option, and a killed run that ends the same."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matching_scenes import KilledError, World, start_of
from painter import SAMPLING, Painter
from tiny_model import outline

from dcpipe.config.options import check_options
from dcpipe.synthesis import METHODS, d4m
from dcpipe.synthesis.diffusion import rows
from dcpipe.types import DataError, ImageSet


@pytest.fixture(autouse=True)
def painter(monkeypatch: pytest.MonkeyPatch) -> None:
    Painter.reset()
    monkeypatch.setattr(rows, "Diffusion", Painter)
    monkeypatch.setattr(d4m, "Diffusion", Painter)


@pytest.fixture
def model(tmp_path: Path) -> str:
    return str(outline(tmp_path / "model"))


def run(world: World, ipc: int = 2, seed: int = 0, method: str = "mgd3", **options: Any) -> ImageSet:
    options = {"steps": 6} | options
    check_options(METHODS, method, options)
    return METHODS[method](start_of(ipc), world.context, seed, world.progress, **options)


CHANGES: list[tuple[str, Any]] = [
    ("prototypes_per_class", 1),
    ("clusters", "minibatch"),
    ("expand", 1),
    ("prototype", "nearest"),
    ("mode_guidance", 0.5),
    ("guided", 1.0),
    *SAMPLING,
]
BESIDE: dict[str, dict[str, Any]] = {"expand": {"clusters": "minibatch"}, "clusters": {"expand": 1}}


def test_every_option_changes_something(tmp_path: Path, model: str) -> None:
    parameters = inspect.signature(METHODS["mgd3"]).parameters.values()
    assert {name for name, _ in CHANGES} | {"model"} == {p.name for p in parameters if p.kind is p.KEYWORD_ONLY}
    for name, value in CHANGES:
        beside = {"mode_guidance": 2.0} | BESIDE.get(name, {})
        one, other = World(tmp_path / "a"), World(tmp_path / "b")
        made = run(one, model=model, **beside).images
        assert not np.array_equal(made, run(other, model=model, **beside | {name: value}).images), name


def test_modes_are_the_prototypes_of_d4m(tmp_path: Path, model: str) -> None:
    world = World(tmp_path / "world")
    run(world, method="d4m", model=model)
    assert len(Painter.encoded) == len(world.labels)
    Painter.reset()
    result = run(world, model=model)
    assert not Painter.encoded and len(Painter.painted) == 6
    assert result.images.shape == start_of(2).images.shape and np.array_equal(result.labels, start_of(2).labels)
    assert [name for name, _ in world.records] == ["model", "prototypes"] * 2 and world.records[1] == world.records[3]
    Painter.reset()
    assert np.array_equal(run(world, model=model).images, result.images) and not Painter.calls


@pytest.mark.parametrize("batch_size", [1, 4])
def test_a_run_killed_at_any_call_of_the_model_ends_the_same(tmp_path: Path, model: str, batch_size: int) -> None:
    whole = World(tmp_path / "whole")
    expected = run(whole, model=model, batch_size=batch_size).images
    calls = Painter.calls
    for kill_at in range(0, calls, 5 if batch_size == 1 else 2):
        world = World(tmp_path / f"killed-{kill_at}")
        Painter.reset(kill_at)
        with pytest.raises(KilledError):
            run(world, model=model, batch_size=batch_size)
        before, Painter.kill_at = Painter.calls, -1
        assert np.array_equal(run(world, model=model, batch_size=batch_size).images, expected)
        assert world.records == whole.records
        if before >= calls - -(-6 // batch_size):
            assert Painter.calls == calls, "nothing is encoded or sampled again"


@pytest.mark.parametrize(
    ("ipc", "options", "sentence"),
    [
        (2, {"prompts": {"class 7": "a"}}, "mgd3: prompts has 'class 7', which is no class"),
        (15, {}, "mgd3: class 'class 2' has 10 training images, fewer than its 15 prototypes; set"),
        (2, {"guided": 1.5}, "guided is 1.5"),
        (2, {"sampler": "pndm"}, "sampler is 'pndm'"),
        (2, {"template": "{} {}"}, "write {} once"),
        (2, {"model": "elsewhere"}, "mgd3: model 'elsewhere' is not a folder with model_index.json"),
    ],
)
def test_bad_input_is_refused_before_any_work(
    tmp_path: Path, model: str, ipc: int, options: dict[str, Any], sentence: str
) -> None:
    world = World(tmp_path / "w")
    with pytest.raises(DataError) as caught:
        METHODS["mgd3"](start_of(ipc), world.context, 0, world.progress, **{"model": model} | options)
    assert sentence in str(caught.value) and "\n" not in str(caught.value) and not Painter.calls
