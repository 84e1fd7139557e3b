"""`coefficients`: vary alpha and beta of `score`, one at a time, and compare with random images (SCORE, Fig. 4)."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import Field

from dcpipe.config.blocks import Block
from dcpipe.config.values import Count, Distinct, NotNegative
from dcpipe.reports import figures
from dcpipe.studies.base import CellResult, Split, StudyBlock, StudyContext
from dcpipe.studies.coresets import CoresetCell, Entry
from dcpipe.studies.selection import SelectionStudy
from dcpipe.studies.summary import Row
from dcpipe.types import require

Weights = Annotated[list[NotNegative], Field(min_length=1), Distinct]


class Coefficients(Block):
    """The point that both sweeps contain."""

    alpha: NotNegative
    beta: NotNegative


class CoefficientsBlock(StudyBlock):
    """One sweep varies alpha with the beta of `base`, the other varies beta with the alpha of `base`. `options` are the
    other options of `score`."""

    base: Coefficients
    alpha: Weights
    beta: Weights
    options: dict[str, Any] = Field(default_factory=dict)
    ipc: Count
    split: Split = "minival"

    def check(self, name: str) -> None:
        for key in ("alpha", "beta"):
            sentence = f"{name}.options has {key!r}, which {name}.base sets; remove it from options"
            require(key not in self.options, sentence)


class CoefficientsStudy(SelectionStudy):
    """Random images, and the points of both sweeps."""

    title: ClassVar[str] = "vary alpha and beta of score, one at a time (SCORE, Fig. 4)"
    block_type: ClassVar[type[StudyBlock]] = CoefficientsBlock

    @property
    def entries(self) -> list[Entry]:
        base = {**self.block.options, **self.block.base.model_dump()}
        return [
            Entry("random", "random", {}),
            *(
                Entry(f"{swept}-{value:.12g}", "score", {**base, swept: value}, swept)
                for swept, values in (("alpha", self.block.alpha), ("beta", self.block.beta))
                for value in sorted(values)
            ),
        ]

    @property
    def sizes(self) -> list[int]:
        return [self.block.ipc]

    def run(self, context: StudyContext, cell: CoresetCell) -> CellResult:
        """As in the study `selection`, with the point of the sweep in each row."""
        result, options = super().run(context, cell), cell.entry.options
        point = {"swept": cell.entry.swept, "alpha": options.get("alpha"), "beta": options.get("beta")}
        return CellResult([{**row, **point} for row in result.rows], result.pictures)

    def draw(self, summary: list[Row], conditions: str) -> figures.Figure:
        return figures.lines(summary, self.block.split, conditions)
