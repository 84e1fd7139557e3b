"""Sampling by class alone: no real image is read, every option counts, and a killed run ends the same."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matching_scenes import CLASSES, KilledError, World, start_of
from painter import SAMPLING, Painter
from tiny_model import outline

from dcpipe.synthesis import METHODS
from dcpipe.synthesis.diffusion import rows
from dcpipe.types import ImageSet


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    Painter.reset()
    monkeypatch.setattr(rows, "Diffusion", Painter)
    return str(outline(tmp_path / "model"))


def run(world: World, seed: int = 0, **options: Any) -> ImageSet:
    return METHODS["generate"](start_of(2), world.context, seed, world.progress, **{"steps": 6} | options)


def test_every_option_changes_something(tmp_path: Path, model: str) -> None:
    parameters = inspect.signature(METHODS["generate"]).parameters.values()
    assert {name for name, _ in SAMPLING} | {"model"} == {p.name for p in parameters if p.kind is p.KEYWORD_ONLY}
    made = run(World(tmp_path / "a"), model=model).images
    for name, value in [*SAMPLING, ("seed", 1)]:
        assert not np.array_equal(made, run(World(tmp_path / name), model=model, **{name: value}).images), name


def test_no_real_image_is_encoded_and_texts_are_recorded(tmp_path: Path, model: str) -> None:
    world = World(tmp_path / "world")
    result = run(world, model=model, prompts={"class 2": "a heron"})
    texts = ["class 0", "class 1", "a heron"]
    assert not Painter.encoded and [text for text, _ in Painter.painted] == [texts[one] for one in result.labels]
    assert world.records[1] == (
        "prompts",
        [{"class": name, "prompt": text} for name, text in zip(CLASSES, texts, strict=True)],
    )


def test_a_killed_run_ends_the_same(tmp_path: Path, model: str) -> None:
    expected = run(World(tmp_path / "whole"), model=model).images
    for kill_at in range(6):
        world = World(tmp_path / f"killed-{kill_at}")
        Painter.reset(kill_at)
        with pytest.raises(KilledError):
            run(world, model=model)
        Painter.kill_at = -1
        assert np.array_equal(run(world, model=model).images, expected) and Painter.calls == 6
