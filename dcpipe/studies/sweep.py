"""`sweep`: one of several named grids of settings (EDC, Tables 3 to 5 and 11 to 21).

Idea. A sweep is one entry of studies/params.yaml: a `base` of changes to params.yaml, and a `grid` of keys with the
values that each of them takes. Every combination of values is a variant as in the study `syntheses`. Settings that
belong together and make no grid are named under `variants`; with both, every variant is run at every point of the grid.
`run` names the sweep that is run.

Keys of a grid are BLOCK.KEY, or BLOCK.options.KEY, of params.yaml. Values are a list, whose points are named by their
values, or a mapping of names to values, for lists and null. A variant is called `KEY-VALUE`, several joined by "_".
"""

from __future__ import annotations

import json
import math
import re
import reprlib
from collections.abc import Sequence
from functools import cached_property
from itertools import product
from typing import Annotated, Any, ClassVar

import yaml
from pydantic import Field, TypeAdapter, ValidationError

from dcpipe.config.blocks import Block
from dcpipe.config.changes import ANEW
from dcpipe.studies.base import FILE, EntryName, Sizes, StudyBlock
from dcpipe.studies.syntheses import SynthesesStudy
from dcpipe.studies.variants import BLOCKS, Variant
from dcpipe.types import NotApplicableError, require

# `try_points` tells what a list may have: pydantic would name every type that a value could have had.
Values = Annotated[list[Any], Field(min_length=1)] | Annotated[dict[EntryName, Any], Field(min_length=1)]
NAME = TypeAdapter(EntryName)


class Sweep(Block):
    """A grid of settings. `of`: the synthesis method that params.yaml must have, if `base` changes single options of
    it."""

    of: str | None = None
    base: Variant = Field(default_factory=Variant)
    variants: dict[EntryName, Variant] = Field(default_factory=dict)
    grid: dict[str, Values] = Field(default_factory=dict)
    ipc: Sizes


class SweepBlock(StudyBlock):
    """Sweeps by name, and the one to run."""

    run: str
    sweeps: Annotated[dict[EntryName, Sweep], Field(min_length=1)]

    def check(self, name: str) -> None:
        """Also refuses a sweep that is not there, and grids whose keys or values cannot be used."""
        known = ", ".join(self.sweeps)
        require(self.run in self.sweeps, f"{name}.run is {self.run!r}; choose one of {known}")
        for key, sweep in self.sweeps.items():
            try_points(f"{name}.sweeps.{key}", sweep)


class SweepStudy(SynthesesStudy):
    """Every point of the sweep that `run` names, at every ipc."""

    title: ClassVar[str] = "run one of the named grids of settings (EDC, Tables 3 to 5 and 11 to 21)"
    block_type: ClassVar[type[StudyBlock]] = SweepBlock

    @property
    def sweep(self) -> Sweep:
        """The sweep that is run."""
        chosen: Sweep = self.block.sweeps[self.block.run]
        return chosen

    @cached_property
    def chains(self) -> dict[str, list[Variant]]:
        sweep, method = self.sweep, self.params.synthesis.method
        if sweep.of not in (None, method):
            raise NotApplicableError(
                f"sweep {self.block.run} changes options of the synthesis method {sweep.of!r}, but params.yaml has "
                f"{method!r}; use a preset with {sweep.of!r} (`dcpipe init --list`), or choose another sweep in run"
            )
        return {name: [sweep.base, *chain] for name, chain in points(sweep).items()}

    @property
    def sizes(self) -> Sequence[int]:
        return self.sweep.ipc

    @property
    def settings(self) -> dict[str, Any]:
        return {**super().settings, "sweep": self.block.run}


