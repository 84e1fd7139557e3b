"""Tables of the keys of params.yaml and of the options of methods, with the defaults and values that the code has."""

from __future__ import annotations

import inspect
import json
import re
import types
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import lessons
from pydantic import AfterValidator, BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from dcpipe.compression import CODECS
from dcpipe.config import protocols as known
from dcpipe.config.options import Options
from dcpipe.config.params import Params
from dcpipe.config.registry import Registry
from dcpipe.images import SOURCES
from dcpipe.selection import SELECTORS
from dcpipe.synthesis import METHODS
from dcpipe.workspace import dvcfiles

REGISTRIES: dict[str, Registry[Any]] = {
    "source": SOURCES,
    "selector": SELECTORS,
    "synthesis": METHODS,
    "codec": CODECS,
}
REQUIRED = "(needed)"
_VARIABLE = re.compile(r"\$\{[^}]*\}")  # of dvc.yaml, such as the name of a teacher


def block_at(path: str) -> type[BaseModel]:
    """The block of params.yaml at a path: `softlabels.augmentation`, or `teacher.networks` for one of its networks."""
    block: Any = Params
    for part in path.split("."):
        block = _block_in(block.model_fields[part].annotation)
    return block  # type: ignore[no-any-return]


def _block_in(annotation: Any) -> Any:
    """The block in an annotation such as `Shortlist | None` or `dict[Name, TeacherNetwork]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    found = [block for part in get_args(annotation) if (block := _block_in(part)) is not None]
    return found[-1] if found else None


def keys_of(path: str) -> dict[str, FieldInfo]:
    """The fields of a block by the names that they have in params.yaml."""
    return {field.alias or name: field for name, field in block_at(path).model_fields.items()}


def keys(path: str, *, table: str) -> str:
    """The table of a block: `table` has the columns key and meaning, and default and values are put between them."""
    fields = keys_of(path)
    found = {key: (default_of(field), values_of(field.annotation, field.metadata)) for key, field in fields.items()}
    return _joined("key", meanings(table), found)


def options(kind: str, name: str, *, table: str = "") -> str:
    """The table of the options of a method, as `keys`; without a table, only the columns that the code knows. What the
    docstring of a selector says about its options follows."""
    method = REGISTRIES[kind][name]
    found = Options.of(method)
    rows = {
        option: (
            as_yaml(found.defaults[option]) if option in found.defaults else REQUIRED,
            values_of(found.hints[option], ()),
        )
        for option in found.names
    }
    if not rows:
        return "It has no options."
    text = _joined("option", meanings(table), rows)
    return f"{text}\n\n{lessons.as_markdown(inspect.getdoc(method) or '')}" if kind == "selector" else text


def family(kind: str, *names: str, table: str) -> str:
    """One table for the options of several methods, with a column of defaults for each; `-` where a method does not
    have an option. `table` has the columns option and meaning."""
    found = {name: Options.of(REGISTRIES[kind][name]) for name in names}
    wanted, meaning = [*dict.fromkeys(option for of in found.values() for option in of.names)], meanings(table)
    _same("option", meaning, wanted)
    lines = [f"| option | {' | '.join(names)} | values | meaning |", f"|{'---|' * (len(names) + 3)}"]
    for option in meaning:
        having = [of for of in found.values() if option in of.names]
        values = " or ".join(dict.fromkeys(values_of(of.hints[option], ()) for of in having))
        defaults = [f"`{as_yaml(of.defaults.get(option))}`" if of in having else "-" for of in found.values()]
        lines.append(f"| `{option}` | {' | '.join(defaults)} | {values} | {meaning[option]} |")
    return "\n".join(lines)


def pipeline(*, table: str) -> str:
    """What each stage reads and writes, as DVC knows it."""
    lines = ["| stage | reads | writes | blocks of params.yaml |", "|---|---|---|---|"]
    for name, content in dvcfiles.dvc_files(dvcfiles.Digests())[dvcfiles.PIPELINE]["stages"].items():
        stage = content.get("do", content)
        blocks = dict.fromkeys(entry.split(".")[0] for entry in stage["params"] if isinstance(entry, str))
        outs = [out if isinstance(out, str) else next(iter(out)) for out in stage["outs"] + stage.get("metrics", [])]
        cells = [[*stage["deps"]], outs, [*blocks]]
        row = " | ".join(", ".join(f"`{cell}`" for cell in part) for part in cells)
        lines.append(f"| `{name}` | {_VARIABLE.sub('KEY', row)} |")
    return "\n".join(lines)


def protocols(*, table: str) -> str:
    """All protocols with the values that they set."""
    lines = ["| protocol | sets |", "|---|---|"]
    for name, row in known.PROTOCOLS.items():
        values = ", ".join(f"{key} {as_yaml(value)}" for key, value in row.constants.items())
        lines.append(f"| `{name}` | {values or 'nothing: params.yaml says it'} |")
    return "\n".join(lines)


def meanings(table: str) -> dict[str, str]:
    """Key and meaning of the rows of a Markdown table of two columns."""
    rows = [[cell.strip() for cell in line.strip().strip("|").split(" | ")] for line in table.splitlines()[2:]]
    return {row[0].strip("`"): row[1] for row in rows}


def _joined(word: str, meaning: Mapping[str, str], rows: Mapping[str, tuple[str, str]]) -> str:
    if meaning:
        _same(word, meaning, rows)
    head = [word, "default", "values", *(["meaning"] if meaning else [])]
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for name, (default, values) in rows.items():
        cells = [f"`{name}`", default if default == REQUIRED else f"`{default}`", values]
        lines.append(f"| {' | '.join([*cells, *([meaning[name]] if meaning else [])])} |")
    return "\n".join(lines)


def _same(word: str, written: Collection[str], real: Collection[str]) -> None:
    wrong = {*written} ^ {*real}
    if wrong:
        raise ValueError(f"the table and the code do not have the same {word}s: {', '.join(sorted(wrong))}")


def default_of(field: FieldInfo) -> str:
    """The default of a field as it is written in params.yaml."""
    value = field.get_default(call_default_factory=True)
    return REQUIRED if value is PydanticUndefined else as_yaml(value)


def as_yaml(value: Any) -> str:
    """A value as it is written in params.yaml; a block with defaults only is {}."""
    if isinstance(value, BaseModel):
        return "{}"
    if value == "":
        return '""'
    return value if isinstance(value, str) else json.dumps(value)


def values_of(hint: Any, marks: Any) -> str:
    """In words, which values an annotation allows. Tables of names are looked up."""
    if get_origin(hint) is Annotated:
        first, *more = get_args(hint)
        return values_of(first, [*_flat(more), *marks])
    marks = [*_flat(marks)]
    table = next((names for mark in marks if (names := _table_of(mark))), None)
    if table is not None:
        return ", ".join(f"`{name}`" for name in table)
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Literal:
        return ", ".join(f"`{as_yaml(part)}`" for part in parts)
    if origin in (Union, types.UnionType):
        named = [values_of(part, marks) for part in parts if part is not type(None)]
        return " or ".join(dict.fromkeys(named)) + (" or null" if type(None) in parts else "")
    if hint is bool:
        return "`true`, `false`"
    if hint in (int, float):
        return _range("whole number" if hint is int else "number", marks)
    if origin in (list, tuple) or str(origin).endswith(("Sequence", "Collection")):
        least = next((mark.min_length for mark in marks if hasattr(mark, "min_length")), 0)
        inner = values_of(parts[0], ()) if parts else ""
        return f"list of {inner}{f', {least} or more' if least > 1 else ''}"
    if isinstance(hint, type) and issubclass(hint, BaseModel):
        return "block, see below"
    return "mapping" if origin is dict or "Mapping" in str(origin) else "text"


def _range(word: str, marks: list[Any]) -> str:
    """A number with its bounds, without those that only keep absurd numbers out."""
    low = next((f"≥ {mark.ge}" for mark in marks if hasattr(mark, "ge") and mark.ge > -(2**62)), None)
    low = next((f"> {mark.gt}" for mark in marks if hasattr(mark, "gt")), low)
    high = next((f"≤ {mark.le}" for mark in marks if hasattr(mark, "le") and mark.le < 2**62), None)
    high = next((f"< {mark.lt}" for mark in marks if hasattr(mark, "lt") and mark.lt < 2**16), high)
    return " ".join(part for part in (word, " and ".join(filter(None, (low, high)))) if part)


def _flat(marks: Any) -> Iterator[Any]:
    """Marks, with those inside of a `Field`."""
    for mark in marks:
        yield from mark.metadata if isinstance(mark, FieldInfo) else (mark,)


def _table_of(mark: Any) -> list[str] | None:
    """The names that `dcpipe.config.values.one_of` allows, if the mark is one of its validators."""
    function: Callable[..., Any] | None = mark.func if isinstance(mark, AfterValidator) else None
    if function is None or "one_of" not in function.__qualname__:
        return None
    table = inspect.getclosurevars(function).nonlocals["valid"]
    return [str(name) for name in table]
