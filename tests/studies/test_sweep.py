"""Sweeps: the points of a grid, what is refused, and every sweep that is shipped with the preset that it is for."""

from __future__ import annotations

import copy
import math
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from dcpipe import studies
from dcpipe.config import params, presets
from dcpipe.config.params import Params
from dcpipe.studies.sweep import Sweep, SweepStudy, points, running
from dcpipe.studies.variants import BLOCKS
from dcpipe.types import DataError, NotApplicableError

FILE = Path(__file__).resolve().parents[2] / "studies/params.yaml"
SHIPPED: dict[str, Any] = yaml.safe_load(FILE.read_text(encoding="utf-8"))["sweep"]
IMAGENET, CIFAR = "imagenet-1k-edc-ipc10", "cifar10-edc-ipc10"
# Preset and number of students' settings of each: the rows of the table, times its networks.
TABLES: dict[str, tuple[str, int]] = {
    "iterations-digits": ("digits", 5 * 2),
    "zeta": (IMAGENET, 5 * 4),
    "better-training": (IMAGENET, 5 * 3),
    "flatness": (IMAGENET, 8 * 3),
    "design": (IMAGENET, 12 * 3),
    "observers": (IMAGENET, 6 * 2),
    "labellers": (IMAGENET, 3 * 3),
    "alrs": (IMAGENET, 4 * 3),
    "ssrs": (IMAGENET, 2 * 4),
    "ema": (IMAGENET, 4),
    "backbones": (CIFAR, 2 * 3),
    "iterations": (CIFAR, 6),
    "ema-batch": (CIFAR, 5 * 4),
    "schedules": (CIFAR, 4 * 4),
}


@cache
def preset_of(name: str) -> tuple[Params, dict[str, Any]]:
    content = yaml.safe_load(presets.text(name))
    return params.parse(content), content


@cache
def study_of(preset: str, name: str) -> SweepStudy:
    block = studies.parse("sweep", {"sweep": {**SHIPPED, "run": name}})
    return SweepStudy("sweep", block, *preset_of(preset))


def test_every_shipped_sweep_is_tested() -> None:
    assert set(TABLES) == set(SHIPPED["sweeps"])


@pytest.mark.parametrize("name", TABLES)
def test_a_shipped_sweep_has_the_rows_of_its_table(name: str) -> None:
    """The cells are parsed as params.yaml is, so every key, network, protocol and option exists."""
    preset, count = TABLES[name]
    cells = study_of(preset, name).cells
    assert len(cells) == count
    assert len({(cell.digest(*BLOCKS), cell.labels) for cell in cells}) == count, "no two rows are the same setting"


def test_values_are_those_of_the_tables() -> None:
    def values(name: str, of: Any) -> list[Any]:
        return [of(cell.params) for cell in study_of(TABLES[name][0], name).cells]

    zetas = values("zeta", lambda its: (its.evaluation.student, its.evaluation.zeta, its.evaluation.ema))
    assert zetas[:6] == [*(("resnet18", zeta, 0.0) for zeta in (1.0, 1.5, 2.0, 2.5, 3.0)), ("resnet50", 1.0, 0.0)]
    alpha = values("design", lambda its: (its.synthesis.options["alpha"], its.softlabels.augmentation.scale_min))
    assert {*alpha} == {(alpha, crop) for alpha in (0.0, 0.25, 0.5, 0.75) for crop in (0.08, 0.5)}
    gamma = values("alrs", lambda its: (its.evaluation.schedule, its.evaluation.decay_factor))
    assert {*gamma} == {("alrs", gamma) for gamma in (0.997, 0.9975, 0.99775, 0.997875)}
    assert {*values("ssrs", lambda its: (its.selection.ipc, its.evaluation.schedule, its.evaluation.zeta))} == {
        (40, "smoothing", 2.0),
        (40, "ssrs", 2.0),
    }
    assert {*values("iterations", lambda its: its.evaluation.batch_size)} == {50}  # RDED's at 10 images per class
    seen = values("backbones", lambda its: its.synthesis.options.get("observers"))
    assert [None if its is None else len(its) for its in seen] == [5, 5, 5, None, None, None]


def test_a_sweep_of_a_method_needs_a_preset_with_it() -> None:
    with pytest.raises(NotApplicableError) as error:
        _ = study_of("digits", "ema").cells
    assert str(error.value).startswith("sweep ema changes options of the synthesis method 'edc', but params.yaml has ")


