"""synthesis_study NAME: variants of the workspace side by side, from picks to students.

NAME is a block of studies/params.yaml: `syntheses`, whose variants stand each for itself, or `ladder`, where each adds
to those above it (EDC, Fig. 1). Images that variants share are made once, labels that they share too; the statistics of
the real images are measured once for all. Tasks: one a variant's images, a shard of labels, a student; a killed run
goes on after the last that was done, and inside a recovery.
Output: data/study/NAME: results, summary, figure, a picture of every variant's images. Seconds are measured: only the
summary, where they are, differs from run to run.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from dcpipe import images, networks, selection, store, synthesis
from dcpipe.config import blocks
from dcpipe.config.options import check_options
from dcpipe.config.params import NOT_OF_STUDIES, Params
from dcpipe.dataset.targets import OnlineLabels
from dcpipe.reports import figures, pictures, tabular
from dcpipe.selection import Candidates, Progress
from dcpipe.studies import selectors, variants
from dcpipe.studies.variants import BLOCKS, Labels, VariantsStudy
from dcpipe.types import Features, ImageSet, ImageTable, IntArray, LabelShape, Selection, Teacher, require
from flows.compression import plan
from flows.contenders import Contender, contender_of, hard_contender, one_score, protocol_of
from flows.running.runtime import Run, main
from flows.selection import by_class
from flows.softlabels import weight_bytes
from flows.synthesis import picked, told

LADDER = "ladder"


@dataclass(frozen=True, eq=False)
class Cell:
    """One variant at one ipc."""

    name: str
    ipc: int
    params: Params
    labels: Labels
    rounds: tuple[int, int] | None = None  # of the picks, start and stop, that images start from; None: all
    taken: str = ""  # what students get of the images, where that is not all

    def __str__(self) -> str:
        return f"{self.name}-ipc{self.ipc}"

    def content(self, *blocks: str) -> dict[str, Any]:
        """These blocks, without what a study does not use of them."""
        unused = {"evaluation": set(NOT_OF_STUDIES)}
        return self.params.model_dump(mode="json", include=set(blocks), exclude=unused)

    def digest(self, *blocks: str) -> str:
        """Equal for cells that agree in these blocks, start from the same rounds and take the same."""
        return store.digest_of({**self.content(*blocks), "rounds": self.rounds, "taken": self.taken})[:12]


@dataclass(frozen=True, eq=False)
class Scene:
    """What all cells of the study `name` share; `order`: rows of `features` class by class, as in `candidates`."""

    name: str
    train: ImageTable
    test: ImageTable
    features: Features
    order: IntArray
    candidates: Candidates
    teachers: dict[str, Teacher]
    artifacts: Mapping[str, store.Artifact]
    staging: store.StagingDir


def synthesis_study_stage(run: Run, name: str) -> None:
    """Check, synthesise, label and teach, tabulate and draw, publish."""
    study = selectors.load_variants(name)
    cells = cells_of(study, name, blocks.read(Path("params.yaml"), "the workspace's parameters"))
    with opened(run, study, name, cells) as scene:
        check(run, study, scene, cells)
        rows: list[dict[str, Any]] = []
        firsts: dict[str, tuple[str, ImageSet]] = {}  # of every set of images, once
        for done, cell in enumerate(cells, 1):
            found, seconds = made(run, scene, cell)
            show(run, scene, cell, found)
            firsts.setdefault(cell.digest("selection", "synthesis"), (str(cell), found.prefix(1)))
            rows += judged(run, study, scene, cell, found, seconds)
            run.reporter.progress("variants", done, len(cells))
        report(run, study, scene, rows)
        (scene.staging.root / "gallery.png").write_bytes(pictures.gallery(dict(firsts.values())))
        scene.staging.publish("study", {"name": name, "split": study.split})


def cells_of(study: VariantsStudy, name: str, content: Mapping[str, Any]) -> list[Cell]:
    """Every variant at every ipc, its parameters checked."""

    def cell_of(variant: str, ipc: int) -> Cell:
        with selectors.told(f"{name}, {variant}"):
            return Cell(variant, ipc, *variants.settings(study, variant, ipc, content, cumulative=name == LADDER))

    return [cell_of(variant, ipc) for variant in study.variants for ipc in sorted(study.ipc)]


@contextmanager
def opened(run: Run, study: VariantsStudy, name: str, cells: list[Cell]) -> Iterator[Scene]:
    """The scene, its inputs verified, on the bench of what they and the cells amount to."""
    inputs = {noun: store.open_artifact(Path("data") / noun, noun) for noun in ("images", "features")}
    require(
        inputs["images"].meta["counts"][study.split] > 0,
        f"{selectors.FILE}: {name}.split is {study.split}, which is empty; raise images.minival, or use test",
    )
    for key in run.params.teacher.networks:
        inputs[f"teacher {key}"] = store.open_artifact(Path("data/teacher") / key, "teacher")
    settings = {
        "study": {"seeds": study.seeds, "split": study.split},
        "cells": {str(cell): {**cell.content(*BLOCKS), "labels": cell.labels} for cell in cells},
    }
    with run.staging(f"data/study/{name}", settings, inputs) as staging:
        teachers = {key: store.load_teacher(inputs[f"teacher {key}"].path) for key in run.params.teacher.networks}
        train, test = store.table_of(inputs["images"], "train"), store.table_of(inputs["images"], study.split)
        features = store.load_features(inputs["features"].path)
        order, offsets = store.by_label(features.labels, len(train.classes))
        candidates = by_class(features, order, offsets, train.classes, staging.notes)
        yield Scene(name, train, test, features, order, candidates, teachers, inputs, staging)


def check(run: Run, study: VariantsStudy, scene: Scene, cells: list[Cell]) -> None:
    """Refuse what could not be finished, before any work: options, observers, students, budgets, a figure."""
    figures.need_matplotlib()
    networks.check_teachers(scene.teachers, scene.train.classes, scene.train.size)
    with selectors.told(scene.name):
        scene.candidates.check(max(study.ipc))
    n_classes = len(scene.train.classes)
    for cell in cells:
        with told_of(scene, cell):
            own, block = cell.params, cell.params.softlabels
            check_options(selection.SELECTORS, own.selection.method, own.selection.options)
            check_options(synthesis.METHODS, own.synthesis.method, own.synthesis.options)
            stage_of(run, scene).choose(own.synthesis.options.get("observers"))
            if cell.labels == "packed":
                shape = LabelShape(cell.ipc * n_classes, block.views, n_classes)
                plan(own.compression, shape, block.augmentation.policy(block.seed, block.mix))
            protocol_of(own.evaluation, block)
            networks.build(own.evaluation.student, n_classes, scene.train.size)


def told_of(scene: Scene, cell: Cell) -> AbstractContextManager[None]:
    """Errors inside say of which variant and ipc they are."""
    return selectors.told(f"{scene.name}, {cell.name}, ipc {cell.ipc}")


def stage_of(run: Run, scene: Scene) -> synthesis.SynthesisContext:
    """What synthesis methods are given."""
    return synthesis.SynthesisContext(
        scene.teachers, partial(images.read_parts, scene.train), scene.train.labels, run.device
    )


def made(run: Run, scene: Scene, cell: Cell) -> tuple[ImageSet, float]:
    """A cell's images and the seconds they took, made once for all cells that agree in selection and synthesis."""
    name = f"images-{cell.digest('selection', 'synthesis')}"
    kept = scene.staging.kept(name)
    if kept is None:

        def make(cell: Cell) -> tuple[ImageSet, float]:
            started = time.perf_counter()
            with told_of(scene, cell):
                return synthesised(run, scene, cell, scene.staging.notes / name), time.perf_counter() - started

        [(found, seconds)] = run.map(make, [cell], str, retries=2, progress=f"synthesise {cell}")
        kept = {key: np.asarray(getattr(found, key)) for key in ("images", "labels", "ids", "grid")}
        kept["seconds"] = np.array(seconds)
        scene.staging.keep(name, **kept)
        shutil.rmtree(scene.staging.notes / name)  # checkpoints of many variants would fill the disk
    return ImageSet(kept["images"], kept["labels"], kept["ids"], scene.train.classes, int(kept["grid"])), float(
        kept["seconds"]
    )


