"""selection: pick ipc images per class from the train split.

Output: data/selection with the ids of the picks and their gains, in pick order.
"""

from __future__ import annotations

from dataclasses import replace

from dcpipe import selection, store
from dcpipe.selection import Picks, Progress
from dcpipe.selection.score import note
from flows.running.inputs import Inputs
from flows.running.runtime import Run, main


def selection_stage(run: Run) -> None:
    """Sort the features by class, select and publish."""
    block, inputs = run.params.selection, Inputs.open("features")
    features = store.load_features(inputs.path("features"))
    classes = tuple(inputs["features"].meta["classes"])
    with run.staging("data/selection", block.content(), inputs) as staging:
        notes = store.Notes(staging.notes)
        candidates = replace(selection.candidates_of(features, classes, staging.notes), take_all=block.takes_all)
        candidates.check(block.ipc, logits=selection.uses_logits(block.method))

        def progress(done: int, total: int) -> None:
            run.reporter.progress("selection", done, total)

        def save(picks: Picks) -> None:
            notes.save_arrays("picks", rows=picks.rows, gains=picks.gains)
            progress(len(picks.rows), block.ipc * len(classes))

        def select(method: str) -> Picks:
            earlier = notes.load_arrays("picks")
            callbacks = Progress(None if earlier is None else Picks(**earlier), save, progress)
            return selection.SELECTORS[method](candidates, block.ipc, block.seed, callbacks, **block.options)

        [picks] = run.map(select, [block.method], lambda method: f"select[{method}]", progress="select")
        chosen = candidates.selection(picks, block.method)
        if block.method == "score" and (sentence := note(block.ipc, block.options)):
            run.log.info(sentence)
        first = zip(chosen.labels[:50], chosen.ids[:50], chosen.gains[:50], strict=True)
        run.reporter.table(
            "first picks",
            [{"class": classes[label], "id": int(number), "gain": float(gain)} for label, number, gain in first],
        )
        meta = store.save_selection(staging.root, chosen)
        if (share := features.lower_half(chosen.ids)) is not None:
            meta["lower_half"] = share
            run.log.info(f"{share:.1%} of the picks are from the lower half of the shortlist")
        staging.publish("selection", meta)


if __name__ == "__main__":
    main(selection_stage, "selection")
