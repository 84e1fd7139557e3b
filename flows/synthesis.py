"""synthesis: refine the picked images; method `none` leaves them as they are, as SCORE does.

Output: data/synthesis with the condensed images (lossless) in pick order. A method that records its decisions (MDC)
adds them as a table and a figure; what it learned beside the images (MTT's labels and step size) is a file of its own,
and so is the ZCA transform that they were made for.
A grid of the images is displayed.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from dcpipe import images, store, synthesis
from dcpipe.reports import pictures
from dcpipe.types import ImageSet, Whitening
from flows.running.drawing import LiveImages, Records
from flows.running.inputs import Inputs
from flows.running.runtime import Run, main


def synthesis_stage(run: Run) -> None:
    """Read the picked images, refine them and publish."""
    block = run.params.synthesis
    inputs = Inputs.open("images", "selection", teachers=run.params.teacher.networks)
    table, observers = store.table_of(inputs["images"], "train"), inputs.load_teachers()
    real = partial(images.read_parts, table)
    context = synthesis.SynthesisContext(observers, real, table.labels, run.device, run.map, table)
    with (
        run.staging("data/statistics", None, inputs.without("selection")) as shared,
        run.staging("data/synthesis", block.model_dump(mode="json"), inputs) as staging,
    ):
        records = Records(run, f"{block.method}, seed {block.seed}")
        learned: dict[str, Any] = {}
        transforms: list[Whitening] = []
        progress = synthesis.Progress(
            staging.notes,
            shared.notes,
            LiveImages(run).report,
            records.update,
            keep=learned.update,
            whiten=transforms.append,
        )

        def refine(method: str) -> ImageSet:
            start = images.read_selection(table, store.load_selection(inputs.path("selection")))
            return synthesis.METHODS[method](start, context, block.seed, progress, **block.options)

        [result] = run.map(
            refine, [block.method], lambda method: f"synthesise[{method}]", retries=2, progress="synthesise"
        )
        meta = store.save_set(staging.root, result)
        store.save_learned(staging.root, learned)
        if transforms:
            store.save_whitening(staging.root, transforms[-1])
        records.save(staging.root)
        run.reporter.image("condensed images", pictures.grid(result))
        staging.publish("synthesis", meta)


if __name__ == "__main__":
    main(synthesis_stage, "synthesis")