def synthesised(run: Run, scene: Scene, cell: Cell, notes: Path) -> ImageSet:
    """Pick and, from the picks of the cell's rounds, refine, as the stages do; a killed run goes on from its notes."""
    choice, block, features = cell.params.selection, cell.params.synthesis, scene.features
    picks = selection.SELECTORS[choice.method](scene.candidates, choice.ipc, choice.seed, Progress(), **choice.options)
    first, stop = (0, choice.ipc) if cell.rounds is None else cell.rounds
    among = slice(first * len(scene.train.classes), stop * len(scene.train.classes))
    rows = scene.order[picks.rows[among]]
    start = picked(scene.train, Selection(features.ids[rows], features.labels[rows], picks.gains[among], choice.method))
    shared = scene.staging.notes / "statistics"
    for folder in (notes, shared):
        folder.mkdir(exist_ok=True)
    watch = synthesis.Progress(notes, shared, told(run))
    return synthesis.METHODS[block.method](start, stage_of(run, scene), block.seed, watch, **block.options)


def show(run: Run, scene: Scene, cell: Cell, found: ImageSet) -> None:
    """A picture of the cell's images, on the bench and to whoever watches."""
    folder, picture = scene.staging.root / "images", pictures.grid(found)
    folder.mkdir(exist_ok=True)
    (folder / f"{cell}.png").write_bytes(picture)
    run.reporter.image(f"images of {cell}", picture)


