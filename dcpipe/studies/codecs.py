"""Codecs at several ratios, with their baselines: the rows of the studies that compare compressed labels.

Every codec is compared with uncompressed labels and with one mean label per image (codec `mean_label`). The mean label
takes the same bytes however many views there are, while every ratio to fp16 grows with them: labels of a codec depend
on the view only as far as they are better than the mean label.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import Field

from dcpipe.compression import CODECS
from dcpipe.config.blocks import Block
from dcpipe.config.options import check_options
from dcpipe.config.params import CompressionBlock
from dcpipe.studies.base import Study
from dcpipe.studies.summary import Row
from dcpipe.types import require

UNCOMPRESSED, MEAN = "uncompressed", "mean label"


class CodecEntry(Block):
    """A codec and its options, as in the block `compression` of params.yaml; `codec` defaults to the entry's name."""

    codec: str | None = None
    options: dict[str, Any] = Field(default_factory=dict)


@dataclass(frozen=True)
class Packing:
    """One way to pack labels: the name of its rows, and the codec with its budget. Baselines have no ratio."""

    codec: str
    block: CompressionBlock

    def __str__(self) -> str:
        return self.codec if self.is_baseline else f"{self.codec}-{self.block.ratio:.12g}x"

    @property
    def is_baseline(self) -> bool:
        """Whether the labels are uncompressed or one mean label per image."""
        return self.codec in (UNCOMPRESSED, MEAN)

    @property
    def place(self) -> Row:
        """The columns that identify the packing of a row."""
        return {"codec": self.codec, "ratio": "" if self.is_baseline else self.block.ratio}


# The budget of the mean label, which does not use it up, is the size of the labels in fp16.
BASELINES = (
    Packing(UNCOMPRESSED, CompressionBlock(codec="none")),
    Packing(MEAN, CompressionBlock(codec="mean_label", ratio=1)),
)


def packings(codecs: Mapping[str, CodecEntry], ratios: Sequence[float]) -> list[Packing]:
    """Every codec, in the order of the block, at every ratio to fp16, ascending; without baselines."""
    return [
        Packing(name, CompressionBlock(codec=entry.codec or name, ratio=ratio, options=entry.options))
        for name, entry in codecs.items()
        for ratio in sorted(ratios)
    ]


def check_codecs(study: Study, codecs: Mapping[str, CodecEntry]) -> None:
    """Raises `DataError`, with the entry's place in the file, for an unknown codec, wrong options, codec `none`, and an
    entry whose rows would have the name of a baseline."""
    for name, entry in codecs.items():
        with study.error_context(name):
            require(
                name != UNCOMPRESSED,
                f"{UNCOMPRESSED!r} is the name of the rows of uncompressed labels; give the codec another name",
            )
            require(
                (entry.codec or name) != "none",
                "codec 'none' takes no budget, and the row of uncompressed labels is always there; remove it",
            )
            check_options(CODECS, entry.codec or name, entry.options)
