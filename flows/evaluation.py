"""evaluation: train students from scratch on the condensed set and, under the same protocol, on its baselines.

Rows: the set with its packed labels, with uncompressed labels, with the teacher online and with hard labels, and random
images with labels that are made and packed in the same way. For each size in `evaluation.sizes`, also the first images
of each class of the set and of the random images. Tasks: one per row and seed, which resume within a training.
Output: data/evaluation with scores, metrics, plots and pictures.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.filesize import decimal

from dcpipe import store
from dcpipe.evaluation import contenders, lineup, shards
from dcpipe.evaluation.students import protocol_of
from dcpipe.reports import pictures, tabular
from dcpipe.types import ImageSet, Score
from flows.running.drawing import show_sizes
from flows.running.inputs import Inputs
from flows.running.runtime import Run, main


def evaluation_stage(run: Run) -> None:
    """Make the contenders, train and test students on them, report and publish the scores."""
    params, block = run.params, run.params.evaluation
    kinds = ("images", "selection", "synthesis", "softlabels", "compression")
    inputs = Inputs.open(*kinds, teachers=params.softlabels.teachers)
    protocol = protocol_of(block, params.softlabels)
    settings = {
        "evaluation": block.model_dump(mode="json"),
        "softlabels": params.softlabels.model_dump(mode="json"),
        "compression": params.compression.model_dump(mode="json"),
        "seed": params.selection.seed,
    }
    with run.staging("data/evaluation/scores", settings, inputs) as staging:
        notes = store.Notes(staging.notes)
        train, test = store.table_of(inputs["images"], "train"), store.table_of(inputs["images"], "test")
        rows = lineup_of(run, inputs, notes).contenders()
        jobs = [(row, seed) for row in range(len(rows)) for seed in block.seeds]
        contained = [shards.job_of(row, protocol, train, test, notes.folder, run.device) for row in rows]
        stored = [job for job in contained if job is not None]
        assert len(stored) == len(rows), "a contender of this stage is not on disk"
        students = [shards.Student(stored[row], seed, f"result-{row}-{seed}") for row, seed in jobs]
        names = {student: f"{rows[row].name}/seed {seed}" for student, (row, seed) in zip(students, jobs, strict=True)}
        trained = run.map(shards.train, students, names.__getitem__, progress="students")
        results = dict(zip(jobs, trained, strict=True))
        outcomes = [[results[row, seed] for seed in block.seeds] for row in range(len(rows))]
        scores = [lineup.score_of(*row, protocol, block) for row in zip(rows, outcomes, strict=True)]
        curves = lineup.learning_curves({row.kind: students for row, students in zip(rows, outcomes, strict=True)})
        sizes = [
            row
            for name, by_size in lineup.at_each_size(rows, scores, params)
            for row in tabular.size_rows(name, by_size)
        ]
        for score in scores:
            run.log.info(f"{score.name}: {score.mean:.1f} ± {score.std:.1f} % on test, {decimal(score.total_bytes)}")
        write_reports(run, scores, curves, sizes, rows[0].images, inputs)
        staging.publish("scores", store.save_scores(staging.root, scores))


def lineup_of(run: Run, inputs: Inputs, notes: store.Notes) -> lineup.Lineup:
    """The images, labels and settings that the contenders are made from."""
    images = store.load_set(inputs.path("synthesis"))
    labels = None
    if run.params.softlabels.method != "none":
        labels = lineup.SoftLabelled(
            pack=store.load_pack(inputs.path("compression"), images.decoded_ids),
            uncompressed=store.load_soft_labels(inputs.path("softlabels")),
            teachers=inputs.load_teachers(),
            teacher_bytes=sum(inputs.teacher_bytes.values()),
        )
    return lineup.Lineup(
        params=run.params,
        images=images,
        image_file=inputs["synthesis"].file("images.parquet"),
        labels=labels,
        train=store.table_of(inputs["images"], "train"),
        labeller=contenders.Labeller(run.params.softlabels, run.params.compression, run.device, run.map),
        notes=notes,
    )


def write_reports(
    run: Run,
    scores: Sequence[Score],
    curves: Sequence[dict[str, float]],
    sizes: Sequence[dict[str, Any]],
    images: ImageSet,
    inputs: Inputs,
) -> None:
    """Write metrics, plots and pictures next to the scores: small files that Git and DVC display."""
    folder = Path("data/evaluation")
    folder.mkdir(parents=True, exist_ok=True)
    fp16 = 2 * len(images.decoded_ids) * run.params.softlabels.views * len(images.classes)
    rows = tabular.score_rows(scores, fp16)
    accuracies = {key: artifact.meta["accuracy"] for key, artifact in inputs.teachers.items()}
    metrics, picture = json.dumps(tabular.metrics(rows, accuracies, sizes), indent=1), pictures.grid(images)
    for name, content in (("metrics.json", f"{metrics}\n".encode()), ("condensed.png", picture)):
        with store.replacing(folder / name) as partial:  # what is there may be a link into DVC's cache
            partial.write_bytes(content)
    tabular.write_csv(folder / "accuracy_bytes.csv", rows)
    tabular.write_csv(folder / "learning_curves.csv", curves)
    tabular.write_csv(folder / "sizes.csv", [row for row in sizes if row["size"] != "average"])
    if inputs["softlabels"].meta["method"] != "none":
        spectra = tabular.spectra(store.load_soft_labels(inputs.path("softlabels")))
    else:
        spectra = [{"component": 1, "p10": 1.0, "median": 1.0, "p90": 1.0}]  # one-hot labels have rank one
    tabular.write_csv(folder / "spectra.csv", spectra)
    run.reporter.table("scores", rows)
    if run.params.evaluation.sizes:
        show_sizes(run, sizes, f"{scores[0].student}; {scores[0].protocol}")
    run.reporter.image("condensed images", picture)


if __name__ == "__main__":
    main(evaluation_stage, "evaluation")
