"""What somebody meant by a name that does not exist."""

from __future__ import annotations

import difflib
from collections.abc import Sequence


def similar(name: str, known: Sequence[str]) -> list[str]:
    """The first known names that contain the name, at most 5, else the most similar spellings, at most 3."""
    return [other for other in known if name and name in other][:5] or difflib.get_close_matches(name, known)


def one_of(names: Sequence[str]) -> str:
    """Names for a sentence: "a, b or c"."""
    return " or ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
