"""Docstrings as Markdown: those of modules are lessons with idea, formula, cost, paper and differences."""

from __future__ import annotations

import importlib
import inspect
import re

_CODE = re.compile(r"(`[^`]*`)")


def lesson(place: str, *, table: str = "") -> str:
    """The docstring of a module, or of `module:name` in it."""
    module, _, name = place.partition(":")
    thing = importlib.import_module(module)
    return as_markdown(inspect.getdoc(getattr(thing, name) if name else thing) or "")


def as_markdown(text: str) -> str:
    """Indented formulas stay as they are; elsewhere signs that Markdown would take for its own are protected, and a
    list begins after an empty line."""
    lines: list[str] = []
    for line in text.splitlines():
        is_formula = line.startswith("    ")
        begins = line.startswith("* ") and bool(lines) and bool(lines[-1]) and not lines[-1].startswith(("* ", "  "))
        lines += [""] if begins else []
        lines.append(line if is_formula else _protected(line))
    return "\n".join(lines)


def _protected(line: str) -> str:
    parts = _CODE.split(line)
    return "".join(part if place % 2 else _signs(part) for place, part in enumerate(parts))


def _signs(text: str) -> str:
    """Angle brackets, and stars and underscores within formulas."""
    text = text.replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"(?<=\S)\*(?=\S)|(?<=\w)_(?=\w)|(?<=\s)_(?=\w)|(?<!^)(?<=\s)\*(?=\s)", lambda m: f"\\{m[0]}", text)