def judged(
    run: Run, study: VariantsStudy, scene: Scene, cell: Cell, found: ImageSet, seconds: float
) -> list[dict[str, Any]]:
    """A row a seed: the accuracy of a student, what it learnt from, and what that weighs."""
    name = f"students-{cell.labels}-{cell.digest(*BLOCKS)}"
    missing = [seed for seed in study.seeds if scene.staging.kept(f"{name}-{seed}") is None]
    protocol = protocol_of(cell.params.evaluation, cell.params.softlabels)
    if missing:
        contender = labelled(run, scene, cell, found)

        def teach(seed: int) -> None:
            score = one_score(run, contender, protocol, scene.train, scene.test, seed, scene.staging.notes)
            scene.staging.keep(
                f"{name}-{seed}",
                accuracy=np.array(score["accuracy"]),
                image_bytes=np.array(contender.image_bytes),
                label_bytes=np.array(contender.label_bytes),
                teacher_bytes=np.array(contender.teacher_bytes),
            )

        run.map(teach, missing, lambda seed: f"{cell}/seed {seed}", progress=f"students of {cell}")
    block, n = cell.params.softlabels, len(found.decoded_ids)
    shape = LabelShape(n, block.views, len(found.classes))
    shared = {
        "synthesis": cell.params.synthesis.method,
        "labels": cell.labels,
        "fp16_label_bytes": shape.reference_bytes if cell.labels == "packed" else 0,
        "student": protocol.student,
        "protocol": protocol.name,
        "seconds": round(seconds, 1),
    }
    rows = []
    for seed in study.seeds:
        its = {key: value.item() for key, value in (scene.staging.kept(f"{name}-{seed}") or {}).items()}
        rows.append({"variant": cell.name, "ipc": cell.ipc, "seed": seed, **its, **shared})
    return rows


def labelled(run: Run, scene: Scene, cell: Cell, found: ImageSet) -> Contender:
    """The cell's images with what its students learn from."""
    own = replace(run, params=cell.params)
    folder = scene.staging.notes / f"labels-{cell.digest('selection', 'synthesis', 'softlabels', 'compression')}"
    asked = {key: scene.teachers[key] for key in cell.params.softlabels.teachers}
    if cell.labels == "packed":
        return replace(contender_of(own, str(cell), found, asked, folder), name=str(cell))
    hard = replace(hard_contender(own, str(cell), found, folder), name=str(cell))
    if cell.labels == "hard":
        return hard
    weights = weight_bytes({f"teacher {key}": scene.artifacts[f"teacher {key}"] for key in asked})
    online = partial(OnlineLabels, list(asked.values()), len(found.decoded_ids), run.device)
    return replace(hard, labels=online, teacher_bytes=weights)


def report(run: Run, study: VariantsStudy, scene: Scene, rows: list[dict[str, Any]]) -> None:
    """Tables and the figure, on the bench and to whoever watches."""
    root, name = scene.staging.root, scene.name
    results = [{key: value for key, value in row.items() if key != "seconds"} for row in rows]
    tabular.write_csv(root / "results.csv", [{**row, "accuracy": round(row["accuracy"], 3)} for row in results])
    summary = variants.summary(rows, cumulative=name == LADDER)
    tabular.write_csv(root / "summary.csv", summary)
    bars = [{**row, "selector": row["variant"]} for row in summary]
    figure = figures.png(figures.bars(bars, study.split, conditions(rows), name.capitalize()))
    (root / "figure.png").write_bytes(figure)
    run.reporter.table(f"{name} summary", summary)
    run.reporter.image(f"{name} figure", figure)


def conditions(rows: list[dict[str, Any]]) -> str:
    """What all rows share, in one line."""
    told = []
    for key in ("student", "protocol"):
        values = {row[key] for row in rows}
        told.append(values.pop() if len(values) == 1 else f"{key}s differ (see summary.csv)")
    return "; ".join(told)


if __name__ == "__main__":
    main(synthesis_study_stage, "synthesis_study", keyed=True)
