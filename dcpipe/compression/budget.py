"""The budget of soft labels: a codec with its options, and how many bytes its file may take.

All packs are made by this class: in the stage `compression`, the evaluation and studies, for imported labels and in
`dcpipe.compress`.
"""

from __future__ import annotations

import numbers
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

from dcpipe.compression import packing
from dcpipe.compression.base import Codec
from dcpipe.store.documents import shown
from dcpipe.types import LabelPack, LabelShape, Map, SoftLabels, ViewSource, require


@dataclass(frozen=True)
class Budget:
    """The size that labels may have: `ratio` times less than in `reference` (1x is fp16 for LPLD and fp32 for SCORE),
    or `bytes_per_image`. Codec `none`, which stores fp16 unchanged, takes neither. `options` are those of the codec.
    The fields are the keys of the block `compression` in params.yaml.

    Raises `DataError` unless there is exactly one limit (none for codec `none`), and for a limit that is not above 0.
    """

    codec: str = "none"
    options: Mapping[str, Any] = field(default_factory=dict)
    ratio: float | None = None
    reference: Literal["fp16", "fp32"] = "fp16"
    bytes_per_image: float | None = None

    def __post_init__(self) -> None:
        limits = {"ratio": self.ratio, "bytes_per_image": self.bytes_per_image}
        given = {name: value for name, value in limits.items() if value is not None}
        takes = "no budget" if self.codec == "none" else "one of ratio and bytes_per_image"
        found = " and ".join(given) or "neither"
        remedy = f"leave {found} out" if self.codec == "none" else "give one of them"
        require(
            len(given) == (self.codec != "none"),
            f"codec {self.codec!r} takes {takes}, but {found} {'were' if len(given) > 1 else 'was'} given; {remedy}",
        )
        for name, value in given.items():
            number = isinstance(value, numbers.Real) and not isinstance(value, bool)
            require(
                number and 0 < value < sys.float_info.max,
                f"codec {self.codec!r}: {name} is {_written(value)}; give a number above 0",
            )
        require(
            self.reference in ("fp16", "fp32"),
            f"codec {self.codec!r}: reference is {shown(self.reference)}; give fp16 or fp32",
        )

    def limit(self, shape: LabelShape) -> int | None:
        """Bytes that a file of such labels may take, not counting stored views; None for `none`."""
        return shape.budget(self.ratio, self.bytes_per_image, self.reference)

    def plan(self, shape: LabelShape, policy: ViewSource) -> Codec:
        """The codec with settings that keep the whole file within the budget. See `packing.plan`, also for errors."""
        return packing.plan(self.codec, self.options, shape, policy, self.limit(shape))

    def compress(self, labels: SoftLabels, notes: Path, device: torch.device, map_tasks: Map) -> LabelPack:
        """The pack of some labels, with one task per block of images. Encoded blocks are saved in the folder `notes`,
        from which a killed run resumes. Raises `BudgetError` before any work."""
        codec = self.plan(LabelShape(*labels.logits.shape), labels.policy)

        def each(encode: Callable[[int], object], starts: Sequence[int]) -> None:
            map_tasks(encode, starts, "compress[{:08d}]".format, retries=2, progress="compress")

        return packing.pack(self.codec, codec, labels, notes, device, each)


def _written(value: Any) -> str:
    """A value for a message: a number as briefly as it can be."""
    return f"{value:g}" if isinstance(value, float) else shown(value)
