"""JSON and files that a stranger may have written: read within bounds, and refused in one sentence.

A reader gets a value of known types or a `DataError` that names the file, the place in it and a remedy. It never gets
an error of a parser, and never uses memory that the file's own size does not explain.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dcpipe.types import DataError, require

MAX_DEPTH = 64
MAX_NAME = 1000  # characters of a name
_SHOWN = 60  # characters of a foreign value in a message

Model = TypeVar("Model", bound=BaseModel)

Text = Annotated[str, Field(max_length=MAX_NAME)]
Classes = Annotated[list[Text], Field(min_length=1, max_length=1_000_000)]
Pixels = Annotated[int, Field(ge=1, lt=2**16)]  # a side
Index = Annotated[int, Field(ge=-(2**63), lt=2**63)]
Size = Annotated[int, Field(ge=0, lt=2**63)]
Channels = Annotated[list[float], Field(min_length=3, max_length=3)]


class Strict(BaseModel):
    """Base of what is read from artifacts: no conversions (but a whole number may stand for a float), nothing
    infinite, no keys beyond those that are declared."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


class Open(BaseModel):
    """As `Strict`, for metadata, to which a later version may add keys: unknown ones are passed over."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True, allow_inf_nan=False)


def shown(value: object) -> str:
    """A foreign value for a message: escaped, and cut to a few words."""
    text = repr(value)
    text = text if text.isascii() or text.isprintable() else ascii(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."


def reason(error: BaseException) -> str:
    """What an error of another library says, in one line."""
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False)[0]
        place = ".".join(shown(part)[1:-1] if isinstance(part, str) else str(part) for part in first["loc"])
        found = "" if first["type"] == "missing" else f", got {shown(first['input'])}"
        return f"{place + ': ' if place else ''}{first['msg'].removeprefix('Value error, ')}{found}"
    lines = str(error).strip().splitlines()
    text = lines[0] if lines else type(error).__name__
    if isinstance(error, KeyError | RecursionError | MemoryError):
        text = f"{type(error).__name__}: {text}"
    return text if text.isprintable() and len(text) <= 4 * _SHOWN else shown(text)


@contextmanager
def reading(path: Path, what: str, remedy: str) -> Iterator[None]:
    """Turn whatever a library raises while it reads `path` into a `DataError`: a parser fails in as many ways as a file
    can be damaged."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"{path} cannot be read as {what} ({reason(error)}); {remedy}") from error


@contextmanager
def of(path: Path) -> Iterator[None]:
    """Put the file's name before the sentence with which a noun refuses what was in it."""
    try:
        yield
    except DataError as error:
        if str(path) in str(error):
            raise
        raise DataError(f"{path}: {error}") from error


def read_bytes(path: Path, limit: int, remedy: str) -> bytes:
    """The bytes of a file of at most `limit` bytes."""
    with reading(path, "a file", remedy):
        size = path.stat().st_size
        require(size <= limit, f"{path} has {size:,} bytes, more than the {limit:,} it may have; {remedy}")
        return path.read_bytes()


def loads(data: bytes | str) -> Any:
    """A JSON value; raises `ValueError` or `RecursionError` for what is none, for repeated keys, for nesting beyond
    `MAX_DEPTH` and for text that is not Unicode."""
    value = json.loads(data.decode("utf-8") if isinstance(data, bytes) else data, object_pairs_hook=_distinct)
    _check_nesting(value)
    return value


def parse(data: bytes | str, path: Path | str, remedy: str) -> Any:
    """As `loads`, of the file `path` or of a URL, with `DataError` for all that is wrong."""
    try:
        return loads(data)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is damaged ({reason(error)}); {remedy}") from error


def checked(model: type[Model], value: Any, path: Path | str, remedy: str, where: str = "") -> Model:
    """`value` as `model`, or a `DataError` naming the file, the first field that is wrong and the remedy. `where` is
    the place of `value` in the file."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise DataError(f"{path} is damaged ({where + ' ' if where else ''}{reason(error)}); {remedy}") from error


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        names = [name for name, _ in pairs]
        again = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {shown(again)} is there twice")
    return content


def _check_nesting(value: Any) -> None:
    waiting = [(value, 1)]
    while waiting:
        item, depth = waiting.pop()
        if depth > MAX_DEPTH:
            raise ValueError(f"its values are nested more than {MAX_DEPTH} deep")
        if isinstance(item, str):
            item.encode("utf-8")  # half a surrogate pair is no text
        elif isinstance(item, dict):
            for name in item:
                name.encode("utf-8")
            waiting += [(inner, depth + 1) for inner in item.values() if isinstance(inner, str | dict | list)]
        elif isinstance(item, list):
            waiting += [(inner, depth + 1) for inner in item if isinstance(inner, str | dict | list)]
