"""Write a preset as one flat params.yaml: its notes as comments at the top, then its parameters with their comments."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from dcpipe.config.params import Params
from dcpipe.config.presets.composing import Preset

_TITLE = (
    "One workspace is one condensed dataset: this file says what it is. `dcpipe init PRESET` writes it from a preset."
)
_WIDTH = 120
_IN_BLOCKS = ("networks", "training")  # mappings that get one line per key even if they are short
_FIRST = ("source", "method", "codec", "protocol", "name", "student", "ipc")  # keys that come first in their block


def write(preset: Preset) -> str:
    """The text of the file."""
    lines = [f"# {_TITLE}", *_header(preset.notes)]
    for name in Params.model_fields:
        if name in preset.params:
            lines += _written(name, preset.params[name], preset.comments, name, 0)
    return "\n".join(lines) + "\n"


def _header(notes: Mapping[str, str | Mapping[str, str]]) -> Iterator[str]:
    """The notes as comments: one text after its key, or one clause per line."""
    for key, note in notes.items():
        if isinstance(note, str):
            yield from _wrapped(f"{key}: {note}", "# ", "#   ")
        else:
            yield f"# {key}:"
            for topic, clause in note.items():
                yield from _wrapped(f"{topic}: {clause}", "#   ", "#     ")


def _written(key: str, value: Any, comments: Mapping[str, str], path: str, indent: int) -> Iterator[str]:
    """A key with its value. The mapping of a stage, and a mapping with mappings or comments inside, gets one line per
    key; any other value is written on one line, or on as few lines as it needs."""
    pad = " " * indent
    if path in comments:
        yield from _wrapped(comments[path], f"{pad}# ", f"{pad}# ")
    if isinstance(value, Mapping) and (indent == 0 or key in _IN_BLOCKS or _has_inside(value, comments, path)):
        yield f"{pad}{key}:"
        for inner in _ordered(key, value) if indent == 0 else value:
            yield from _written(inner, value[inner], comments, f"{path}.{inner}", indent + 2)
        return
    # Without a width limit, because PyYAML would break lines in its own way; "..." ends a document that is a scalar.
    flow = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, allow_unicode=True, width=float("inf"))
    flow = flow.removesuffix("...\n").strip()
    if len(line := f"{pad}{key}: {flow}") <= _WIDTH:
        yield line
    else:
        yield f"{pad}{key}:"
        yield from _wrapped(flow, f"{pad}  ", f"{pad}   ")


def _has_inside(value: Mapping[str, Any], comments: Mapping[str, str], path: str) -> bool:
    has_mappings = any(isinstance(inner, Mapping) for inner in value.values())
    return has_mappings or any(place.startswith(f"{path}.") for place in comments)


def _ordered(block: str, keys: Mapping[str, Any]) -> list[str]:
    """The keys of the block of a stage: those in `_FIRST`, then the others in the order of its model."""
    order = [*_FIRST, *(Params.model_fields[block].annotation or Params).model_fields]
    return sorted(keys, key=order.index)


def _wrapped(text: str, first: str, more: str) -> list[str]:
    return textwrap.wrap(
        text, _WIDTH, initial_indent=first, subsequent_indent=more, break_long_words=False, break_on_hyphens=False
    )
