"""`dcpipe completion`: a script by which a shell completes commands, options, presets and studies."""

from __future__ import annotations

import argparse
from pathlib import Path

from dcpipe.types import require
from dcpipe.types.names import one_of

SHELLS = ("bash", "zsh", "fish", "tcsh")


def script(parser: argparse.ArgumentParser, shell: str) -> str:
    """The script for a shell. Raises `DataError` for an unknown one."""
    import shtab

    from dcpipe.config import presets
    from dcpipe.release.exporting import FORMS
    from dcpipe.studies import STUDIES

    require(shell in SHELLS, f"completion is for {one_of(SHELLS)}, not {shell!r}; name one of them")
    names = {"init": list(presets.names()), "study": list(STUDIES), "completion": list(SHELLS)}
    for command, parsed in commands_of(parser).items():
        for action in parsed._actions:
            if action.type is Path:
                action.complete = shtab.FILE  # type: ignore[attr-defined]  # how shtab is told
            elif action.dest == "format":
                action.choices = list(FORMS)
            elif not action.option_strings and command in names:
                action.choices = names[command]
    return str(shtab.complete(parser, shell))


def commands_of(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """The parser of each command, by name."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    raise AssertionError("the parser has commands")
