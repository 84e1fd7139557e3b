"""Check whether the codec can reach the budget, as soon as the number of classes is known and before any stage runs.

The codec itself makes the plan, so the stage `compression` does exactly what is planned here. If the codec cannot reach
the budget, the error message contains the smallest possible budget and the codecs that can reach it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dcpipe.config.check import CODECS, SOURCES, SYNTHESIS
from dcpipe.config.values import import_name
from dcpipe.types import BudgetError, DataError, LabelShape

if TYPE_CHECKING:
    from dcpipe.config.params import Images, Params

_ROOM = 2**16  # above any header


@dataclass(frozen=True)
class Planned:
    """Labels of this shape take `n_bytes` on disk, including the header."""

    shape: LabelShape
    n_bytes: int


def planned(params: Params, n_classes: int, counts: Sequence[int] | None = None) -> Planned | None:
    """The planned size of the labels; None for hard labels, which take no bytes. `counts` are the train images of each
    class, where they are known: they matter if small classes give fewer images than others.

    Raises `DataError` if the codec cannot reach the budget, or if it does not support the views.
    """
    if params.softlabels.method == "none":
        return None
    plan = _Plan(params, n_classes, counts)
    block = params.compression
    try:
        return Planned(plan.shape, plan.size(block.codec, block.options, block.bytes_of(plan.shape)))
    except BudgetError as error:
        raise DataError(_unreached(params, plan)) from error


def is_reached(params: Params, n_classes: int, counts: Sequence[int] | None = None) -> bool:
    """Whether the codec can reach the budget. It takes less time than to be told by `planned` what else would do."""
    plan, block = _Plan(params, n_classes, counts), params.compression
    return plan.reaches(block.codec, block.options, block.bytes_of(plan.shape) or 0)


def recorded(images: Images, folder: Path) -> tuple[int, list[int] | None] | None:
    """The number of classes of the images in `folder`, data/images, and the train images of each, if they were
    recorded. None if there are no images, or if they were made with another block `images`."""
    try:
        content = json.loads((folder / "artifact.json").read_text(encoding="utf-8"))
        if content["lineage"]["params"] != images.content():
            return None
        counts = content["lineage"].get("report", {}).get("per_class", {}).get("counts")
        return len(content["meta"]["classes"]), counts
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        RecursionError,
    ):  # the stage that reads the images reports what is wrong with them
        return None


def counted_classes(images: Images) -> int | None:
    """The number of classes of the source, if it can count them without listing its images, else None.

    Raises `DataError` if the source does not exist at the place in its options.
    """
    count = getattr(SOURCES.table()[images.source], "count_classes", None)
    counted: int | None = None if count is None else count(**images.options)
    return counted


def cells(params: Params) -> int:
    """How many training images a stored image decodes to."""
    options, values = SYNTHESIS.resolved(params)
    return math.prod(side**2 for _, side in options.with_role(values, "grid"))


def label_shape(params: Params, n_classes: int, counts: Sequence[int] | None = None) -> LabelShape:
    """The shape of the soft labels of the condensed images; for `counts`, see `planned`."""
    block = params.selection
    images = block.ipc * n_classes if counts is None else block.picked(counts)
    return LabelShape(images * cells(params), params.softlabels.views, n_classes)


class _Plan:
    """Plans for the labels that params.yaml describes."""

    def __init__(self, params: Params, n_classes: int, counts: Sequence[int] | None = None) -> None:
        labels = params.softlabels
        self.shape = label_shape(params, n_classes, counts)
        self.law = labels.augmentation.policy(labels.seed, labels.mix)

    def size(self, codec: str, options: Mapping[str, Any], budget: int | None) -> int:
        """The bytes of the file that the codec plans. Raises `BudgetError` if the budget is too small."""
        plan, file_bytes = (import_name(f"dcpipe.compression.packing:{name}") for name in ("plan", "file_bytes"))
        chosen = plan(codec, options, self.shape, self.law, budget)
        size: int = file_bytes(codec, chosen, self.shape, self.law)
        return size

    def least(self, codec: str, options: Mapping[str, Any]) -> int:
        """The smallest budget that the codec can reach, by bisection."""
        low, high = 0, self.shape.reference_bytes + _ROOM
        while not self.reaches(codec, options, high):
            low, high = high, 2 * high
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self.reaches(codec, options, middle) else (middle, high)
        return high

    def reaches(self, codec: str, options: Mapping[str, Any], budget: int) -> bool:
        """Whether the codec can plan a file of at most `budget` bytes."""
        try:
            self.size(codec, options, budget)
        except BudgetError:
            return False
        return True


def _unreached(params: Params, plan: _Plan) -> str:
    """The error message about a budget that is too small."""
    block, shape = params.compression, plan.shape
    budget, least = block.bytes_of(shape) or 0, plan.least(block.codec, block.options)
    if block.ratio is not None:
        given, most = f"ratio {block.ratio:g}", (shape.budget(1, reference=block.reference) or 0) / least
        fitting = [f"ratio {math.floor(100 * most) / 100:g} or less"] if most >= 1 else []
    else:
        given = f"bytes_per_image {block.bytes_per_image:g}"
        fitting = [f"bytes_per_image {math.ceil(100 * least / shape.images) / 100:g} or more"]
    if block.codec == "none":
        fitting.insert(0, f"codec none without {given.split()[0]}")
    others = [name for name in CODECS.table() if name not in (block.codec, "none") and _can(plan, name, budget)]
    *some, last = others or [""]
    fitting += [f"codec {', '.join(some)} or {last}" if some else f"codec {last}"] if others else []
    return (
        f"compression.{given} leaves {budget:,} bytes for labels of {shape.images:,} images x {shape.views:,} views x "
        f"{shape.classes:,} classes, but codec {block.codec!r} needs {least:,}; choose "
        + (", or ".join(fitting) or f"codec none without {given.split()[0]}")
        + ("" if others else "; no other codec reaches this budget with its defaults")
    )


def _can(plan: _Plan, codec: str, budget: int) -> bool:
    try:
        return plan.reaches(codec, {}, budget)
    except DataError:  # it does not support these views, needs an option, or is a broken plugin
        return False
