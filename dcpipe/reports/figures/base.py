"""What all figures share: colours, panels, titles and the file format.

The colours are those of Okabe and Ito, which colour-blind people can distinguish. Everything that a colour shows is
also shown by position, marker or text. matplotlib is imported only to draw, because reading a release does not need it.
"""

from __future__ import annotations

import io
import textwrap
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any

from dcpipe.types import require

Row = Mapping[str, Any]
Figure = Any  # matplotlib's, which is not typed
Panel = Any
BLUE, VERMILION, GREY, BLACK = "#0072B2", "#D55E00", "#999999", "#000000"
CYCLE = (BLUE, VERMILION, "#009E73", "#CC79A7", "#E69F00", "#56B4E9", BLACK)
MARKERS = "osD^vP*X<>h"
BASELINE = "random"
PANELS_WIDE = 3


def need_matplotlib() -> None:
    """Raises `DataError` if matplotlib is not installed; called before hours of work, not after."""
    require(
        find_spec("matplotlib") is not None, "figures need matplotlib, which is not installed; install dcpipe[pipeline]"
    )


def kilo(size: float) -> str:
    return f"{size / 1000:.3g} kB" if size < 1e6 else f"{size / 1e6:.3g} MB"


def png(figure: Figure) -> bytes:
    """The figure as a PNG file, without the version of matplotlib in its metadata."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def distinct(rows: Sequence[Row], key: str) -> list[Any]:
    """The distinct values of a column, in order of first appearance."""
    return list(dict.fromkeys(row[key] for row in rows))


def per_class(ipc: int) -> str:
    return f"{ipc} image{'s' if ipc > 1 else ''} per class"


def by_set(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """The rows of each ipc, or of each ipc and variant if rows have one, by the title of their panel. Panels of one ipc
    are next to each other."""
    groups: dict[str, list[Row]] = {}
    for ipc in distinct(rows, "ipc"):
        for row in rows:
            if row["ipc"] == ipc:
                title = f"{row['variant']}, {per_class(ipc)}" if "variant" in row else per_class(ipc)
                groups.setdefault(title, []).append(row)
    return groups


def columns_of(panels: int, sizes: int) -> int:
    """The number of columns for the panels of `by_set`: a row per ipc if it is not too wide, else up to
    `PANELS_WIDE`."""
    each = panels // sizes
    return each if 1 < each <= PANELS_WIDE + 1 else min(panels, PANELS_WIDE)


def canvas(high: int, wide: int, width: float, height: float, sharey: bool = True) -> tuple[Figure, list[Panel]]:
    """A figure of `width` x `height` inches and its `high` x `wide` panels, which share their y axis if `sharey` is
    true.

    The figure is not registered with pyplot, so no global state changes.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=150, layout="constrained")
    panels = list(figure.subplots(high, wide, sharey=sharey, squeeze=False).ravel())
    for panel in panels:
        panel.spines[["top", "right"]].set_visible(False)
        panel.tick_params(labelsize=9)
    return figure, panels


def add_title(figure: Figure, title: str, conditions: str) -> None:
    """Add the title, and below it `conditions`, wrapped to the width of the figure."""
    columns = int(figure.get_figwidth() * 13)
    figure.suptitle(f"{textwrap.fill(title, columns)}\n{textwrap.fill(conditions, columns)}", fontsize=10)
