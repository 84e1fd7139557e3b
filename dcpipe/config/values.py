"""Kinds of values: what the blocks of params.yaml and the options of methods are made of.

Written in annotations, as in `alpha: NotNegative = 5.0`, they say the legal range once, for params.yaml and for a call
from Python alike. Annotations are pydantic's; checks are strict, but a whole number may stand for a float.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from dcpipe.types import DataError, ViewPolicy

Count = Annotated[int, Field(ge=1)]
Natural = Annotated[int, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
AtLeastOne = Annotated[float, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]
PositiveShare = Annotated[float, Field(gt=0, le=1)]
BelowOne = Annotated[float, Field(ge=0, lt=1)]
Device = Annotated[str, Field(pattern=r"^(cpu|mps|cuda(:\d+)?)$")]


def import_name(path: str) -> Any:
    """What "package.module:attribute" names; imports the module."""
    module, _, attribute = path.partition(":")
    return getattr(import_module(module), attribute)


def one_of(table: str | Collection[Any]) -> AfterValidator:
    """The value must be in `table`, a collection or, where its module is imported only when a value is checked, the
    path "package.module:TABLE" of one. Text and numbers are listed alike when another is refused."""

    def check(value: Any) -> Any:
        legal = import_name(table) if isinstance(table, str) else table
        if value not in legal:
            raise PydanticCustomError("one_of", "Input should be {legal}", {"legal": listed(legal)})
        return value

    return AfterValidator(check)


def listed(values: Collection[Any]) -> str:
    """'a', 'b' or 'c'."""
    *first, last = [repr(value) for value in values]
    return f"{', '.join(first)} or {last}" if first else last


def _distinct(values: list[Any]) -> list[Any]:
    again = next((value for place, value in enumerate(values) if value in values[:place]), None)
    if again is not None:
        raise PydanticCustomError(
            "distinct", "{again} is listed more than once; list each once", {"again": repr(again)}
        )
    return values


def _strategy(name: str) -> str:
    try:
        return ViewPolicy(siamese=name).siamese
    except DataError as error:
        raise PydanticCustomError("strategy", "{reason}", {"reason": str(error)}) from error


Distinct = AfterValidator(_distinct)
Seeds = Annotated[list[int], Field(min_length=3), Distinct]
Strategy = Annotated[str, AfterValidator(_strategy)]


@dataclass(frozen=True)
class Role:
    """Marks what an option is to the rest of params.yaml, which is checked as a whole: the name of a `network`, which
    must take the images' size; names of `teachers`, which `teacher.networks` must have; or the side of the `grid` of
    training images that a stored image is."""

    what: Literal["network", "teachers", "grid"]


@dataclass(frozen=True)
class OptionsOf:
    """Marks an option that is a mapping of options: of the method that `find` gives with what an error calls it, from
    the other options with their defaults. `without` are options of that method that are not to be given; None stands
    for no options where `none_is_empty`, else for nothing at all."""

    find: Callable[[Mapping[str, Any]], tuple[str, Callable[..., Any]]]
    without: tuple[str, ...] = ()
    none_is_empty: bool = False


Network = Annotated[str, Role("network")]
TeacherNames = Annotated[list[str], Field(min_length=1), Distinct, Role("teachers")]
GridSide = Annotated[int, Field(ge=1), Role("grid")]