def running(text: str, name: str) -> str:
    """The text of studies/params.yaml with `run: name` in the block `sweep`; comments stay. Raises `DataError` if the
    block has no such line, or no sweep with this name."""
    content = yaml.safe_load(text)
    block = content.get("sweep") if isinstance(content, dict) else None
    known = block.get("sweeps") if isinstance(block, dict) else None
    found = re.search(r"^sweep:[^\n]*\n(?:(?:[ #][^\n]*)?\n)*?( +run:)[^\n]*", text, re.MULTILINE)
    require(found is not None and isinstance(known, dict), f"{FILE}: 'sweep.run' is missing; add it")
    assert found is not None and isinstance(known, dict)
    require(name in known, f"{FILE}: there is no sweep {name!r}; choose one of {', '.join(map(str, known))}")
    return f"{text[: found.start(1)]}{found[1]} {name}{text[found.end() :]}"


def try_points(where: str, sweep: Sweep) -> None:
    """Raises `DataError` for a sweep without points, or with a key or a value that no point can have."""
    require(bool(sweep.variants or sweep.grid), f"{where} has neither variants nor grid; give one of them")
    for place, (path, values) in enumerate(sweep.grid.items()):
        block, *keys = path.split(".")
        require(
            block in BLOCKS and len(keys) >= 1 and all(keys),
            f"{where}.grid has the key {path!r}; give BLOCK.KEY or BLOCK.options.KEY, where BLOCK is one of "
            f"{', '.join(BLOCKS)}",
        )
        chooses, kept = ANEW.get(block, ("", ()))
        choosing, later = f"{block}.{chooses}", list(sweep.grid)[place + 1 :]
        require(
            choosing not in later or keys[0] in kept,
            f"{where}.grid has {path!r} before {choosing!r}, which begins a new block; list {choosing!r} first",
        )
        for value in values.values() if isinstance(values, dict) else values:
            require(
                not isinstance(value, float) or math.isfinite(value),
                f"{where}.grid.{path} has the value {value!r}, which is not finite; give a finite number, or null for "
                f"the default, as in {{{path}: {{default: null}}}}",
            )
        for value in values if isinstance(values, list) else ():
            require(
                _can_name(path, value),
                f"{where}.grid.{path} has the value {_shown(value)}, which cannot be part of a name; give names to the "
                f"values, as in {{{path}: {{first: {_shown(value)}}}}}",
            )
    names = [name for name, _ in _points(sweep)]
    twice = next((name for name in names if names.count(name) > 1), None)
    require(twice is None, f"{where} has the point {twice} more than once; list each value once")


def _can_name(path: str, value: Any) -> bool:
    """Whether a value can name its point: a number, a truth value or a text of the signs that names have."""
    try:
        return isinstance(value, bool | int | float | str) and bool(NAME.validate_python(_name(path, value)))
    except ValidationError:
        return False


def _shown(value: Any) -> str:
    """A value as it is written in YAML; a list or a mapping, which may have any number of values, is cut."""
    return json.dumps(value) if value is None or isinstance(value, str | int | float) else reprlib.repr(value)


def points(sweep: Sweep) -> dict[str, list[Variant]]:
    """The variants of every point, by the name of the point, in the order of the file; the last key varies fastest."""
    return dict(_points(sweep))


def _points(sweep: Sweep) -> list[tuple[str, list[Variant]]]:
    axes = [_axis(path, values) for path, values in sweep.grid.items()]
    if sweep.variants:
        axes.insert(0, list(sweep.variants.items()))
    return [("_".join(name for name, _ in point), [variant for _, variant in point]) for point in product(*axes)]


def _axis(path: str, values: Any) -> list[tuple[str, Variant]]:
    named = values.items() if isinstance(values, dict) else ((_name(path, value), value) for value in values)
    return [(name, _change(path, value)) for name, value in named]


def _name(path: str, value: bool | float | str) -> str:
    """`zeta-1.5` for the value 1.5 of evaluation.zeta."""
    return f"{path.rpartition('.')[2]}-{value}".lower().replace("/", "-")


def _change(path: str, value: Any) -> Variant:
    """The variant that sets one key."""
    *outer, last = path.split(".")
    content: dict[str, Any] = {last: value}
    for key in reversed(outer):
        content = {key: content}
    return Variant.model_validate(content)
