"""Synthesis: refine the picked images. One file a method, one line in `METHODS`.

A method is a function `(start, scene, seed, watch, **options) -> ImageSet`. It starts from the selection (methods that
start from noise ignore its pixels and keep its labels and ids), so every synthesis has its coreset as a baseline.
"""

from __future__ import annotations

from collections.abc import Callable

from dcpipe.synthesis.none import none
from dcpipe.synthesis.seam import Scene, Watch
from dcpipe.types import ImageSet

__all__ = ["METHODS", "Scene", "Watch"]

METHODS: dict[str, Callable[..., ImageSet]] = {
    "none": none,
}
