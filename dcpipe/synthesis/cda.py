"""CDA: SRe2L with a curriculum of crops (Yin & Shen, "Dataset distillation in large data era", 2023).

The least area of a crop falls from the whole image to `crop_min` on a half cosine over the first `curriculum` of the
run, so that images are given their outlines before their details. Everything else is SRe2L's; the official settings
for Tiny-ImageNet are lr 0.4 and weight 0.05.
"""

from __future__ import annotations

from dcpipe.synthesis.base import Progress, SynthesisContext
from dcpipe.synthesis.sre2l import sre2l
from dcpipe.types import ImageSet


def cda(
    start: ImageSet,
    context: SynthesisContext,
    seed: int,
    progress: Progress,
    *,
    observers: list[str] | None = None,
    iterations: int = 4000,
    lr: float = 0.25,
    batch_size: int = 100,
    weight: float = 0.01,
    first: float = 10.0,
    crop_min: float = 0.08,
    curriculum: float = 1.0,
    flip: float = 0.5,
    jitter: int = 4,
    initial: str = "noise",
) -> ImageSet:
    """Recovered images; options as in `sre2l`. Raises `DataError` for options out of range."""
    return sre2l(
        start,
        context,
        seed,
        progress,
        observers=observers,
        iterations=iterations,
        lr=lr,
        batch_size=batch_size,
        weight=weight,
        first=first,
        crop_min=crop_min,
        curriculum=curriculum,
        flip=flip,
        jitter=jitter,
        initial=initial,
    )
