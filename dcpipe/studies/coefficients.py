"""`coefficients`: vary alpha and beta of `score`, one at a time, and compare with random images (SCORE, Fig. 4)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar

from pydantic import Field

from dcpipe import selection
from dcpipe.config.blocks import Block
from dcpipe.config.options import Options
from dcpipe.config.values import Count, Distinct, NotNegative
from dcpipe.reports import figures
from dcpipe.studies.base import CellResult, Split, StudyBlock, StudyContext
from dcpipe.studies.coresets import CoresetCell, Entry, default_options
from dcpipe.studies.selection import Kind, SelectionStudy
from dcpipe.studies.summary import Row
from dcpipe.types import require

Weights = Annotated[list[NotNegative], Field(min_length=1), Distinct]


class Coefficients(Block):
    """The point that both sweeps contain."""

    alpha: NotNegative
    beta: NotNegative


class CoefficientsBlock(StudyBlock):
    """One sweep varies alpha with the beta of `base`, the other varies beta with the alpha of `base`. `options` are the
    other options of `score`.

    `base` and `options` are by default those of params.yaml, or score's own defaults if params.yaml selects by another
    method.
    """

    base: Coefficients | None = None
    alpha: Weights
    beta: Weights
    options: dict[str, Any] | None = None
    ipc: Count
    split: Split = "minival"

    def check(self, name: str) -> None:
        for key in Coefficients.model_fields:
            sentence = f"{name}.options has {key!r}, which {name}.base sets; remove it from options"
            require(key not in (self.options or {}), sentence)


class CoefficientsStudy(SelectionStudy):
    """Random images, and the points of both sweeps."""

    title: ClassVar[str] = "vary alpha and beta of score, one at a time (SCORE, Fig. 4)"
    block_type: ClassVar[type[StudyBlock]] = CoefficientsBlock

    @property
    def base(self) -> Coefficients:
        """The point that both sweeps pass through."""
        if self.block.base is not None:
            return Coefficients(**self.block.base.model_dump())
        known = {**Options.of(selection.SELECTORS["score"]).defaults, **default_options("score", self.params)}
        return Coefficients(alpha=known["alpha"], beta=known["beta"])

    @property
    def options(self) -> dict[str, Any]:
        """The other options of `score`."""
        options = default_options("score", self.params) if self.block.options is None else self.block.options
        return {key: value for key, value in options.items() if key not in Coefficients.model_fields}

    @property
    def entries(self) -> list[Entry]:
        base = {**self.options, **self.base.model_dump()}
        return [
            Entry("random", "random", {}),
            *(
                Entry(f"{swept}-{value:.12g}", "score", {**base, swept: value}, swept)
                for swept, values in (("alpha", self.block.alpha), ("beta", self.block.beta))
                for value in sorted(values)
            ),
        ]

    @property
    def block_settings(self) -> dict[str, Any]:
        return {**self.block.model_dump(mode="json"), "base": self.base.model_dump(), "options": self.options}

    @property
    def sizes(self) -> list[int]:
        return [self.block.ipc]

    @property
    def kinds(self) -> Sequence[Kind]:
        return ["packed"]

    @property
    def against(self) -> str | None:
        return None

    def run(self, context: StudyContext, cell: CoresetCell) -> CellResult:
        """As in the study `selection`, with the point of the sweep in each row."""
        result, options = super().run(context, cell), cell.entry.options
        point = {"swept": cell.entry.swept, "alpha": options.get("alpha"), "beta": options.get("beta")}
        return CellResult([{**row, **point} for row in result.rows], result.pictures)

    def draw(self, summary: list[Row], conditions: str) -> figures.Figure:
        return figures.lines(summary, self.block.split, conditions)
