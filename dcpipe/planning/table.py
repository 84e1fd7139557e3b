"""A forecast as a table with sentences below it, and as JSON."""

from __future__ import annotations

from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from dcpipe.planning.forecast import Forecast
from dcpipe.planning.work import Stage
from dcpipe.reports.columns import human


def table(plan: Forecast) -> Table:
    """One line per stage, and a line with sums (of memory and of the peak on disk: the largest)."""
    counts = plan.setting.counts
    params = plan.setting.params
    made = Table(
        title=f"{params.release.name}: {counts.train + counts.minival:,} train images, {counts.classes:,} classes, "
        f"{params.selection.ipc} per class\nestimates for {plan.costs.title}",
        box=SIMPLE_HEAD,
        pad_edge=False,
        show_footer=True,
    )
    peak = max(plan.peaks)
    columns = [
        ("stage", "all"),
        ("forwards", short(sum(stage.forwards for stage in plan.stages))),
        ("steps", short(sum(stage.steps for stage in plan.stages))),
        ("artifact", human(sum(stage.n_bytes for stage in plan.stages))),
        ("files", f"{sum(stage.files for stage in plan.stages):,}"),
        ("disk at peak", human(peak)),
        ("memory", human(max(stage.host for stage in plan.stages))),
        ("of a device", human(max(stage.device for stage in plan.stages))),
        *((f"time on {n}", clock(plan.total(n))) for n in plan.devices),
        ("spread over", ""),
    ]
    for place, (name, foot) in enumerate(columns):
        left = place in (0, len(columns) - 1)
        made.add_column(name, foot, justify="left" if left else "right", no_wrap=True)
    for stage, on_disk in zip(plan.stages, plan.peaks, strict=True):
        made.add_row(
            stage.name,
            short(stage.forwards),
            short(stage.steps),
            human(stage.n_bytes),
            f"{stage.files:,}",
            human(on_disk),
            human(stage.host),
            human(stage.device) if stage.device else "",
            *(clock(plan.hours(stage, n)) for n in plan.devices),
            stage.spread or "no",
        )
    return made


def sentences(plan: Forecast) -> list[str]:
    """What the table does not say: the bottleneck, what does not fit, and what the figures are worth."""
    told = []
    for n in plan.devices:
        slowest, total = plan.bottleneck(n), plan.total(n)
        share = plan.hours(slowest, n) / total if total else 0.0
        many = "1 device" if n == 1 else f"{n} devices"
        told.append(f"On {many}, {slowest.name} takes longest: {clock(plan.hours(slowest, n))}, {share:.0%} of all.")
    alone = [stage.name for stage in plan.stages if not stage.spread]
    told.append(f"These run on one device, however many there are: {', '.join(alone)}.")
    told += [f"Will not fit: {sentence}." for sentence in plan.unfit]
    told += [f"Not in the hours: {sentence}." for sentence in plan.unknown]
    told.append(
        "Disk is that of data/ and scratch, without the source and DVC's cache (nothing more if it links files, "
        "twice the artifacts if it copies); memory is rough."
    )
    told.append(f"Images: {plan.setting.counts.origin}. Each device has processor cores of its own.")
    told += [f"Costs: {source}." for source in plan.costs.sources]
    return told


def as_json(plan: Forecast) -> dict[str, Any]:
    """The same with exact numbers: bytes, hours by number of devices."""
    counts = plan.setting.counts
    return {
        "name": plan.setting.params.release.name,
        "device": plan.costs.title,
        "sources": list(plan.costs.sources),
        "counts": {**counts.splits, "classes": counts.classes, "image_bytes": counts.image_bytes},
        "stages": [_row(plan, stage, peak) for stage, peak in zip(plan.stages, plan.peaks, strict=True)],
        "hours": {str(n): plan.total(n) for n in plan.devices},
        "bottleneck": {str(n): plan.bottleneck(n).name for n in plan.devices},
        "disk_at_peak": max(plan.peaks),
        "unfit": plan.unfit,
        "not_in_hours": plan.unknown,
    }


def _row(plan: Forecast, stage: Stage, peak: int) -> dict[str, Any]:
    return {
        "stage": stage.name,
        "forwards": stage.forwards,
        "steps": stage.steps,
        "bytes": stage.n_bytes,
        "files": stage.files,
        "disk_at_peak": peak,
        "host_memory": stage.host,
        "device_memory": stage.device,
        "hours": {str(n): plan.hours(stage, n) for n in plan.devices},
        "spread": stage.spread or None,
    }


def short(number: int) -> str:
    """12345 -> `12.3k`; nothing for 0."""
    for unit, one in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if number >= one:
            return f"{number / one:.3g}{unit}"
    return str(number) if number else ""


def clock(hours: float) -> str:
    """Hours as `12.3 h`, `45 min` or `6 s`."""
    if hours >= 1:
        return f"{hours:,.0f} h" if hours >= 100 else f"{hours:.1f} h"
    return f"{60 * hours:.0f} min" if hours >= 1 / 60 else f"{3600 * hours:.0f} s"
