"""evaluation: fresh students on the condensed set and, under the same protocol, on its baselines.

Rows: the set with its packed labels; uncompressed labels; the teacher online; hard labels; random images with labels
made and packed the same way. Of the set and of random images also their first images of each class, as many as
`evaluation.sizes` says. Tasks: one a row and seed, resumable within a training.
Output: data/evaluation: scores, metrics, plots and pictures.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from dcpipe import store
from dcpipe.dataset.targets import OnlineLabels
from dcpipe.reports import pictures, tabular
from dcpipe.selection import Candidates, Progress
from dcpipe.selection.random import random
from dcpipe.types import ImageSet, ImageTable, Score, Selection, Teacher
from flows.contenders import Contender, contender_of, hard_labels, one_score, packed, protocol_of, smaller, uncompressed
from flows.running.drawing import show_sizes
from flows.running.runtime import Run, main
from flows.softlabels import weight_bytes
from flows.synthesis import picked


def evaluation_stage(run: Run) -> None:
    """Make the contenders, train and test students, report, publish."""
    params, block = run.params, run.params.evaluation
    inputs = {
        noun: store.open_artifact(Path("data") / noun, noun)
        for noun in ("images", "selection", "synthesis", "softlabels", "compression")
    }
    for key in params.softlabels.teachers:
        inputs[f"teacher {key}"] = store.open_artifact(Path("data/teacher") / key, "teacher")
    protocol = protocol_of(block, params.softlabels)
    settings = {
        "evaluation": block.model_dump(mode="json"),
        "softlabels": params.softlabels.model_dump(mode="json"),
        "compression": params.compression.model_dump(mode="json"),
        "seed": params.selection.seed,
    }
    with run.staging("data/evaluation/scores", settings, inputs) as staging:
        train, test = store.table_of(inputs["images"], "train"), store.table_of(inputs["images"], "test")
        contenders = make_contenders(run, inputs, train, staging.notes)
        jobs = [(row, seed) for row in range(len(contenders)) for seed in block.seeds]

        def job_name(job: tuple[int, int]) -> str:
            return f"{contenders[job[0]].name}/seed {job[1]}"

        def score(job: tuple[int, int]) -> dict[str, Any]:
            note = staging.notes / f"result-{job[0]}-{job[1]}.json"
            if note.exists():
                content: dict[str, Any] = json.loads(note.read_text(encoding="utf-8"))
                return content
            content = one_score(run, contenders[job[0]], protocol, train, test, job[1], staging.notes)
            beside = note.with_suffix(".partial")  # a kill in mid-write must not leave half a note
            beside.write_text(json.dumps(content), encoding="utf-8")
            beside.replace(note)
            return content

        results = dict(zip(jobs, run.map(score, jobs, job_name, progress="students"), strict=True))
        scores = [
            Score(
                name=contender.name,
                protocol=protocol.name,
                student=block.student,
                ipc=contender.ipc,
                accuracy=tuple(results[row, seed]["accuracy"] for seed in block.seeds),
                image_bytes=contender.image_bytes,
                label_bytes=contender.label_bytes,
                teacher_bytes=contender.teacher_bytes,
                epochs=block.epochs,
            )
            for row, contender in enumerate(contenders)
        ]
        curves = [
            {"epoch": epoch}
            | {
                contender.kind: float(np.mean([results[row, seed]["history"][epoch]["loss"] for seed in block.seeds]))
                for row, contender in enumerate(contenders)
            }
            for epoch in range(block.epochs)
        ]
        sizes = [row for entry, its in at_each_size(run, contenders, scores) for row in tabular.size_rows(entry, its)]
        write_reports(run, scores, curves, sizes, contenders[0].images, inputs)
        staging.publish("scores", store.save_scores(staging.root, scores))


def make_contenders(run: Run, inputs: dict[str, store.Artifact], train: ImageTable, notes: Path) -> list[Contender]:
    """The condensed set first, then the baselines that `evaluation.baselines` names."""
    block, softlabels, device = run.params.evaluation, run.params.softlabels, run.device
    images = store.load_set(inputs["synthesis"].path)
    image_bytes = (inputs["synthesis"].path / "images.parquet").stat().st_size
    policy = softlabels.augmentation.policy(softlabels.seed, softlabels.mix)
    method = run.params.selection.method
    if run.params.synthesis.method != "none":
        method = run.params.synthesis.method
    hard = Contender(
        "hard", f"{method}, hard labels", images, hard_labels(images, device), policy, image_bytes, label_bytes=0
    )
    if softlabels.method == "none":
        return [*at_sizes(run, hard, notes), *at_random(run, train, {}, notes)]
    pack = store.load_pack(inputs["compression"].path, images.decoded_ids)
    labels = store.load_soft_labels(inputs["softlabels"].path)
    teachers = {key: store.load_teacher(inputs[f"teacher {key}"].path) for key in softlabels.teachers}
    weights = weight_bytes(inputs)
    own = Contender("own", f"{method}, {pack.codec}", images, packed(pack, device), policy, image_bytes, pack.n_bytes)
    rows = at_sizes(run, own, notes)
    if "uncompressed" in block.baselines:
        whole = uncompressed(run, labels, notes)
        rows.append(
            replace(
                own,
                kind="uncompressed",
                name=f"{method}, uncompressed",
                labels=packed(whole, device),
                label_bytes=whole.n_bytes,
            )
        )
    if "online" in block.baselines:
        online = partial(OnlineLabels, list(teachers.values()), len(images.decoded_ids), device)
        rows.append(
            replace(
                own,
                kind="online",
                name=f"{method}, teacher online",
                labels=online,
                label_bytes=0,
                teacher_bytes=weights,
            )
        )
    if "hard" in block.baselines:
        rows.append(hard)
    return [*rows, *at_random(run, train, teachers, notes)]


def at_random(run: Run, train: ImageTable, teachers: dict[str, Teacher], notes: Path) -> list[Contender]:
    """Random real images, as many as the set has, labelled and packed like it; none where no baseline asks for them."""
    if "random" not in run.params.evaluation.baselines:
        return []
    order, offsets = store.by_label(train.labels, len(train.classes))
    nothing = np.zeros((len(order), 0), dtype=np.float32)  # random looks at no feature
    candidates = Candidates(nothing, nothing, np.zeros(len(order)), offsets)
    picks = random(candidates, run.params.selection.ipc, run.params.selection.seed, Progress())
    rows = order[picks.rows]
    images = picked(train, Selection(train.ids[rows], train.labels[rows], picks.gains, "random"))
    return at_sizes(run, contender_of(run, "random", images, teachers, notes / "random"), notes)


def at_sizes(run: Run, whole: Contender, notes: Path) -> list[Contender]:
    """The contender, and its beginnings of `evaluation.sizes` images a class."""
    by = run.params.synthesis.options.get("by", "images")  # what a smaller size is, MDC's option says
    below = [size for size in sorted(run.params.evaluation.sizes) if size < run.params.selection.ipc]
    return [whole, *(smaller(whole, size, by, notes / f"{whole.kind}-{size}") for size in below)]


def at_each_size(run: Run, contenders: list[Contender], scores: list[Score]) -> Iterator[tuple[str, list[Score]]]:
    """The scores of the condensed set, and of random images, at every size asked for; at its own where none is."""
    sizes = run.params.evaluation.sizes or [run.params.selection.ipc]
    for whole in contenders:
        if whole is contenders[0] or whole.kind == "random":
            its = [score for c, score in zip(contenders, scores, strict=True) if c.kind.split()[0] == whole.kind]
            yield whole.name, [score for score in its if score.ipc in sizes]


def write_reports(
    run: Run,
    scores: list[Score],
    curves: list[dict[str, Any]],
    sizes: list[dict[str, Any]],
    images: ImageSet,
    inputs: dict[str, store.Artifact],
) -> None:
    """Metrics, plots and pictures beside the scores: small files that Git and DVC show."""
    folder = Path("data/evaluation")
    folder.mkdir(parents=True, exist_ok=True)
    fp16 = 2 * len(images.decoded_ids) * run.params.softlabels.views * len(images.classes)
    rows = tabular.score_rows(scores, fp16)
    accuracies = {
        name.removeprefix("teacher "): artifact.meta["accuracy"]
        for name, artifact in inputs.items()
        if name.startswith("teacher ")
    }
    (folder / "metrics.json").write_text(
        json.dumps(tabular.metrics(rows, accuracies, sizes), indent=1) + "\n", encoding="utf-8"
    )
    tabular.write_csv(folder / "accuracy_bytes.csv", rows)
    tabular.write_csv(folder / "learning_curves.csv", curves)
    tabular.write_csv(folder / "sizes.csv", [row for row in sizes if row["size"] != "average"])
    (folder / "condensed.png").write_bytes(pictures.grid(images))
    if inputs["softlabels"].meta["method"] != "none":
        spectra = tabular.spectra(store.load_soft_labels(inputs["softlabels"].path))
    else:
        spectra = [{"component": 1, "p10": 1.0, "median": 1.0, "p90": 1.0}]  # one-hot labels have rank one
    tabular.write_csv(folder / "spectra.csv", spectra)
    run.reporter.table("scores", rows)
    if run.params.evaluation.sizes:
        show_sizes(run, sizes, f"{scores[0].student}; {scores[0].protocol}")
    run.reporter.image("condensed images", pictures.grid(images))


if __name__ == "__main__":
    main(evaluation_stage, "evaluation")
