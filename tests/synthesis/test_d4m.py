"""D4M with a model of a few lines: what is asked of it, in which order, and that a killed run ends the same."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matching_scenes import CLASSES, SIZE, KilledError, World, start_of
from painter import Painter
from tiny_model import LATENT, outline

from dcpipe.config.options import check_options
from dcpipe.synthesis import METHODS, d4m
from dcpipe.synthesis.diffusion import latents as passes
from dcpipe.types import DataError, ImageSet


@pytest.fixture(autouse=True)
def painter(monkeypatch: pytest.MonkeyPatch) -> None:
    Painter.reset()
    monkeypatch.setattr(d4m, "Diffusion", Painter)


@pytest.fixture
def model(tmp_path: Path) -> str:
    return str(outline(tmp_path / "model"))


def run(world: World, ipc: int = 2, seed: int = 0, **options: Any) -> ImageSet:
    check_options(METHODS, "d4m", options)
    return METHODS["d4m"](start_of(ipc), world.context, seed, world.progress, **options)


CHANGES: list[tuple[str, Any]] = [
    ("prototypes_per_class", 1),
    ("clusters", "minibatch"),
    ("expand", 1),
    ("prototype", "nearest"),
    ("strength", 0.5),
    ("guidance", 3.0),
    ("steps", 20),
    ("template", "a photo of a {}"),
    ("prompts", {"class 1": "a cat"}),
    ("negative", ""),
    ("half", True),
    ("batch_size", 4),
]
BESIDE: dict[str, dict[str, Any]] = {"expand": {"clusters": "minibatch"}, "clusters": {"expand": 1}}


def test_every_option_changes_something(tmp_path: Path, model: str) -> None:
    parameters = inspect.signature(METHODS["d4m"]).parameters.values()
    assert {name for name, _ in CHANGES} | {"model"} == {p.name for p in parameters if p.kind is p.KEYWORD_ONLY}
    for name, value in CHANGES:
        beside = BESIDE.get(name, {})
        one, other = World(tmp_path / "a"), World(tmp_path / "b")
        made = run(one, model=model, **beside).images
        assert not np.array_equal(made, run(other, model=model, **beside | {name: value}).images), name


def test_rows_of_a_class_get_its_prototypes_prompt_and_noise_of_their_own(tmp_path: Path, model: str) -> None:
    world, start = World(tmp_path / "world"), start_of(3)
    result = run(world, 3, model=model, prompts={"class 2": "a heron"}, template="a photo of {}")
    texts = ["a photo of class 0", "a photo of class 1", "a photo of a heron"]
    assert [prompt for prompt, _ in Painter.painted] == [texts[label] for label in start.labels]
    assert len({seed for _, seed in Painter.painted}) == 9
    assert np.array_equal(result.labels, start.labels) and np.array_equal(result.ids, start.ids)
    assert result.images.dtype == np.uint8 and result.images.shape == start.images.shape
    [(_, files), (name, rows)] = world.records
    assert name == "prototypes" and len(files) == 7
    for label, text in enumerate(texts):
        own = [row for row in rows if row["class"] == CLASSES[label]]
        assert {row["prompt"] for row in own} == {text} and [row["prototype"] for row in own] == [0, 1, 2]
        sizes = [row["images"] for row in own]
        assert sizes == sorted(sizes, reverse=True) and sum(sizes) == (world.labels == label).sum()


def test_every_image_is_encoded_once_and_prototypes_are_shared(tmp_path: Path, model: str) -> None:
    world = World(tmp_path / "world")
    run(world, model=model, batch_size=3)
    assert sorted(image.tobytes() for image in Painter.encoded) == sorted(image.tobytes() for image in world.images)
    Painter.reset()
    run(world, model=model, batch_size=3, strength=0.3, guidance=1.0, template="a {}", negative="")
    assert not Painter.encoded and len(Painter.painted) == 6
    Painter.reset()
    run(world, model=model, batch_size=3, strength=0.3, guidance=1.0, template="a {}", negative="")
    assert not Painter.painted, "batches of the same run are not made again"
    run(world, model=model, batch_size=3, seed=1)
    assert len(Painter.encoded) == len(world.labels)


def test_prototypes_may_be_shared_by_the_rows_of_a_class(tmp_path: Path, model: str) -> None:
    result = run(World(tmp_path / "world"), 4, model=model, prototypes_per_class=2)
    for label in range(3):
        colours = result.images[result.labels == label][:, 2, 2]
        assert np.array_equal(colours[:2], colours[2:]) and not np.array_equal(colours[0], colours[1])


@pytest.mark.parametrize("batch_size", [1, 4])
def test_a_run_killed_at_any_call_of_the_model_ends_the_same(
    tmp_path: Path, model: str, monkeypatch: pytest.MonkeyPatch, batch_size: int
) -> None:
    monkeypatch.setattr(passes, "MOST_BYTES", 4 * 4 * LATENT**2 * 15)  # one class a pass, of tables in mixed order
    whole = World(tmp_path / "whole")
    expected = run(whole, model=model, batch_size=batch_size)
    calls, painted = Painter.calls, [*Painter.painted]
    for kill_at in range(0, calls, 5 if batch_size == 1 else 2):
        world = World(tmp_path / f"killed-{kill_at}")
        Painter.reset(kill_at)
        with pytest.raises(KilledError):
            run(world, model=model, batch_size=batch_size)
        before, encoded = len(Painter.painted), len(Painter.encoded)
        Painter.kill_at = -1
        result = run(world, model=model, batch_size=batch_size)
        assert np.array_equal(result.images, expected.images)
        assert world.records == whole.records
        assert Painter.painted == painted, "no batch is denoised again"
        assert before == 0 or len(Painter.encoded) == encoded, "no class is encoded again"
        assert len(Painter.encoded) - len(world.labels) < 13, "no more than the class that was under way"


def test_another_model_has_other_prototypes_and_images(tmp_path: Path, model: str) -> None:
    world = World(tmp_path / "world")
    run(world, model=model)
    Painter.reset()
    path = Path(model) / "vae/diffusion_pytorch_model.safetensors"
    path.write_bytes(path.read_bytes() + b" ")
    run(world, model=model)
    assert len(Painter.encoded) == len(world.labels) and len(Painter.painted) == 6
    Painter.reset()
    path = Path(model) / "unet/diffusion_pytorch_model.safetensors"
    path.write_bytes(path.read_bytes() + b" ")
    run(world, model=model)
    assert not Painter.encoded and len(Painter.painted) == 6


@pytest.mark.parametrize(
    ("ipc", "options", "sentence"),
    [
        (2, {"prompts": {"class 7": "a"}}, "prompts has 'class 7', which is no class of the images; the classes are"),
        (
            2,
            {"prompts": {"class 0": "class 1"}},
            "classes 'class 0' and 'class 1' have the same prompt 'class 1'; give",
        ),
        (
            15,
            {},
            "class 'class 2' has 10 training images, fewer than its 15 prototypes; set prototypes_per_class: 10 or",
        ),
        (2, {"template": "a photo"}, "template is 'a photo'; write {} once, where the class goes"),
        (2, {"strength": 1.5}, "strength is 1.5"),
        (2, {"model": "elsewhere"}, "model 'elsewhere' is not a folder with model_index.json"),
    ],
)
def test_bad_input_is_refused_before_any_work(
    tmp_path: Path, model: str, ipc: int, options: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(DataError) as caught:
        METHODS["d4m"](
            start_of(ipc),
            World(tmp_path / "w").context,
            0,
            World(tmp_path / "w").progress,
            **{"model": model} | options,
        )
    assert sentence in str(caught.value) and "\n" not in str(caught.value)
    assert not Painter.calls
    assert start_of(2).images.shape[1] == SIZE


def test_the_model_has_to_be_named() -> None:
    with pytest.raises(DataError, match="needs option 'model'; add it"):
        check_options(METHODS, "d4m", {})
