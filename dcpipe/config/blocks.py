"""Blocks, of which parameter files consist, and error messages about mistakes in them."""

from __future__ import annotations

import difflib
import re
import reprlib
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any, ClassVar, TypeVar, get_args

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    SerializationInfo,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
)
from pydantic_core import ErrorDetails

from dcpipe.config.values import Count, Positive, Share
from dcpipe.types import DataError, describe_os_error, require

__all__ = [
    "WHOLE",
    "Block",
    "Count",
    "GrownBlock",
    "Positive",
    "Share",
    "checked",
    "parse_yaml",
    "read",
    "remedy",
    "said",
]


class Block(BaseModel):
    """A frozen pydantic model that refuses unknown keys and does not convert types."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    def unchanged(self, *keys: str) -> set[str]:
        """Those of the keys that have their default."""
        return {key for key in keys if getattr(self, key) == type(self).model_fields[key].default}


WHOLE = "whole"  # the context in which a grown block is written with all keys


class GrownBlock(Block):
    """A block with keys that were `added` later. Where they have their defaults they are left out of its content, so
    that it has the digest that it had before the keys existed."""

    added: ClassVar[tuple[str, ...]] = ()

    @model_serializer(mode="wrap")
    def _as_before(self, serialize: SerializerFunctionWrapHandler, info: SerializationInfo) -> dict[str, Any]:
        content: dict[str, Any] = serialize(self)
        unchanged = set() if info.context == WHOLE else self.unchanged(*self.added)
        return {key: value for key, value in content.items() if key not in unchanged}


Checked = TypeVar("Checked", bound=Block)
# Values in messages are cut: a YAML file of a few lines may describe a value of gigabytes by aliases.
_REPR = reprlib.Repr()
MAX_TEXT = 4096  # characters of a text in a parameter file, which may be a path
_REPR.maxlevel, _REPR.maxlist, _REPR.maxdict, _REPR.maxstring, _REPR.maxother = 4, 20, 20, 200, 200


class _Loader(yaml.SafeLoader):
    """YAML 1.1 without Python tags, in which a repeated key is an error, because the first one would be lost."""

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

    def construct_scalar(self, node: yaml.ScalarNode | yaml.MappingNode) -> Any:
        """A value that may be written to files and given to the system, which takes neither NUL nor half a surrogate
        pair; an escape such as "\\0" makes one."""
        value: Any = super().construct_scalar(node)
        if isinstance(value, str):
            where = f"the text in line {node.start_mark.line + 1}"
            require(
                len(value) <= MAX_TEXT, f"{where} has {len(value):,} characters, more than {MAX_TEXT:,}; shorten it"
            )
            strange = next((sign for sign in value if sign == "\0" or "\ud800" <= sign <= "\udfff"), "")
            require(not strange, f"{where} contains {strange!r}, which no file can hold as text; remove it")
        return value


def parse_yaml(text: str, where: str) -> Any:
    """The content of a YAML text. Raises `DataError` for invalid YAML and for a repeated key in a mapping."""
    try:
        return yaml.load(text, Loader=_Loader)  # a subclass of SafeLoader
    except yaml.YAMLError as error:
        raise DataError(f"{where} is not YAML: {' '.join(str(error).split())}; correct it there") from error
    except DataError as error:
        raise DataError(f"{where}: {error}") from error
    except RecursionError as error:
        raise DataError(f"{where} is nested too deeply; write it with fewer levels") from error
    except (ValueError, OverflowError) as error:  # for example a date that does not exist
        raise DataError(f"{where} has a value that cannot be read ({error}); correct it there") from error


def read(path: Path, wanted: str) -> dict[str, Any]:
    """The mapping in a YAML file. Raises `DataError`, which says what was `wanted`, if the file contains no mapping."""
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 (byte {error.start}); save it as UTF-8") from error
    except OSError as error:
        raise DataError(describe_os_error(error)) from error
    content = parse_yaml(text, str(path))
    require(isinstance(content, dict), f"{path} must contain {wanted}")
    return dict(content)


def checked(model: type[Checked], content: Mapping[str, Any], where: str) -> Checked:
    """`content` as a block. Raises `DataError` about the first problem, with the valid keys if a key is unknown."""
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise DataError(f"{where}: {_sentence(error, model)}") from error


def _sentence(error: ValidationError, model: type[Block]) -> str:
    """A description of the first problem, with the valid keys if a key is unknown."""
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        valid = _keys_at(model, first["loc"][:-1])
        close = difflib.get_close_matches(str(first["loc"][-1]), valid, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        return f"unknown key {place!r}; valid keys are {', '.join(valid)}{hint}"
    if first["type"] == "missing":
        return f"{place!r} is missing; add it"
    return f"{place} is {_REPR.repr(first['input'])}: {said(first)}{remedy(first['input'])}"


def said(problem: ErrorDetails) -> str:
    """A problem that pydantic found, in words that continue a sentence."""
    kind, limits = problem["type"], problem.get("ctx", {})
    if kind in ("too_short", "too_long"):
        n, bound = (limits["min_length"], "least") if kind == "too_short" else (limits["max_length"], "most")
        return f"give at {bound} {n} {'entry' if n == 1 else 'entries'}"
    return problem["msg"][0].lower() + problem["msg"][1:]


def remedy(value: Any) -> str:
    """A hint for a number that YAML 1.1 reads as text, such as 1e-3, the most common mistake in parameter files."""
    if not isinstance(value, str) or not re.fullmatch(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+", value):
        return ""
    missing, example = ("a point", "1.0e-3") if "." not in value else ("a sign after the e", "1.0e+3")
    return f"; YAML needs {missing}, as in {example}"


def _keys_at(model: type[Block], location: tuple[int | str, ...]) -> list[str]:
    """The valid keys of the block at a location inside `model`."""
    block: Any = model
    for part in location:
        if isinstance(block, type) and issubclass(block, BaseModel):
            block = block.model_fields[str(part)].annotation
            block = get_args(block)[0] if type(None) in get_args(block) else block  # `Block | None`
        else:  # a mapping of names to blocks
            block = get_args(block)[-1]
    return [field.alias or name for name, field in block.model_fields.items()]
