"""No synthesis: the condensed set is the selection itself, as in SCORE and every coreset method."""

from __future__ import annotations

from dcpipe.synthesis.seam import Scene, Watch
from dcpipe.types import ImageSet


def none(start: ImageSet, scene: Scene, seed: int, watch: Watch) -> ImageSet:
    """The images as they were picked."""
    return start