@settings(deadline=None, max_examples=30)
@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=4, unique=True),
    st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=3, unique=True),
    st.integers(0, 3),
)
def test_a_grid_has_every_combination_once(steps: list[int], names: list[str], variants: int) -> None:
    grid = {"synthesis.options.iterations": steps, "softlabels.teachers": {name: [name] for name in names}}
    named = {f"v{n}": {"evaluation": {"batch_size": n + 1}} for n in range(variants)}
    made = points(Sweep.model_validate({"variants": named, "grid": grid, "ipc": [1]}))
    assert len(made) == len(steps) * len(names) * max(variants, 1)
    last = made[f"{'v0_' if variants else ''}iterations-{steps[-1]}_{names[0]}"]
    assert last[-2].synthesis == {"options": {"iterations": steps[-1]}}
    assert last[-1].softlabels == {"teachers": [names[0]]}


GRID = {"evaluation.zeta": [1.0, 2.0]}
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"grid": {}}, "sweep.sweeps.it has neither variants nor grid; give one of them"),
    ({"grid": {"zeta": [1.0]}}, "sweep.sweeps.it.grid has the key 'zeta'; give BLOCK.KEY or BLOCK.options.KEY, where"),
    ({"grid": {"images.size": [8]}}, "sweep.sweeps.it.grid has the key 'images.size'; give BLOCK.KEY or "),
    (
        {"grid": {"evaluation.zeta": [-1.0]}},
        "sweep.sweeps.it.grid.evaluation.zeta has the value -1.0, which cannot be ",
    ),
    (
        {"grid": {"synthesis.options.iterations": [5, 10], "synthesis.method": ["edc", "sre2l"]}},
        "sweep.sweeps.it.grid has 'synthesis.options.iterations' before 'synthesis.method', which begins a new block; ",
    ),
    (
        {"grid": {"evaluation.zeta": [1.0, None]}},
        "sweep.sweeps.it.grid.evaluation.zeta has the value null, which cannot be part of a name; give names to the "
        "values, as in {evaluation.zeta: {first: null}}",
    ),
    (
        {"grid": {"evaluation.zeta": [[1.0]]}},
        "sweep.sweeps.it.grid.evaluation.zeta has the value [1.0], which cannot be part of a name; give names",
    ),
    (
        {"grid": {"evaluation.zeta": [math.nan]}},
        "sweep.sweeps.it.grid.evaluation.zeta has the value nan, which is not finite; give a finite number, or null "
        "for the default, as in {evaluation.zeta: {default: null}}",
    ),
    (
        {"grid": {"evaluation.zeta": {"most": math.inf}}},
        "sweep.sweeps.it.grid.evaluation.zeta has the value inf, which is not finite; give a finite number, or null ",
    ),
    ({"grid": {"evaluation.zeta": [1.0, 1.0]}}, "sweep.sweeps.it has the point zeta-1.0 more than once; list each "),
    ({"grid": {"evaluation.zeta": []}}, "sweep.sweeps.it.grid.evaluation.zeta"),
    ({"ipc": []}, "sweep.sweeps.it.ipc is []: give at least 1 entry"),
]


@pytest.mark.parametrize(("changes", "sentence"), REFUSED)
def test_what_is_wrong_is_refused(changes: dict[str, Any], sentence: str) -> None:
    block = {"run": "it", "sweeps": {"it": {"grid": GRID, "ipc": [1], **changes}}, "seeds": [0, 1, 2]}
    with pytest.raises(DataError) as error:
        studies.parse("sweep", {"sweep": block}, "s.yaml")
    assert str(error.value).startswith(f"s.yaml: {sentence}")


def test_an_unknown_sweep_lists_the_known() -> None:
    block = copy.deepcopy(SHIPPED) | {"run": "all"}
    with pytest.raises(DataError, match=r"^s.yaml: sweep.run is 'all'; choose one of iterations-digits, zeta, "):
        studies.parse("sweep", {"sweep": block}, "s.yaml")


def test_the_name_of_a_sweep_is_written_into_its_line_alone() -> None:
    text = FILE.read_text(encoding="utf-8")
    changed = running(text, "zeta")
    before, after = text.splitlines(), changed.splitlines()
    assert [pair for pair in zip(before, after, strict=True) if pair[0] != pair[1]] == [
        ("  run: iterations-digits", "  run: zeta")
    ]
    assert running(changed, "iterations-digits") == text
    with pytest.raises(DataError, match=r"^studies/params.yaml: there is no sweep 'who'; choose one of iterations-"):
        running(text, "who")
    with pytest.raises(DataError, match=r"^studies/params.yaml: 'sweep.run' is missing; add it$"):
        running("ladder: {}\n", "zeta")
