"""Blocks: what a parameter file is made of, and the sentences about what is wrong in one."""

from __future__ import annotations

import difflib
import re
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from dcpipe.config.values import Count, Positive, Share
from dcpipe.types import DataError, require

__all__ = ["Block", "Count", "Positive", "Share", "checked", "lowered", "parse_yaml", "read", "remedy"]


class Block(BaseModel):
    """Frozen; unknown keys are errors; no silent conversion of types."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


Checked = TypeVar("Checked", bound=Block)


class _Loader(yaml.SafeLoader):
    """YAML 1.1 without tags of Python's, where a key that is given twice is an error: the first one would be lost."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        lines: dict[Any, int] = {}
        for key, _ in node.value:
            line = key.start_mark.line + 1
            if isinstance(key, yaml.ScalarNode) and key.value != "<<":
                first = lines.get(key.value, line)
                lines_of = f"line {line}" if first == line else f"lines {first} and {line}"
                require(key.value not in lines, f"key {key.value!r} is given twice, in {lines_of}; keep one")
                lines[key.value] = line
        return super().construct_mapping(node, deep)


def parse_yaml(text: str, where: str) -> Any:
    """What a YAML text holds. `DataError` for what is not YAML, and for a key that a mapping has twice."""
    try:
        return yaml.load(text, Loader=_Loader)  # a subclass of the safe one
    except yaml.YAMLError as error:
        raise DataError(f"{where} is not YAML: {' '.join(str(error).split())}; correct it there") from error
    except DataError as error:
        raise DataError(f"{where}: {error}") from error


def read(path: Path, wanted: str) -> dict[str, Any]:
    """The mapping that a YAML file holds; `DataError` says what was `wanted` when it holds none."""
    content = parse_yaml(path.read_text(encoding="utf-8"), str(path))
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
        return f"unknown key {place!r}; valid keys are {', '.join(legal)}{hint}"
    if first["type"] == "missing":
        return f"{place!r} is missing; add it"
    return f"{place} is {first['input']!r}: {lowered(first['msg'])}{remedy(first['input'])}"


def lowered(message: str) -> str:
    """A message of pydantic's, to go on a sentence with."""
    return message[0].lower() + message[1:]


def remedy(value: Any) -> str:
    """What to add about a wrong value that YAML 1.1 read as text: 1e-3, the commonest slip in a parameter file."""
    if not isinstance(value, str) or not re.fullmatch(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+", value):
        return ""
    return "; YAML wants a point, as in 1.0e-3" if "." not in value else "; YAML wants a sign after the e, as in 1.0e+3"


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
