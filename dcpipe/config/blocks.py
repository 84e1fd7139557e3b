"""Blocks: what a parameter file is made of, and the sentences about what is wrong in one."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dcpipe.types import DataError, require

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]


class Block(BaseModel):
    """Frozen; unknown keys are errors; no silent conversion of types."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


Checked = TypeVar("Checked", bound=Block)


def read(path: Path, wanted: str) -> dict[str, Any]:
    """The mapping that a YAML file holds; `DataError` says what was `wanted` when it holds none."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise DataError(f"{path} is not YAML: {' '.join(str(error).split())}; correct it there") from error
    require(isinstance(content, dict), f"{path} must hold {wanted}")
    return dict(content)


def checked(model: type[Checked], content: Mapping[str, Any], where: str) -> Checked:
    """`content` as a block; `DataError` tells the first problem, with the legal keys where one is unknown."""
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise DataError(f"{where}: {_sentence(error, model)}") from error


def _sentence(error: ValidationError, model: type[Block]) -> str:
    """The first problem, with the legal keys where a key is unknown."""
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        legal = _keys_at(model, first["loc"][:-1])
        close = difflib.get_close_matches(str(first["loc"][-1]), legal, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        return f"unknown key {place!r}; legal ones are {', '.join(legal)}{hint}"
    if first["type"] == "missing":
        return f"{place!r} is missing; add it"
    sentence = f"{place} is {first['input']!r}: {first['msg'][0].lower()}{first['msg'][1:]}"
    # YAML 1.1 reads 1e-3 as text: the commonest slip in a parameter file deserves its remedy.
    number = isinstance(first["input"], str) and re.fullmatch(r"[-+]?\d+[eE][-+]?\d+", first["input"])
    return f"{sentence}; YAML wants a point, as in 1.0e-3" if number else sentence


def _keys_at(model: type[Block], location: tuple[int | str, ...]) -> list[str]:
    """Legal keys of the block at a location inside `model`."""
    block: Any = model
    for part in location:
        if isinstance(block, type) and issubclass(block, BaseModel):
            block = block.model_fields[str(part)].annotation
            block = get_args(block)[0] if type(None) in get_args(block) else block  # `Block | None`
        else:  # a mapping of names to blocks
            block = get_args(block)[-1]
    return list(block.model_fields)
