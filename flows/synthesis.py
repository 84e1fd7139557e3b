"""synthesis: refine the picked images; method `none` keeps them, as SCORE does.

Output: data/synthesis, the condensed images (lossless) in pick order; of a method that says what it decided on the way
(MDC), that as a table and a figure. A grid of the images to look at.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from dcpipe import images, store, synthesis
from dcpipe.reports import pictures
from dcpipe.types import ImageSet, ImageTable, Selection, require
from flows.running.drawing import PICTURE_SECONDS, Records
from flows.running.runtime import Run, main


def synthesis_stage(run: Run) -> None:
    """Read the picked images, refine them, publish."""
    block = run.params.synthesis
    source = store.open_artifact(Path("data/images"), "images")
    chosen = store.open_artifact(Path("data/selection"), "selection")
    table = store.table_of(source, "train")
    inputs = {"images": source, "selection": chosen}
    observers = {}
    for key in run.params.teacher.networks:
        inputs[f"teacher {key}"] = store.open_artifact(Path("data/teacher") / key, "teacher")
        observers[key] = store.load_teacher(inputs[f"teacher {key}"].path)
    labels, device = table.labels, run.device
    scene = synthesis.SynthesisContext(observers, partial(images.read_parts, table), labels, device)
    with (
        run.staging("data/statistics", None, {key: its for key, its in inputs.items() if key != "selection"}) as shared,
        run.staging("data/synthesis", block.model_dump(mode="json"), inputs) as staging,
    ):
        records = Records(run, f"{block.method}, seed {block.seed}")
        watch = synthesis.Progress(staging.notes, shared.notes, told(run), records.take)

        def refine(method: str) -> ImageSet:
            start = picked(table, store.load_selection(chosen.path))
            return synthesis.METHODS[method](start, scene, block.seed, watch, **block.options)

        [result] = run.map(refine, [block.method], lambda m: f"synthesise[{m}]", retries=2, progress="synthesise")
        meta = store.save_set(staging.root, result)
        records.save(staging.root)
        run.reporter.image("condensed images", pictures.grid(result))
        staging.publish("synthesis", meta)


def told(run: Run) -> Callable[[int, int, str, Callable[[], ImageSet]], None]:
    """Progress with the terms of the loss and, where somebody watches, the images every `PICTURE_SECONDS`."""
    shown = time.monotonic()

    def report(done: int, total: int, note: str, made: Callable[[], ImageSet]) -> None:
        nonlocal shown
        run.reporter.progress("synthesis", done, total, note)
        if run.reporter.watched and time.monotonic() - shown > PICTURE_SECONDS:
            run.reporter.image("images under way", pictures.grid(made()))
            shown = time.monotonic()

    return report


def picked(table: ImageTable, selection: Selection) -> ImageSet:
    """The selected images, in pick order."""
    order = np.argsort(table.ids, kind="stable")
    position = np.searchsorted(table.ids, selection.ids, sorter=order)
    require(bool((position < len(order)).all()), "selection names images that train lacks; run `dvc repro`")
    rows = order[position]
    require(bool((table.ids[rows] == selection.ids).all()), "selection names images that train lacks; run `dvc repro`")
    return ImageSet(images.read_rows(table, rows), table.labels[rows], table.ids[rows], table.classes)


if __name__ == "__main__":
    main(synthesis_stage, "synthesis")
