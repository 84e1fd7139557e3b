"""resilience: how much accuracy each selector's coreset loses when its soft labels are compressed (SCORE, Fig. 5).

Block `resilience` of studies/params.yaml: selectors with their options x ratios to fp16 x seeds. Coresets are those of
`study`; each is labelled once, and its labels are packed by the codec of params.yaml at every ratio, and uncompressed.
A ratio that the codec does not reach has rows that say so. Tasks: one a selecting, a shard of labels, a pack, a
student; a killed run goes on after the last that was done.
Output: data/study/resilience: results, summary, figure, pictures of the picks, the same from run to run.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from dcpipe import store
from dcpipe.config.params import CompressionBlock
from dcpipe.reports import figures, tabular
from dcpipe.studies import resilience, selectors
from dcpipe.studies.selectors import Study
from dcpipe.types import BudgetError, FloatArray, ImageSet, IntArray, require
from flows.compression import plan
from flows.contenders import hard_contender, labels_of, one_score, pack_into, packed, protocol_of
from flows.running.runtime import Run, main
from flows.studies.selectors import (
    Chosen,
    Scene,
    check,
    coresets,
    label_shape,
    opened,
    protocol_told,
    save_pictures,
    select,
    views_told,
)
from flows.synthesis import picked

UNCOMPRESSED = "uncompressed"
Budgets = dict[str, CompressionBlock]


@dataclass(frozen=True, eq=False)
class Judged:
    """One coreset: by budget and seed, the `accuracy` of a student f64 [budgets, seeds] in percent; by budget, bytes of
    the file `label_bytes` i64 [budgets] and `notes` [budgets], why there is none (NaN, 0 and a sentence)."""

    seeds: IntArray
    accuracy: FloatArray
    image_bytes: int
    label_bytes: IntArray
    notes: list[str]


def resilience_stage(run: Run) -> None:
    """Check, select, label once, pack and teach at every ratio, tabulate and draw, publish."""
    study = selectors.load("resilience")
    require(
        run.params.softlabels.method == "stored",
        "softlabels.method is none: there are no labels to compress; choose stored",
    )
    require(
        run.params.compression.codec != "none",
        "compression.codec is none: nothing would be compressed; choose a codec",
    )
    with opened(run, study) as scene:
        check(study, scene)
        budgets = budgets_of(run, study, scene)
        chosen = select(run, study, scene)
        judged = {}
        shared = coresets(chosen)
        for done, (digest, group) in enumerate(shared.items(), 1):
            judged[digest] = judge(run, scene, budgets, group)
            run.reporter.progress("coresets", done, len(shared))
        report(run, study, scene, budgets, chosen, judged)
        scene.staging.publish("study", {"name": study.name, "split": study.split})


def budgets_of(run: Run, study: Study, scene: Scene) -> Budgets:
    """By name, how labels are packed: not at all, and by the workspace's codec at every ratio. Refuses, before any
    work, options that the codec lacks and ratios of which it does not reach even the smallest."""
    asked, block = run.params.compression, run.params.softlabels
    packs = {
        f"{ratio:g}x": CompressionBlock(codec=asked.codec, ratio=ratio, options=asked.options) for ratio in study.ratios
    }
    shape = label_shape(run, scene, study.ipc[0])
    with selectors.told(f"{study.name}, {next(iter(packs))}"):
        plan(next(iter(packs.values())), shape, block.augmentation.policy(block.seed, block.mix))
    return {UNCOMPRESSED: CompressionBlock(codec="none"), **packs}


def judge(run: Run, scene: Scene, budgets: Budgets, group: list[Chosen]) -> Judged:
    """Accuracy and bytes of one coreset at every budget; `group` are the cells that picked it. Its labels are removed
    once it is judged, for those of many coresets would fill the disk."""
    first, staging = group[0], scene.staging
    folder = staging.notes / first.digest
    if (kept := staging.kept(f"coreset-{first.digest}")) is None:
        seeds = list(dict.fromkeys(one.cell.seed for one in group))
        kept = taught(run, scene, budgets, first, seeds, folder)
        staging.keep(f"coreset-{first.digest}", **kept)
    shutil.rmtree(folder, ignore_errors=True)  # a kill may have left some of it
    return Judged(
        kept["seeds"], kept["accuracy"], int(kept["image_bytes"]), kept["label_bytes"], kept["notes"].tolist()
    )


def taught(
    run: Run, scene: Scene, budgets: Budgets, first: Chosen, seeds: list[int], folder: Path
) -> dict[str, np.ndarray[Any, Any]]:
    """The arrays of `Judged`: label, pack at every budget, teach."""
    name = f"{first.cell.entry.name} ipc {first.cell.ipc}"
    hard = hard_contender(run, name, picked(scene.train, first.picks), folder)
    sizes, notes = packs(run, scene, budgets, hard.images, folder)
    protocol = protocol_of(run.params.evaluation)

    def teach(job: tuple[str, int]) -> float:
        budget, seed = job
        note = f"score-{first.digest}-{budget}-{seed}"
        if (kept := scene.staging.kept(note)) is None:
            pack = store.read_pack(pack_path(folder, budget), hard.images.ids)
            contender = replace(
                hard, name=f"{name}, {budget}", labels=packed(pack, run.device), label_bytes=pack.n_bytes
            )
            score = one_score(run, contender, protocol, scene.train, scene.test, seed, folder)
            kept = {"accuracy": np.array(score["accuracy"])}
            scene.staging.keep(note, **kept)
        return float(kept["accuracy"])

    jobs = [(budget, seed) for budget, note in zip(budgets, notes, strict=True) if not note for seed in seeds]
    found = run.map(teach, jobs, lambda job: f"{name}, {job[0]}/seed {job[1]}", progress=f"students of {name}")
    scores = dict(zip(jobs, found, strict=True))
    return {
        "seeds": np.array(seeds),
        "accuracy": np.array([[scores.get((budget, seed), np.nan) for seed in seeds] for budget in budgets]),
        "image_bytes": np.array(hard.image_bytes),
        "label_bytes": np.array(sizes),
        "notes": np.array(notes),
    }


def packs(run: Run, scene: Scene, budgets: Budgets, images: ImageSet, folder: Path) -> tuple[list[int], list[str]]:
    """By budget, the bytes of one coreset's pack in `folder`, or 0 and why there is none. The teacher is asked once."""
    note = f"packs-{folder.name}"
    if (kept := scene.staging.kept(note)) is None:
        labels = labels_of(run, images, scene.teachers, folder)

        def pack(budget: str) -> tuple[int, str]:
            path = pack_path(folder, budget)
            try:
                if not path.exists():
                    pack_into(path, run, labels, budgets[budget])
            except BudgetError as error:
                return 0, str(error)
            return path.stat().st_size, ""

        made = run.map(pack, list(budgets), lambda budget: f"pack {budget}", progress="packs")
        kept = {"sizes": np.array([size for size, _ in made]), "notes": np.array([note for _, note in made])}
        scene.staging.keep(note, **kept)
    shutil.rmtree(folder / "labels.zarr", ignore_errors=True)
    return kept["sizes"].tolist(), kept["notes"].tolist()


