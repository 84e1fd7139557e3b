"""evaluation: train students from scratch on the condensed set and, under the same protocol, on its baselines.

Rows: the set with its packed labels, with uncompressed labels, with the teacher online and with hard labels, random
images with labels that are made and packed in the same way, and, on request, all training images. For each size in
`evaluation.sizes`, also the first images of each class of the set and of the random images. Tasks: one per row and
seed, which resume within a training.
Output: data/evaluation with scores, metrics, plots and pictures.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.filesize import decimal

from dcpipe import store
from dcpipe.evaluation import all_images, contenders, lineup
from dcpipe.evaluation.students import protocol_of
from dcpipe.reports import pictures, tabular
from dcpipe.types import ImageSet, Score
from flows.running.drawing import show_sizes
from flows.running.inputs import Inputs
from flows.running.runtime import Run, main
from flows.running.students import train_students


def evaluation_stage(run: Run) -> None:
    """Make the contenders, train and test students on them, report and publish the scores."""
    params, block = run.params, run.params.evaluation
    kinds = ("images", "selection", "synthesis", "softlabels", "compression")
    inputs = Inputs.open(*kinds, teachers=params.softlabels.teachers)
    block = block.at_rate(store.learned_rate(inputs["synthesis"]))
    protocol = protocol_of(block, params.softlabels)
    settings = {
        "evaluation": block.model_dump(mode="json"),
        "softlabels": params.softlabels.model_dump(mode="json"),
        "compression": params.compression.model_dump(mode="json"),
        "seed": params.selection.seed,
    }
    upper_bound = "all_images" in block.baselines
    if upper_bound:
        settings["training"] = params.teacher.training.content()
    with run.staging("data/evaluation/scores", settings, inputs) as staging:
        notes = store.Notes(staging.notes)
        train, test = store.table_of(inputs["images"], "train"), store.table_of(inputs["images"], "test")
        rows = lineup_of(run, inputs, notes).contenders()
        whole = {all_images.KIND: None} if upper_bound else {}
        by_kind = train_students(run, rows, params, protocol, block.seeds, train, test, notes, whole)
        outcomes = [by_kind[row.kind] for row in rows]
        scores = [lineup.score_of(*row, protocol, block) for row in zip(rows, outcomes, strict=True)]
        sizes = {
            whole.kind: tabular.size_rows(whole.name, by_size)
            for whole, by_size in lineup.at_each_size(rows, scores, params)
        }
        curves = lineup.learning_curves(rows, outcomes, protocol)
        names = [row.kind for row in rows]
        if upper_bound:
            of_all = by_kind[all_images.KIND]
            scores.append(all_images.score_of(of_all, params, train))
            curves += lineup.learning_curve(all_images.NAME, all_images.LOSS, of_all)
            names.append(all_images.KIND)
        for score in scores:
            run.log.info(f"{score.name}: {score.mean:.1f} ± {score.std:.1f} % on test, {decimal(score.total_bytes)}")
        write_reports(run, dict(zip(names, scores, strict=True)), curves, sizes, rows[0].images, inputs)
        staging.publish("scores", store.save_scores(staging.root, scores))


def lineup_of(run: Run, inputs: Inputs, notes: store.Notes) -> lineup.Lineup:
    """The images, labels and settings that the contenders are made from."""
    images = store.load_set(inputs.path("synthesis"))
    labels = None
    if run.params.softlabels.method != "none":
        stored = run.params.softlabels.method == "stored"  # learned labels have no teacher, and a pack loses nothing
        labels = lineup.SoftLabelled(
            pack=store.load_pack(inputs.path("compression"), images.decoded_ids),
            uncompressed=store.load_soft_labels(inputs.path("softlabels")) if stored else None,
            teachers=inputs.load_teachers() if stored else {},
            teacher_bytes=sum(inputs.teacher_bytes.values()) if stored else 0,
        )
    return lineup.Lineup(
        params=run.params,
        method=lineup.method_of(run.params),
        images=images,
        image_file=inputs["synthesis"].file("images.parquet"),
        labels=labels,
        train=store.table_of(inputs["images"], "train"),
        labeller=contenders.Labeller(run.params.softlabels, run.params.compression, run.device, run.map),
        notes=notes,
        whitening=store.whitening_file(inputs["synthesis"]),
    )


def write_reports(
    run: Run,
    scores: Mapping[str, Score],
    curves: Sequence[Mapping[str, Any]],
    sizes: Mapping[str, list[dict[str, Any]]],
    images: ImageSet,
    inputs: Inputs,
) -> None:
    """Write metrics, plots and pictures next to the scores: small files that Git and DVC display. `scores` are by kind
    of row, with the condensed set first, and `sizes` are the rows of sets at every size, by kind."""
    folder = Path("data/evaluation")
    folder.mkdir(parents=True, exist_ok=True)
    fp16 = 2 * len(images.decoded_ids) * run.params.softlabels.views * len(images.classes)
    rows = tabular.score_rows(list(scores.values()), fp16)
    accuracies = {key: artifact.meta["accuracy"] for key, artifact in inputs.teachers.items()}
    averages = {kind: of_kind[-1]["accuracy"] for kind, of_kind in sizes.items() if run.params.evaluation.sizes}
    metrics, picture = json.dumps(tabular.metrics(scores, accuracies, averages), indent=1), pictures.grid(images)
    for name, content in (("metrics.json", f"{metrics}\n".encode()), ("condensed.png", picture)):
        with store.replacing(folder / name) as partial:  # what is there may be a link into DVC's cache
            partial.write_bytes(content)
    tabular.write_csv(folder / "accuracy_bytes.csv", rows)
    tabular.write_csv(folder / "learning_curves.csv", curves)
    at_sizes = [row for of_kind in sizes.values() for row in of_kind]
    tabular.write_csv(folder / "sizes.csv", [row for row in at_sizes if row["size"] != "average"])
    if inputs["softlabels"].meta["method"] == "stored":
        spectra = tabular.spectra(store.load_soft_labels(inputs.path("softlabels")))
    else:
        spectra = [{"component": 1, "p10": 1.0, "median": 1.0, "p90": 1.0}]  # one label per image has rank one
    tabular.write_csv(folder / "spectra.csv", spectra)
    run.reporter.table("scores", rows)
    if run.params.evaluation.sizes:
        own = next(iter(scores.values()))
        show_sizes(run, at_sizes, f"{own.student}; {own.protocol}")
    run.reporter.image("condensed images", picture)


if __name__ == "__main__":
    main(evaluation_stage, "evaluation")
