"""SRe2L, CDA, G-VBSM and EDC as in the table of methods: every option has an effect, every loss falls."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scenes import THREE, World, start_of

from dcpipe.config.options import check_options
from dcpipe.synthesis import METHODS, recovery
from dcpipe.types import DataError, ImageSet

RECOVERED = ("sre2l", "cda", "gvbsm", "edc", "edc-code")
LABELS = [0, 1, 2, 0, 1, 2]
# The settings in which one option is changed: few steps, a loss in which matching matters, networks with batch norms.
BASE: dict[str, dict[str, Any]] = {
    "sre2l": {"observers": ["res"], "iterations": 3, "weight": 1.0},
    "cda": {"observers": ["res"], "iterations": 3, "weight": 1.0},
    "gvbsm": {"observers": ["res", "conv"], "iterations": 3, "weight": 1.0},
    "edc": {"observers": ["res", "conv"], "iterations": 3, "weight": 1.0, "flat": 100.0},
    "edc-code": {"observers": ["res", "conv"], "iterations": 3, "weight": 1.0, "flat": 1000.0},
}
COMMON = [
    ("observers", ["wide"], {}),
    ("iterations", 4, {}),
    ("lr", 0.5, {}),
    ("batch_size", 2, {}),
    ("weight", 30.0, {}),
    ("first", 1.0, {}),
    ("crop_min", 0.3, {}),
    ("flip", 1.0, {"crop_min": 1.0}),
    ("initial", "rded", {}),
    ("precision", "bfloat16", {}),
]
OWN: dict[str, list[tuple[str, Any, dict[str, Any]]]] = {
    "sre2l": [("curriculum", 1.0, {}), ("jitter", 0, {}), ("initial", "real", {})],
    "cda": [("curriculum", 0.0, {}), ("jitter", 0, {}), ("initial", "real", {})],
    "gvbsm": [
        ("crop_min", 0.3, {"pad": 0}),
        ("momentum", 0.0, {}),
        ("average", "zero", {}),
        ("drop", 0.0, {}),
        ("density", 0.0, {"weight": 0.01}),
        ("patch", 8, {}),
        ("pad", 0, {}),
        ("jitter", 0, {}),
        ("initial", "real", {}),
    ],
    "edc": [
        ("alpha", 1.0, {}),
        ("classes", "mixture", {}),
        ("norms", "measured", {}),
        ("variance", "within", {}),
        ("swapped", True, {}),
        ("momentum", 0.0, {}),
        ("average", "zero", {}),
        ("flat", 0.0, {}),
        ("flatness", "statistics", {}),
        ("flatness", "sam", {"flat": 1.0}),
        ("decay", 0.0, {}),
        ("temperature", 1.0, {}),
        ("direction", "code", {"flat": 1000.0}),
        ("patch", 8, {}),
        ("initial", "noise", {}),
        ("factor", 2, {"initial": "rded"}),
        ("candidates", 3, {"initial": "rded"}),
    ],
}
OPPOSITE = {"classes": "each", "variance": "total", "swapped": False, "average": "first", "direction": "paper"}
OWN["edc-code"] = [(name, OPPOSITE.get(name, value), beside) for name, value, beside in OWN["edc"]]
CHANGES = [
    (method, *change)
    for method in RECOVERED
    for change in [*(c for c in COMMON if (method, c[0]) != ("gvbsm", "crop_min")), *OWN[method]]
]


def run(world: World, method: str, seed: int = 0, start: int = 1, **options: Any) -> ImageSet:
    """As the stage runs it."""
    check_options(METHODS, method, options)
    return METHODS[method](start_of(LABELS, start), world.context, seed, world.progress, **options)


def options_of(method: str) -> dict[str, Any]:
    parameters = inspect.signature(METHODS[method]).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """One for all runs that are compared, as their statistics are the same."""
    return World(tmp_path_factory.mktemp("methods"), THREE)


@pytest.fixture(scope="module")
def plainly(world: World) -> Callable[..., np.ndarray]:
    """Images of a method with the given options, made once."""
    made: dict[str, np.ndarray] = {}

    def images(method: str, **options: Any) -> np.ndarray:
        name = f"{method} {sorted(options.items())}"
        if name not in made:
            made[name] = run(world, method, **options).images
        return made[name]

    return images


@pytest.mark.parametrize("method", RECOVERED)
def test_every_option_has_its_change_here(method: str) -> None:
    assert {name for name, *_ in COMMON + OWN[method]} >= set(options_of(method))
    assert {name for its, name, *_ in CHANGES if its == method} == set(options_of(method))


@pytest.mark.parametrize(("method", "name", "value", "beside"), CHANGES)
def test_every_option_changes_something(
    world: World,
    plainly: Callable[..., np.ndarray],
    method: str,
    name: str,
    value: Any,
    beside: dict[str, Any],
) -> None:
    base = BASE[method] | beside
    assert (options_of(method) | base)[name] != value
    after = run(world, method, **(base | {name: value}))
    assert not np.array_equal(plainly(method, **base), after.images)


@pytest.mark.parametrize("method", RECOVERED)
def test_images_are_a_function_of_options_and_seed(world: World, method: str) -> None:
    results = [run(world, method, seed, **BASE[method]).images for seed in (5, 6, 5)]
    assert np.array_equal(results[0], results[2]) and not np.array_equal(results[0], results[1])


@pytest.mark.parametrize("method", RECOVERED)
def test_the_set_keeps_its_shape_labels_ids_and_order(world: World, method: str) -> None:
    start = start_of(LABELS)
    result = run(world, method, **BASE[method])
    assert result.images.dtype == np.uint8 and result.images.shape == start.images.shape
    assert np.array_equal(result.labels, start.labels) and np.array_equal(result.ids, start.ids)
    assert (result.classes, result.grid) == (start.classes, 1)
    assert not np.array_equal(result.images, start.images)


@pytest.mark.parametrize("method", RECOVERED)
def test_the_loss_falls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    monkeypatch.setattr(recovery, "REPORT_SECONDS", -1.0)
    world = World(tmp_path, THREE)
    run(world, method, observers=["res"], iterations=30, weight=1.0, lr=0.1)
    found = [re.match(r"batch 1 of \d: match (\d+\.\d+)", note) for *_, note in world.told]
    values = [float(match[1]) for match in found if match]
    assert len(values) == 30
    assert np.mean(values[-6:]) < 0.9 * np.mean(values[:6])


def test_sre2l_and_cda_use_no_real_image(tmp_path: Path) -> None:
    world = World(tmp_path, THREE)
    for method in ("sre2l", "cda"):
        run(world, method, **BASE[method])
    assert world.passes == 0 and not list((tmp_path / "shared").iterdir())
    run(world, "gvbsm", **BASE["gvbsm"])
    run(world, "edc", **BASE["edc"])
    assert world.passes == 1  # and those of gvbsm serve edc


def test_cda_without_its_curriculum_is_sre2l(world: World) -> None:
    first = run(world, "sre2l", **BASE["sre2l"])
    assert np.array_equal(run(world, "cda", curriculum=0.0, **BASE["cda"]).images, first.images)
    assert options_of("cda") == options_of("sre2l") | {"curriculum": 1.0}


@pytest.mark.parametrize("method", ["sre2l", "gvbsm"])
def test_from_noise_the_selected_pixels_do_not_matter(world: World, method: str) -> None:
    results = [run(world, method, start=start, **BASE[method]) for start in (1, 2)]
    assert np.array_equal(results[0].images, results[1].images)


@pytest.mark.parametrize(
    ("method", "options", "text"),
    [
        ("sre2l", {"iterations": 0}, "iterations is 0: input should be greater than or equal to 1"),
        ("sre2l", {"lr": "1e-3"}, "lr is '1e-3': input should be a valid number; YAML needs a point, as in 1.0e-3"),
        ("sre2l", {"lr": 0}, "lr is 0: input should be greater than 0"),
        ("sre2l", {"weight": float("nan")}, "weight is nan: input should be a finite number"),
        ("sre2l", {"batch_size": 0}, "batch_size is 0: input should be greater than or equal to 1"),
        ("sre2l", {"observers": []}, "observers is []: give at least 1 entry"),
        ("sre2l", {"initial": "white"}, "initial is 'white': input should be 'noise', 'real' or 'rded'"),
        ("sre2l", {"jitter": -1}, "jitter is -1: input should be greater than or equal to 0"),
        ("sre2l", {"first": -1}, "first is -1: input should be greater than or equal to 0"),
        ("sre2l", {"flip": 2}, "flip is 2: input should be less than or equal to 1"),
        ("cda", {"curriculum": 2.0}, "curriculum is 2.0: input should be less than or equal to 1"),
        ("cda", {"curriculum": -0.1}, "curriculum is -0.1: input should be greater than or equal to 0"),
        ("cda", {"crop_min": 0.0}, "crop_min is 0.0: input should be greater than 0"),
        ("cda", {"crop_min": 1.1}, "crop_min is 1.1: input should be less than or equal to 1"),
        ("gvbsm", {"drop": 1.5}, "drop is 1.5: input should be less than or equal to 1"),
        ("gvbsm", {"momentum": 1.5}, "momentum is 1.5: input should be less than or equal to 1"),
        ("gvbsm", {"density": -1.0}, "density is -1.0: input should be greater than or equal to 0"),
        ("gvbsm", {"pad": -1}, "pad is -1: input should be greater than or equal to 0"),
        (
            "gvbsm",
            {"crop_min": 0.5},
            "crop_min is 0.5 and pad is 4, but only one kind of crop is possible; set crop_min: 1 or pad: 0",
        ),
        ("gvbsm", {"patch": 0}, "patch is 0: input should be greater than or equal to 1"),
        ("edc", {"alpha": 1.01}, "alpha is 1.01: input should be less than or equal to 1"),
        ("edc", {"classes": "all"}, "classes is 'all': input should be 'each' or 'mixture'"),
        ("edc", {"norms": "own"}, "norms is 'own': input should be 'running' or 'measured'"),
        ("edc", {"variance": "between"}, "variance is 'between': input should be 'total' or 'within'"),
        ("edc", {"average": "last"}, "average is 'last': input should be 'first' or 'zero'"),
        ("edc", {"direction": "back"}, "direction is 'back': input should be 'paper' or 'code'"),
        ("edc", {"flatness": "none"}, "flatness is 'none': input should be 'logits', 'statistics' or 'sam'"),
        ("edc-code", {"flat": -1}, "flat is -1: input should be greater than or equal to 0"),
        ("edc", {"flat": -1}, "flat is -1: input should be greater than or equal to 0"),
        ("edc", {"decay": 1}, "decay is 1: input should be less than 1"),
        ("edc", {"temperature": -1}, "temperature is -1: input should be greater than 0"),
    ],
)
def test_wrong_options_are_refused(method: str, options: dict[str, Any], text: str) -> None:
    with pytest.raises(DataError) as caught:
        METHODS[method](None, None, 0, None, **(BASE[method] | options))
    assert str(caught.value) == f"synthesis method {method!r}: {text}"


@pytest.mark.parametrize(
    ("method", "options", "text"),
    [
        (
            "sre2l",
            {"observers": ["res", "who"]},
            "synthesis: observer 'who' is not among the teachers; choose from res",
        ),
        (
            "sre2l",
            {"observers": ["conv"]},
            "observer 'conv': network 'convnet-d2-w3' has no BatchNorm2d layer to observe",
        ),
        ("edc", {"initial": "rded", "factor": 3}, "rded: factor 3 does not divide the images' 16 pixels"),
        ("edc", {"initial": "rded", "candidates": 1}, "rded: candidates is 1, but the 2 mosaics"),
    ],
)
def test_options_that_do_not_suit_the_images_are_refused(
    world: World, method: str, options: dict[str, Any], text: str
) -> None:
    with pytest.raises(DataError) as caught:
        run(world, method, **(BASE[method] | options))
    assert str(caught.value).startswith(text)


def test_unknown_options_are_listed() -> None:
    with pytest.raises(DataError, match="has no option 'alpha'; its options are observers, iterations, lr"):
        check_options(METHODS, "sre2l", {"alpha": 0.5})
