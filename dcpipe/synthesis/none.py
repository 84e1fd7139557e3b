"""No synthesis: the condensed set is the selection itself, as in SCORE and every coreset method."""

from __future__ import annotations

from dcpipe.synthesis.base import Progress, SynthesisContext
from dcpipe.types import ImageSet


def none(start: ImageSet, context: SynthesisContext, seed: int, progress: Progress) -> ImageSet:
    """The images as they were picked."""
    return start
