"""labels: every codec at every budget on the same labels, in fidelity and in what a student learns from them.

A row is an entry of studies/params.yaml's block `labels` at one ratio to fp16: the bytes of its file, how far its
labels are from the teacher's, and for `students` the accuracy of students under the evaluation's protocol. Beside them
stand uncompressed labels, the teacher online and hard labels. A ratio that a codec does not reach has a row that
says so.
Tasks: one a pack, a student; a killed run goes on after the last that was done.
Output: data/study/labels: results, summary, spectra, ranks, figures. Seconds are measured: only the summary, where they
are, differs from run to run.
"""

from __future__ import annotations

import shutil
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from dcpipe import networks, store
from dcpipe.compression.fidelity import fidelity
from dcpipe.config.params import NOT_OF_STUDIES, CompressionBlock
from dcpipe.dataset.targets import OnlineLabels
from dcpipe.reports import figures, tabular
from dcpipe.studies import selectors
from dcpipe.studies.selectors import LabelsStudy
from dcpipe.types import BudgetError, ImageSet, ImageTable, LabelShape, SoftLabels, Teacher, require
from flows.compression import compress, plan
from flows.contenders import Contender, hard_labels, one_score, packed, protocol_of, uncompressed
from flows.running.runtime import Run, main
from flows.softlabels import weight_bytes

SPECTRUM_IMAGES = 2048
SHARES = (0.9, 0.99)


@dataclass(frozen=True, eq=False)
class Cell:
    """One codec at one budget."""

    entry: str
    ratio: float
    block: CompressionBlock

    def __str__(self) -> str:
        return f"{self.entry}-{self.ratio:g}x"


@dataclass(frozen=True, eq=False)
class Scene:
    """What all cells share."""

    train: ImageTable
    test: ImageTable
    images: ImageSet
    labels: SoftLabels
    teachers: dict[str, Teacher]
    image_bytes: int
    teacher_bytes: int
    staging: store.StagingDir

    @property
    def shape(self) -> LabelShape:
        """Of the labels."""
        n, k, c = self.labels.logits.shape
        return LabelShape(n, k, c)


def label_study_stage(run: Run) -> None:
    """Check, pack and compare, teach, tabulate and draw, publish."""
    study, block = selectors.load_labels(), run.params.softlabels
    require(block.method == "stored", "softlabels.method is none: there are no labels to compress; choose stored")
    inputs = {n: store.open_artifact(Path("data") / n, n) for n in ("images", "synthesis", "softlabels")}
    require(
        inputs["images"].meta["counts"][study.split] > 0,
        f"{selectors.FILE}: labels.split is {study.split}, which is empty; raise images.minival, or use test",
    )
    labelling = {key: store.open_artifact(Path("data/teacher") / key, "teacher") for key in block.teachers}
    settings = {
        "study": study.model_dump(mode="json"),
        "evaluation": run.params.evaluation.model_dump(mode="json", exclude=set(NOT_OF_STUDIES)),
    }
    lineage = {**inputs, **{f"teacher {key}": artifact for key, artifact in labelling.items()}}
    with run.staging("data/study/labels", settings, lineage) as staging:
        scene = Scene(
            store.table_of(inputs["images"], "train"),
            store.table_of(inputs["images"], study.split),
            store.load_set(inputs["synthesis"].path),
            store.load_soft_labels(inputs["softlabels"].path),
            {key: store.load_teacher(artifact.path) for key, artifact in labelling.items()},
            (inputs["synthesis"].path / "images.parquet").stat().st_size,
            weight_bytes(lineage),
            staging,
        )
        cells = check(study, scene)
        facts = run.map(lambda cell: compared(run, study, scene, cell), cells, str, progress="packs")
        report(run, study, scene, cells, facts, judge(run, study, scene, cells, facts))
        staging.publish("study", {"name": "labels", "split": study.split})


def check(study: LabelsStudy, scene: Scene) -> list[Cell]:
    """The cells; refuses what could not be finished before any work."""
    figures.need_matplotlib()
    networks.check_teachers(scene.teachers, scene.train.classes, scene.train.size)
    cells = []
    for name, entry in study.codecs.items():
        for ratio in sorted(study.ratios):
            block = CompressionBlock(codec=entry.codec or name, ratio=ratio, options=entry.options)
            with selectors.told(f"labels, {name}"), suppress(BudgetError):  # a row of its own says so
                plan(block, scene.shape, scene.labels.policy)
            cells.append(Cell(name, ratio, block))
    return cells


def compared(run: Run, study: LabelsStudy, scene: Scene, cell: Cell) -> dict[str, Any]:
    """What a cell's pack weighs and how near it is to the labels; the pack is kept where students will read it."""
    kept = scene.staging.kept(f"facts-{cell}")
    if kept is not None:
        return {key: value.item() for key, value in kept.items()}
    path, blocks = pack_path(scene, cell), scene.staging.notes / f"blocks-{cell}"
    blocks.mkdir(exist_ok=True)
    started = time.perf_counter()
    try:
        pack = compress(run, scene.labels, cell.block, blocks)
    except BudgetError as error:
        facts: dict[str, Any] = {"bytes": 0, "note": str(error)}
    else:
        seconds = time.perf_counter() - started
        store.save_pack(path, pack)
        pack = store.read_pack(path, scene.labels.ids)
        facts = {"bytes": pack.n_bytes, "note": "", "seconds": seconds}
        facts |= fidelity(pack, scene.labels, study.temperatures, run.device).over()
    shutil.rmtree(blocks)
    scene.staging.keep(f"facts-{cell}", **{key: np.array(value) for key, value in facts.items()})
    return facts


