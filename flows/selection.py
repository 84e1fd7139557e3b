"""selection: pick ipc images a class from the train split.

Output: data/selection, the ids in pick order with their gains.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dcpipe import selection, store
from dcpipe.params import check_options
from dcpipe.selection import Candidates, Picks, Watch, by_label
from dcpipe.types import Features, IntArray, Selection
from flows.runtime import Run, main


def selection_stage(run: Run) -> None:
    """Sort features by class, select, publish."""
    block = run.params.selection
    check_options("selector", block.method, selection.SELECTORS, block.options)
    source = store.open_artifact(Path("data/features"), "features")
    features = store.load_features(source.path)
    classes = tuple(source.meta["classes"])
    with run.bench("data/selection", block.model_dump(mode="json"), {"features": source}) as bench:
        order, offsets = by_label(features.labels, len(classes))
        candidates = by_class(features, order, offsets, bench.notes)
        candidates.check_ipc(block.ipc, classes)
        done = bench.notes / "picks.npz"
        total = block.ipc * len(classes)

        def keep(picks: Picks) -> None:
            beside = done.with_suffix(".partial")
            with beside.open("wb") as stream:
                np.savez(stream, rows=picks.rows, gains=picks.gains)
            beside.replace(done)
            run.reporter.progress("selection", len(picks.rows), total)

        def select(method: str) -> Picks:
            earlier = None
            if done.exists():
                with np.load(done, allow_pickle=False) as state:
                    earlier = Picks(state["rows"], state["gains"])
            watch = Watch(earlier, keep)
            return selection.SELECTORS[method](candidates, block.ipc, block.seed, watch, **block.options)

        [picks] = run.map(select, [block.method], lambda m: f"select[{m}]", progress="select")
        rows = order[picks.rows]
        noun = Selection(features.ids[rows], features.labels[rows], picks.gains, block.method)
        run.reporter.table(
            "first picks",
            [
                {"class": classes[noun.labels[i]], "id": int(noun.ids[i]), "gain": float(noun.gains[i])}
                for i in range(min(50, len(noun)))
            ],
        )
        bench.publish("selection", store.save_selection(bench.root, noun))


def by_class(features: Features, order: IntArray, offsets: IntArray, notes: Path) -> Candidates:
    """Candidates sorted by class, their vectors and logits memory-mapped: one sequential pass over the store,
    so that a selector can hold one class at a time however the source was ordered."""
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    sorted_arrays = []
    for name, array in (("vectors", features.vectors), ("logits", features.logits)):
        path = notes / f"{name}.npy"
        out = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=array.shape)
        for start in range(0, len(order), 8192):
            out[place[start : start + 8192]] = array[start : start + 8192]
        out.flush()
        sorted_arrays.append(np.load(path, mmap_mode="r"))
    return Candidates(sorted_arrays[0], sorted_arrays[1], features.label_rate[order], offsets)


if __name__ == "__main__":
    main(selection_stage, "selection")
