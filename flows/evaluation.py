"""evaluation: fresh students on the condensed set and, under the same protocol, on its baselines.

Rows: the set with its packed labels; uncompressed labels; the teacher online; hard labels; random images with labels
made and packed the same way. Tasks: one a row and seed, resumable within a training.
Output: data/evaluation: scores, metrics, plots and pictures.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dcpipe import evaluation, pictures, reports, store, teacher, training
from dcpipe.dataset import CondensedDataset, HardLabels, Labels, OnlineLabels, PackLabels
from dcpipe.images import read_parts
from dcpipe.params import CompressionBlock
from dcpipe.selection import Candidates, Watch, by_label
from dcpipe.selection.random import random
from dcpipe.types import ImageSet, ImageTable, LabelPack, Score, Selection, SoftLabels, Teacher, ViewPolicy
from flows.compression import compress
from flows.runtime import Run, main
from flows.softlabels import write_labels
from flows.synthesis import picked


@dataclass(frozen=True)
class Contender:
    """One row of the table: images, where labels come from, and what it all weighs."""

    kind: str
    name: str
    images: ImageSet
    labels: Callable[[], Labels]
    policy: ViewPolicy
    image_bytes: int
    label_bytes: int
    teacher_bytes: int = 0


def evaluation_stage(run: Run) -> None:
    """Make the contenders, train and test students, report, publish."""
    params, block = run.params, run.params.evaluation
    inputs = {
        noun: store.open_artifact(Path("data") / noun, noun)
        for noun in ("images", "selection", "synthesis", "softlabels", "compression")
    }
    for key in params.softlabels.teachers:
        inputs[f"teacher {key}"] = store.open_artifact(Path("data/teacher") / key, "teacher")
    settings = {
        "evaluation": block.model_dump(mode="json"),
        "softlabels": params.softlabels.model_dump(mode="json"),
        "compression": params.compression.model_dump(mode="json"),
        "seed": params.selection.seed,
    }
    with run.bench("data/evaluation/scores", settings, inputs) as bench:
        train, test = store.table_of(inputs["images"], "train"), store.table_of(inputs["images"], "test")
        contenders = make_contenders(run, inputs, train, bench.notes)
        recipe = training.Recipe(
            block.epochs, block.optimizer, block.lr, block.weight_decay, zeta=block.zeta, ema=block.ema
        )
        protocol = evaluation.Protocol(block.protocol, block.student, recipe, block.batch_size, block.temperature)
        jobs = [(row, seed) for row in range(len(contenders)) for seed in block.seeds]

        def job_name(job: tuple[int, int]) -> str:
            return f"{contenders[job[0]].name}/seed {job[1]}"

        def score(job: tuple[int, int]) -> dict[str, Any]:
            note = bench.notes / f"result-{job[0]}-{job[1]}.json"
            if note.exists():
                content: dict[str, Any] = json.loads(note.read_text(encoding="utf-8"))
                return content
            content = one_score(run, contenders[job[0]], protocol, train, test, job[1], bench.notes)
            note.write_text(json.dumps(content), encoding="utf-8")
            return content

        results = dict(zip(jobs, run.map(score, jobs, job_name, progress="students"), strict=True))
        scores = [
            Score(
                name=contender.name,
                protocol=block.protocol,
                student=block.student,
                ipc=len(contender.images) // len(contender.images.classes),
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
        write_reports(run, scores, curves, contenders[0].images, inputs)
        bench.publish("scores", store.save_scores(bench.root, scores))


def one_score(
    run: Run,
    contender: Contender,
    protocol: evaluation.Protocol,
    train: ImageTable,
    test: ImageTable,
    seed: int,
    notes: Path,
) -> dict[str, Any]:
    """Train one student and test it once, after the last epoch."""
    stem = f"{contender.name}-{seed}".replace("/", "-").replace(" ", "-")
    checkpoint = notes / f"{stem}.pt"
    dataset = CondensedDataset(
        contender.images,
        contender.labels(),
        contender.policy,
        temperature=protocol.temperature,
        size=train.size,
        device=run.device,
    )
    student, history = evaluation.train_student(
        dataset,
        protocol,
        n_classes=len(train.classes),
        mean=train.mean,
        std=train.std,
        seed=seed,
        device=run.device,
        checkpoint=checkpoint,
        report=lambda row: run.reporter.progress(
            f"student {contender.name} {seed}", int(row["epoch"]) + 1, protocol.recipe.epochs
        ),
    )
    batches = teacher.plain_batches(read_parts(test), train.mean, train.std, 512, run.device)
    accuracy = training.accuracy(student, batches, run.device)
    checkpoint.unlink(missing_ok=True)
    return {"accuracy": accuracy, "history": history}


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
        return [hard, *random_contender(run, train, policy, {}, notes)] if "random" in block.baselines else [hard]
    pack = store.load_pack(inputs["compression"].path, images.ids)
    labels = store.load_soft_labels(inputs["softlabels"].path)
    teachers = {key: store.load_teacher(inputs[f"teacher {key}"].path) for key in softlabels.teachers}
    weights = sum((inputs[f"teacher {key}"].path / "weights.safetensors").stat().st_size for key in teachers)
    own = Contender("own", f"{method}, {pack.codec}", images, packed(pack, device), policy, image_bytes, pack.n_bytes)
    rows = [own]
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
        online = partial(OnlineLabels, list(teachers.values()), len(images), device)
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
    if "random" in block.baselines:
        rows += random_contender(run, train, policy, teachers, notes)
    return rows


def packed(pack: LabelPack, device: torch.device) -> Callable[[], Labels]:
    """Labels of a pack, decoded on the device when asked for."""
    return partial(PackLabels, pack, device)


def hard_labels(images: ImageSet, device: torch.device) -> Callable[[], Labels]:
    """The images' own one-hot labels."""
    return partial(HardLabels, images.labels, len(images.classes), device)


