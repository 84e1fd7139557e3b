"""The command `dcpipe`: its parser and commands in `commands.py`, its help texts in `help_texts.py`."""

from __future__ import annotations

from dcpipe.cli.commands import main

__all__ = ["main"]
