"""Figures, one per file: drawn from the rows that studies and evaluations write."""

from __future__ import annotations

from dcpipe.reports.figures.against import against
from dcpipe.reports.figures.bars import bars
from dcpipe.reports.figures.base import Figure, add_title, canvas, need_matplotlib, png
from dcpipe.reports.figures.codecs import codecs
from dcpipe.reports.figures.curves import curves
from dcpipe.reports.figures.drops import drops
from dcpipe.reports.figures.grouped import grouped
from dcpipe.reports.figures.landscape import landscape
from dcpipe.reports.figures.lines import lines
from dcpipe.reports.figures.pareto import frontier, pareto
from dcpipe.reports.figures.sizes import sizes
from dcpipe.reports.figures.spectra import spectra

__all__ = [
    "Figure",
    "add_title",
    "against",
    "bars",
    "canvas",
    "codecs",
    "curves",
    "drops",
    "frontier",
    "grouped",
    "landscape",
    "lines",
    "need_matplotlib",
    "pareto",
    "png",
    "sizes",
    "spectra",
]
