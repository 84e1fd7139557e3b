"""The command `dcpipe`: `commands.py`, and the texts of its help in `help_texts.py`."""

from __future__ import annotations

from dcpipe.cli.commands import main

__all__ = ["main"]
