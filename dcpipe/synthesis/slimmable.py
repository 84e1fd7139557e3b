"""Slimming: make a smaller set from a condensed one, without the real images (MDC, Table 2c).

Slimmable dataset condensation (Liu, Ye, Yu & Wang, CVPR 2023) parameterises a condensed set so that its minor parts can
be dropped without training with a bounded error, or dropped and then trained. Only its abstract was available, and no
code. It says that, and MDC's text that the method does an SVD of condensed images. Everything else here is our reading.

* `lfs`, learning-free slimming: the singular value decomposition of the images of each class, truncated. A smaller set
  "of m images" is as many components as the bytes of m images hold, measured as they are stored. It still decodes to
  all n images, since the rank of a set is not the number of its images (`components.py`).
* `lbs`, learning-based slimming: mean, bases and coefficients of this rank are trained with the loss of the method that
  made the set, at its own rates (`gradients/forms.py`), in which the larger condensed set stands for the real images:
  its training images are matched and the networks learn from them. Networks come from the same stream of seeds as those
  of the first condensation. The result is stored within the same bytes, which may cost it components, because trained
  pictures compress less well. A set made by MDC is slimmed with the loss of its base method without subsets, which
  freeze single images.

Students see n images at every size, so with equal epochs they take more steps than with the first m images.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from dcpipe.config.bases import base_of
from dcpipe.config.options import Options
from dcpipe.synthesis.base import Progress, SynthesisContext
from dcpipe.synthesis.components import Components
from dcpipe.synthesis.gradients.forms import Combined
from dcpipe.synthesis.mdc import MATCHING
from dcpipe.types import ImageSet, IntArray, require
from dcpipe.views import multiformation


def check_method(method: str, options: Mapping[str, Any]) -> None:
    """Raises `DataError` unless the loss of a synthesis method can train components."""
    base, _ = base_of(method, options)
    require(
        base in MATCHING,
        f"lbs trains with the loss of the method that made the set, but {base!r} does not match gradients or features; "
        f"use lfs, or one of the methods mdc, {', '.join(MATCHING)}",
    )


def train(
    images: ImageSet,
    start: Components,
    method: str,
    options: Mapping[str, Any],
    seed: int,
    progress: Progress,
    device: torch.device,
) -> Components:
    """The components `start` of a set, trained by the synthesis method that made it, with its options and seed.

    A killed run continues from the checkpoint in `progress.notes`. Raises `DataError` as `check_method` and the method
    do.
    """
    check_method(method, options)
    method, options = base_of(method, options)
    base = MATCHING[method]
    real = multiformation.decoded(images)
    resolved = Options.of(base).resolve(options, f"synthesis method {method!r}")
    batch = min(resolved["real_batch"], int(real.per_class.min()))
    height, width = images.images.shape[1:3]
    form = Combined(start, height, width, device)

    def parts() -> Iterator[tuple[npt.NDArray[np.uint8], IntArray]]:
        yield real.images, real.labels

    context = SynthesisContext({}, parts, real.labels, device, form=form)
    base(images, context, seed, progress, **{**options, "real_batch": batch, "subsets": None})
    return form.components()
