"""The base method of `mdc`, whose options are its option `options`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

BASE = "idc"  # of `mdc`, if none is given


def base_of(method: str, options: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The method that moves the images, with its options: the base of `mdc`, any other method itself. Options may be
    those that are given, or all."""
    if method != "mdc":
        return method, dict(options)
    return options.get("base", BASE), dict(options.get("options") or {})
