"""The commands of `dcpipe` as a page: what `--help` prints."""

from __future__ import annotations

import argparse

import lessons

from dcpipe.cli import commands

OF_ALL = ("help", "level")  # which the page says once


def all_commands(*, table: str = "") -> str:
    """A section for each command: its lesson, and a table of its arguments."""
    [choices] = [action for action in commands._parser()._actions if isinstance(action, argparse._SubParsersAction)]
    summaries = {choice.dest: choice.help or "" for choice in choices._choices_actions}
    return "\n".join(_section(name, summaries.get(name, ""), parser) for name, parser in choices.choices.items())


def _section(name: str, summary: str, parser: argparse.ArgumentParser) -> str:
    lines = [f"## dcpipe {name}", "", f"{summary[:1].upper()}{summary[1:]}.", ""]
    lines += [lessons.as_markdown((parser.description or "").rstrip()), ""]
    rows = [action for action in parser._actions if action.dest not in OF_ALL]
    if rows:
        lines += ["| argument | |", "|---|---|"]
        lines += [f"| {_written(action)} | {action.help or ''} |" for action in rows]
    return "\n".join([*lines, ""])


def _written(action: argparse.Action) -> str:
    value = action.metavar or (action.dest.upper() if action.nargs != 0 else "")
    word = value[0] if isinstance(value, tuple) else str(value)
    if not action.option_strings:
        return f"`{word if action.metavar else action.dest}`"
    return f"`{', '.join(action.option_strings)}{f' {word}' if action.nargs != 0 else ''}`"
