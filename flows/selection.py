"""selection: pick ipc images a class from the train split.

Output: data/selection, the ids in pick order with their gains.
"""

from __future__ import annotations

from pathlib import Path

from dcpipe import selection, store
from dcpipe.selection import Candidates, Picks, Progress
from dcpipe.types import Features, IntArray, Selection
from flows.running.runtime import Run, main


def selection_stage(run: Run) -> None:
    """Sort features by class, select, publish."""
    block = run.params.selection
    source = store.open_artifact(Path("data/features"), "features")
    features = store.load_features(source.path)
    classes = tuple(source.meta["classes"])
    with run.staging("data/selection", block.model_dump(mode="json"), {"features": source}) as staging:
        order, offsets = store.by_label(features.labels, len(classes))
        candidates = by_class(features, order, offsets, classes, staging.notes)
        candidates.check(block.ipc)
        total = block.ipc * len(classes)

        def progress(made: int, to_make: int) -> None:
            run.reporter.progress("selection", made, to_make)

        def keep(picks: Picks) -> None:
            staging.keep("picks", rows=picks.rows, gains=picks.gains)
            progress(len(picks.rows), total)

        def select(method: str) -> Picks:
            kept = staging.kept("picks")
            watch = Progress(None if kept is None else Picks(**kept), keep, progress)
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
        meta = store.save_selection(staging.root, noun)
        if features.rank is not None:
            meta["lower_half"] = lower_half(features.rank, rows)
            print(f"selection: {meta['lower_half']:.1%} of the picks are from the lower half of the shortlist")
        staging.publish("selection", meta)


def lower_half(rank: IntArray, rows: IntArray) -> float:
    """The share of picks from the lower half of the shortlist: near 0, a longer one would hardly change them."""
    return float((rank[rows] >= (int(rank.max()) + 1) / 2).mean())


def by_class(
    features: Features, order: IntArray, offsets: IntArray, classes: tuple[str, ...], notes: Path
) -> Candidates:
    """Candidates sorted by class, their vectors and logits memory-mapped, so that a selector can hold one class at a
    time however the source was ordered."""
    vectors = store.sorted_rows(features.vectors, order, notes / "vectors.npy")
    logits = store.sorted_rows(features.logits, order, notes / "logits.npy")
    return Candidates(vectors, logits, features.label_rate[order], offsets, classes)


if __name__ == "__main__":
    main(selection_stage, "selection")
