"""How flat losses are, in up to four panels: of students, of synthesis in its course, and of batches by their size."""

from __future__ import annotations

from collections.abc import Sequence

from dcpipe.reports.figures.base import CYCLE, GREY, MARKERS, Figure, Panel, Row, add_title, canvas, distinct


def landscape(
    students: Sequence[Row], lines: Sequence[Row], steps: Sequence[Row], cosines: Sequence[Row], conditions: str
) -> Figure:
    """The loss along random directions by zeta; what SAM's step and the ascent add to the loss; the norm of the Hessian
    over steps of synthesis; the cosine over sizes of batches. Panels without rows are left out. Bands are one standard
    deviation on either side."""
    kinds = [bool(lines), bool(students), bool(steps), bool(cosines)]
    figure, panels = canvas(1, sum(kinds), 1.0 + 3.9 * sum(kinds), 4.0, sharey=False)
    left = iter(panels)
    if lines:
        panel = next(left)
        for index, zeta in enumerate(distinct(lines, "zeta")):
            _line(panel, index, [row for row in lines if row["zeta"] == zeta], "place", "loss", _zeta(zeta))
        _finish(panel, "along a direction, in norms of filters", "training loss")
    if students:
        panel = next(left)
        names, places = [_zeta(row["zeta"]) for row in students], range(len(students))
        for index, (key, label) in enumerate((("sam", "one step (SAM)"), ("ascent", "highest found"))):
            gained = [row[key] - row["loss"] for row in students]
            panel.plot(places, gained, color=CYCLE[index], marker=MARKERS[index], markersize=4, label=label)
        panel.set_xticks(list(places), names)
        _finish(panel, "students", "gain of the loss within the radius")
    if steps:
        panel = next(left)
        for index, name in enumerate(distinct(steps, "recovery")):
            _line(panel, index, [row for row in steps if row["recovery"] == name], "step", "norm", name)
        panel.set_yscale("log")
        _finish(panel, "step of synthesis", "norm of the Hessian")
    if cosines:
        panel = next(left)
        for index, name in enumerate(distinct(cosines, "set")):
            for network in distinct(cosines, "network"):
                rows = [row for row in cosines if (row["set"], row["network"]) == (name, network)]
                dashed = network != cosines[0]["network"]
                _line(panel, index, rows, "batch", "cosine", f"{name}, {network}", dashed)
        _finish(panel, "images in a batch", "cosine with the whole set's gradient")
    add_title(figure, "Landscape: mean and standard deviation over seeds", conditions)
    return figure


def _zeta(zeta: object) -> str:
    return f"zeta {zeta:g}" if isinstance(zeta, int | float) else "as in params.yaml"


def _line(panel: Panel, index: int, rows: Sequence[Row], x: str, y: str, label: str, dashed: bool = False) -> None:
    places, means = [row[x] for row in rows], [row[y] for row in rows]
    colour, marker = CYCLE[index % len(CYCLE)], MARKERS[index % len(MARKERS)]
    style = "--" if dashed else "-"
    panel.plot(places, means, color=colour, marker=marker, markersize=3, linewidth=1.2, linestyle=style, label=label)
    low, high = ([row[y] + sign * row["std"] for row in rows] for sign in (-1, 1))
    panel.fill_between(places, low, high, color=colour, alpha=0.12)


def _finish(panel: Panel, x: str, y: str) -> None:
    panel.set_xlabel(x)
    panel.set_ylabel(y)
    panel.grid(color=GREY, alpha=0.3, linewidth=0.5)
    panel.legend(fontsize=7.5, frameon=False)