def pack_path(scene: Scene, cell: Cell) -> Path:
    """Where a cell's pack is."""
    return scene.staging.notes / f"pack-{cell}.safetensors"


def judge(
    run: Run, study: LabelsStudy, scene: Scene, cells: list[Cell], facts: list[dict[str, Any]]
) -> dict[str, list[float]]:
    """Accuracies, one a seed, of students of the baselines and of the cells that get students, by name."""
    own = Contender(
        "own",
        "",
        scene.images,
        hard_labels(scene.images, run.device),
        scene.labels.policy,
        scene.image_bytes,
        label_bytes=0,
    )
    online = partial(OnlineLabels, list(scene.teachers.values()), len(scene.images.decoded_ids), run.device)
    whole = uncompressed(run, scene.labels, scene.staging.notes)
    contenders = [
        replace(own, name="uncompressed", labels=packed(whole, run.device), label_bytes=whole.n_bytes),
        replace(own, name="teacher online", labels=online, teacher_bytes=scene.teacher_bytes),
        replace(own, name="hard labels"),
    ]
    for cell, its in zip(cells, facts, strict=True):
        if cell.entry in study.students and its["bytes"] > 0:
            pack = store.read_pack(pack_path(scene, cell), scene.labels.ids)
            named = replace(own, name=str(cell), labels=packed(pack, run.device), label_bytes=pack.n_bytes)
            contenders.append(named)
    protocol = protocol_of(run.params.evaluation)

    def teach(job: tuple[Contender, int]) -> float:
        contender, seed = job
        note = f"score-{contender.name}-{seed}"
        if (kept := scene.staging.kept(note)) is None:
            score = one_score(run, contender, protocol, scene.train, scene.test, seed, scene.staging.notes)
            kept = {"accuracy": np.array(score["accuracy"])}
            scene.staging.keep(note, **kept)
        return float(kept["accuracy"])

    # Seed by seed, so that an unfinished study has seen every codec.
    jobs = [(contender, seed) for seed in study.seeds for contender in contenders]
    found = run.map(teach, jobs, lambda job: f"{job[0].name}/seed {job[1]}", progress="students")
    told: dict[str, list[float]] = {}
    for (contender, _), accuracy in zip(jobs, found, strict=True):
        told.setdefault(contender.name, []).append(round(accuracy, 3))
    return told


def report(
    run: Run,
    study: LabelsStudy,
    scene: Scene,
    cells: list[Cell],
    facts: list[dict[str, Any]],
    told: dict[str, list[float]],
) -> None:
    """Tables and figures, on the bench and to whoever watches."""
    root = scene.staging.root
    baselines = {
        "uncompressed": (scene.staging.notes / "uncompressed.safetensors").stat().st_size,
        "teacher online": scene.teacher_bytes,
        "hard labels": 0,
    }
    rows = [{"codec": name, "ratio": "", "bytes": size, "note": ""} for name, size in baselines.items()]
    rows += [{"codec": c.entry, "ratio": c.ratio, **its} for c, its in zip(cells, facts, strict=True)]
    names = [*baselines, *map(str, cells)]
    results = [
        {"codec": row["codec"], "ratio": row["ratio"], "seed": seed, "accuracy": accuracy}
        for name, row in zip(names, rows, strict=True)
        for seed, accuracy in zip(study.seeds, told.get(name, []), strict=False)
    ]
    tabular.write_csv(root / "results.csv", results)
    summary = [
        selectors.label_row(row, scene.shape, study.temperatures, told.get(name, []))
        for name, row in zip(names, rows, strict=True)
    ]
    tabular.write_csv(root / "summary.csv", summary)
    values = tabular.relative_values(scene.labels, np.arange(min(SPECTRUM_IMAGES, len(scene.images))))
    write_spectra(root, scene, values)
    told_of, middle = conditions(run, scene), sorted(study.temperatures)[len(study.temperatures) // 2]
    pictures = {
        "figure": figures.codecs(summary, middle, study.split, told_of),
        "spectra": figures.spectra(values, scene.images.labels[: len(values)], scene.images.classes, told_of),
    }
    for name, picture in pictures.items():
        content = figures.png(picture)
        (root / f"{name}.png").write_bytes(content)
        run.reporter.image(f"labels {name}", content)
    run.reporter.table("labels summary", summary)


def write_spectra(root: Path, scene: Scene, values: np.ndarray[Any, Any]) -> None:
    """spectra.csv: singular values by class; ranks.csv: components that hold the energy of each image's labels."""
    labels, classes = scene.images.labels[: len(values)], scene.images.classes
    rows = [{"class": "all", **row} for row in tabular.spectrum(values)]
    for label, name in enumerate(classes):
        if (labels == label).any():
            rows += [{"class": name, **row} for row in tabular.spectrum(values[labels == label])]
    tabular.write_csv(root / "spectra.csv", rows)
    shares = {f"rank_{share:g}": tabular.ranks(values, share) for share in SHARES}
    ranks = [
        {"image": int(scene.images.ids[row]), "class": classes[labels[row]]}
        | {name: int(found[row]) for name, found in shares.items()}
        for row in range(len(values))
    ]
    tabular.write_csv(root / "ranks.csv", ranks)


def conditions(run: Run, scene: Scene) -> str:
    """What all rows share, in one line."""
    protocol, shape = run.params.evaluation, scene.shape
    return (
        f"{shape.images} images, {shape.views} views, {shape.classes} classes, fp16 {shape.reference_bytes:,} bytes, "
        f"labelled by {', '.join(scene.teachers)}, mix {scene.labels.policy.mix}; "
        f"{protocol.student}, {protocol.epochs} epochs, T = {protocol.temperature:g}"
    )


if __name__ == "__main__":
    main(label_study_stage, "label_study")
