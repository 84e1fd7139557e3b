"""Types of values for the blocks of params.yaml and the options of methods.

An annotation such as `alpha: NotNegative = 5.0` defines the valid range once, both for params.yaml and for a call from
Python. Annotations are those of pydantic. Checks are strict, but a float may be given as a whole number.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, PlainSerializer, WrapValidator
from pydantic_core import PydanticCustomError

from dcpipe.types import DataError, ViewPolicy
from dcpipe.types.paths import local_path

# The bounds above are far beyond any use; they keep a number like 10^400 from what is computed with it.
Count = Annotated[int, Field(ge=1, lt=2**31)]
Natural = Annotated[int, Field(ge=0, lt=2**31)]
Side = Annotated[int, Field(ge=1, lt=2**16)]  # of an image in pixels
# Generators take a seed modulo 2^64, so that larger ones would be others again.
Seed = Annotated[int, Field(ge=-sys.maxsize - 1, le=sys.maxsize)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
AtLeastOne = Annotated[float, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]
PositiveShare = Annotated[float, Field(gt=0, le=1)]
BelowOne = Annotated[float, Field(ge=0, lt=1)]
Device = Annotated[str, Field(pattern=r"^(cpu|mps|cuda(:\d+)?)$")]


LEARNED = "learned"


def import_name(path: str) -> Any:
    """Import the module of "package.module:attribute" and return the attribute."""
    module, _, attribute = path.partition(":")
    return getattr(import_module(module), attribute)


def one_of(valid: Collection[Any]) -> AfterValidator:
    """The value must be in `valid`. The error message lists texts and numbers in the same way."""

    def check(value: Any) -> Any:
        if value not in valid:
            raise PydanticCustomError("one_of", "Input should be {valid}", {"valid": listed(valid)})
        return value

    return AfterValidator(check)


def listed(values: Collection[Any]) -> str:
    """The values as text: 'a', 'b' or 'c'."""
    *first, last = [repr(value) for value in values]
    return f"{', '.join(first)} or {last}" if first else last


def _distinct(values: list[Any]) -> list[Any]:
    again = next((value for place, value in enumerate(values) if value in values[:place]), None)
    if again is not None:
        raise PydanticCustomError(
            "distinct", "{again} is listed more than once; list each once", {"again": repr(again)}
        )
    return values


def _local(path: str) -> str:
    try:
        local_path(path, "the value")
    except DataError as error:
        raise PydanticCustomError("local", "{reason}", {"reason": str(error)}) from error
    return path


def _or_learned(value: Any, check: Callable[[Any], Any]) -> Any:
    """The word instead of a number."""
    return value if value == LEARNED else check(value)


def _strategy(name: str) -> str:
    try:
        return ViewPolicy(siamese=name).siamese
    except DataError as error:
        raise PydanticCustomError("strategy", "{reason}", {"reason": str(error)}) from error


Distinct = AfterValidator(_distinct)
Seeds = Annotated[list[Seed], Field(min_length=3), Distinct]
LocalPath = Annotated[str, AfterValidator(_local)]
# A learning rate, or the word `LEARNED` for the one that was learned with the condensed images. It has the type of a
# number, which is what it is wherever it is used (`EvaluationBlock.at_rate`).
Rate = Annotated[float, Field(gt=0), WrapValidator(_or_learned), PlainSerializer(lambda rate: rate)]
Strategy = Annotated[str, AfterValidator(_strategy)]


@dataclass(frozen=True)
class Role:
    """Marks an option that is checked against the rest of params.yaml: the name of a `network` that is matched, which
    must take images of this size and treat each by itself; names of `teachers`, which must be in `teacher.networks`;
    the side of the `grid` of training images in a stored image; or the folder of a diffusion `model`, which
    `dcpipe check` looks at."""

    name: Literal["network", "teachers", "grid", "model"]


@dataclass(frozen=True)
class OptionsOf:
    """Marks an option that is a mapping of the options of another method.

    `find` takes the other options with their defaults and returns the name of the method for error messages and the
    method. `without` are options of the method that may not be given. With `none_is_empty`, None means no options;
    otherwise None means that there is no such method.
    """

    find: Callable[[Mapping[str, Any]], tuple[str, Callable[..., Any]]]
    without: tuple[str, ...] = ()
    none_is_empty: bool = False


Network = Annotated[str, Role("network")]
TeacherNames = Annotated[list[str], Field(min_length=1), Distinct, Role("teachers")]
ModelFolder = Annotated[LocalPath, Role("model")]
GridSide = Annotated[int, Field(ge=1), Role("grid")]