def uncompressed(run: Run, labels: SoftLabels, notes: Path) -> LabelPack:
    """The fp16 labels as a pack, written once to measure its bytes on disk."""
    pack = compress(run, labels, CompressionBlock(codec="none"), notes)
    path = notes / "uncompressed.safetensors"
    if not path.exists():
        store.save_pack(path, pack)
    return store.read_pack(path, labels.ids)


def random_contender(
    run: Run, train: ImageTable, policy: ViewPolicy, teachers: dict[str, Teacher], notes: Path
) -> list[Contender]:
    """Random real images, as many, labelled by the same teachers in the same views and packed by the same codec."""
    order, offsets = by_label(train.labels, len(train.classes))
    nothing = np.zeros((len(order), 0), dtype=np.float32)  # random looks at no feature
    candidates = Candidates(nothing, nothing, np.zeros(len(order)), offsets)
    picks = random(candidates, run.params.selection.ipc, run.params.selection.seed, Watch())
    rows = order[picks.rows]
    images = picked(train, Selection(train.ids[rows], train.labels[rows], picks.gains, "random"))
    folder = notes / "random"
    folder.mkdir(exist_ok=True)
    store.save_set(folder, images)
    image_bytes = (folder / "images.parquet").stat().st_size
    if not teachers:
        return [
            Contender(
                "random",
                "random, hard labels",
                images,
                hard_labels(images, run.device),
                policy,
                image_bytes,
                label_bytes=0,
            )
        ]
    blocks = write_labels(run, folder, images, teachers)
    labels = SoftLabels(blocks.array, policy, images.ids, images.classes, tuple(teachers))
    packed_folder = folder / "blocks"
    packed_folder.mkdir(exist_ok=True)
    pack = compress(run, labels, run.params.compression, packed_folder)
    size = store.save_pack(folder / "labels.safetensors", pack)
    pack = store.read_pack(folder / "labels.safetensors", images.ids)
    return [Contender("random", f"random, {pack.codec}", images, packed(pack, run.device), policy, image_bytes, size)]


def write_reports(
    run: Run, scores: list[Score], curves: list[dict[str, Any]], images: ImageSet, inputs: dict[str, store.Artifact]
) -> None:
    """Metrics, plots and pictures beside the scores: small files that Git and DVC show."""
    folder = Path("data/evaluation")
    folder.mkdir(parents=True, exist_ok=True)
    fp16 = 2 * len(images) * run.params.softlabels.views * len(images.classes)
    rows = reports.score_rows(scores, fp16)
    accuracies = {
        name.removeprefix("teacher "): artifact.meta["accuracy"]
        for name, artifact in inputs.items()
        if name.startswith("teacher ")
    }
    (folder / "metrics.json").write_text(
        json.dumps(reports.metrics(rows, accuracies), indent=1) + "\n", encoding="utf-8"
    )
    reports.write_csv(folder / "accuracy_bytes.csv", rows)
    reports.write_csv(folder / "learning_curves.csv", curves)
    (folder / "condensed.png").write_bytes(pictures.grid(images))
    if inputs["softlabels"].meta["method"] != "none":
        spectra = reports.spectra(store.load_soft_labels(inputs["softlabels"].path))
    else:
        spectra = [{"component": 1, "p10": 1.0, "median": 1.0, "p90": 1.0}]  # one-hot labels have rank one
    reports.write_csv(folder / "spectra.csv", spectra)
    run.reporter.table("scores", rows)
    run.reporter.image("condensed images", pictures.grid(images))


if __name__ == "__main__":
    main(evaluation_stage, "evaluation")