def pack_path(folder: Path, budget: str) -> Path:
    """Where a coreset's pack is."""
    return folder / f"{budget}.safetensors"


def report(
    run: Run, study: Study, scene: Scene, budgets: Budgets, chosen: list[Chosen], judged: dict[str, Judged]
) -> None:
    """Tables, the figure and pictures, on the bench and to whoever watches."""
    root, rates = scene.staging.root, label_rates(scene, chosen)

    def row(one: Chosen, index: int, ratio: float | None) -> dict[str, Any]:
        its = judged[one.digest]
        note = its.notes[index]
        accuracy = float(its.accuracy[index, its.seeds.tolist().index(one.cell.seed)])
        return {
            "selector": one.cell.entry.name,
            "ipc": one.cell.ipc,
            "ratio": "" if ratio is None else ratio,
            "seed": one.cell.seed,
            "accuracy": "" if note else round(accuracy, 3),
            "image_bytes": its.image_bytes,
            "label_bytes": int(its.label_bytes[index]),
            "label_rate": round(rates[one.digest], 3),
            "picks": one.digest,
            "note": note,
        }

    rows = [
        row(one, index, budget.ratio)
        for entry in study.entries
        for index, budget in enumerate(budgets.values())
        for one in chosen
        if one.cell.entry is entry
    ]
    tabular.write_csv(root / "results.csv", rows)
    summary = resilience.summary(rows, label_shape(run, scene, study.ipc[0]).reference_bytes)
    tabular.write_csv(root / "summary.csv", summary)
    told = f"{protocol_told(run)}; {views_told(run)}; {run.params.compression.codec}"
    figure = figures.png(figures.drops(summary, study.split, told))
    (root / "figure.png").write_bytes(figure)
    save_pictures(study, scene, chosen)
    run.reporter.table(f"{study.name} summary", summary)
    run.reporter.image(f"{study.name} figure", figure)


def label_rates(scene: Scene, chosen: list[Chosen]) -> dict[str, float]:
    """By digest, the mean R_C of what was picked, in nats, as selection saw it."""
    features = store.load_features(scene.features)
    order = np.argsort(features.ids)
    rows = {
        digest: order[np.searchsorted(features.ids, group[0].picks.ids, sorter=order)]
        for digest, group in coresets(chosen).items()
    }
    return {digest: float(features.label_rate[own].mean()) for digest, own in rows.items()}


if __name__ == "__main__":
    main(resilience_stage, "resilience")
