"""Slimmed sets in the study `sizes`: the whole set of a run, made smaller without the real images (MDC, Table 2c).

`dcpipe.synthesis.slimmable` has the methods. A size m is what m stored images of the set take on disk, and its error is
reported in three stages, as the root of the mean square over all values, in grey levels of 0 to 255:

* `tail`    what the components that are left out are worth: no other components of this rank come closer
* `coded`   with pictures of few bits and fp16 coefficients, which is at least as much
* `error`   of the images that students see, which are rounded and clipped; `clipped` is the share of values that the
  components put outside 0 to 255

`lbs` moves away from the set on purpose, so its `coded` and `error` count from the trained components; `tail` is that
of as many components before training.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from dcpipe import store, synthesis
from dcpipe.config.params import Params
from dcpipe.studies.base import StudyContext
from dcpipe.studies.summary import Row
from dcpipe.studies.variant_cells import Made
from dcpipe.synthesis import components, slimmable
from dcpipe.types import FloatArray, ImageSet

Slimming = Literal["lfs", "lbs"]
COLUMNS = ("rank", "bits", "tail", "coded", "error", "clipped", "bytes", "budget")


@dataclass(frozen=True, eq=False)
class Slimmed:
    """The images that a slimmed set decodes to, with the seconds of slimming, and its row of COLUMNS."""

    made: Made
    row: Row


def slimmed(
    context: StudyContext, slimming: Slimming, images: ImageSet, size: int, params: Params, notes: store.Notes
) -> Slimmed:
    """A set slimmed to the bytes of `size` images per class. `params` are those that it was made with; a killed `lbs`
    continues from its checkpoint in `notes`. Raises `DataError` as `slimmable` does."""
    started = time.perf_counter()

    def measure(pictures: ImageSet) -> int:
        notes.remove("measured")  # of a killed run
        n_bytes = notes.within("measured").image_file(pictures).stat().st_size
        notes.remove("measured")
        return n_bytes

    budget = measure(images.prefix(size))
    values = components.values_of(images)
    parts, singular = components.decompose(values)
    found = components.fitted(parts, values, images, budget, measure)
    if slimming == "lbs":
        block = params.synthesis
        progress = synthesis.Progress(notes.folder, context.notes.within("statistics").folder, context.live)
        parts = slimmable.train(
            images, parts.first(found.rank), block.method, block.options, block.seed, progress, context.device
        )
        values = parts.decoded()
        found = components.fitted(parts, values, images, budget, measure)
    coded, exact = found.components().decoded(), parts.first(found.rank).decoded()
    made = components.images_of(coded, images)
    row = {
        "rank": found.rank,
        "bits": found.bits,
        "tail": round(255 * components.tail(singular, found.rank) / values.size**0.5, 4),
        "coded": _grey_levels(coded - values),
        "error": _grey_levels(components.values_of(made) - values),
        "clipped": round(float(np.mean((exact < 0) | (exact > 1))), 5),
        "bytes": found.n_bytes(images, measure),
        "budget": budget,
    }
    return Slimmed(Made(made, time.perf_counter() - started), row)


def _grey_levels(errors: FloatArray) -> float:
    return round(255 * float(np.sqrt(np.square(errors).mean())), 4)


def saved(found: Slimmed) -> dict[str, Any]:
    """As arrays for notes; `of_saved` reads them."""
    numbers = {key: np.array(value) for key, value in found.row.items()}
    return {"images": found.made.images.images, "seconds": np.array(found.made.seconds), **numbers}


def of_saved(arrays: dict[str, Any], images: ImageSet) -> Slimmed:
    """What `saved` wrote, of a slimmed `images`."""
    made = Made(replace(images, images=arrays["images"]), arrays["seconds"].item())
    return Slimmed(made, {key: arrays[key].item() for key in COLUMNS})
