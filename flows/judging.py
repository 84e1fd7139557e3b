"""judging: train students on a release and on what it must be compared with, and make tables, figures and a page.

The folder has the files that `dcpipe judge` wrote (judge.yaml, params.yaml) and the output of the stage `images`.
Tasks: one per row and seed. Output: data/judgement, with judgement.json, judgement.csv, judgement.md, metrics.json and
index.html. Students and what they were trained on are kept in the scratch folder, so that a judgement with more seeds,
rows or networks trains only what is missing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from dcpipe import store
from dcpipe.evaluation import all_images
from dcpipe.evaluation.contenders import Contender, Labeller
from dcpipe.evaluation.students import protocol_of
from dcpipe.judging import judgement, pages, request, tested
from dcpipe.judging.rows import UNCOMPRESSED, Judged, teachers_of
from dcpipe.release import Release, load
from dcpipe.reports import figures, pictures
from dcpipe.types import ImageTable, LabelShape, check_same_classes, require
from flows.running.inputs import Inputs
from flows.running.runtime import Run, main
from flows.running.students import Outcomes, train_students

KEPT = Path("data/students")  # what the folder for students in the scratch folder is named after


def judging_stage(run: Run) -> None:
    """Make the rows, train and test students on them, and write the result."""
    figures.need_matplotlib()
    wanted = request.read_request(Path.cwd())
    inputs = Inputs.open("images")
    train, test = store.table_of(inputs["images"], "train"), store.table_of(inputs["images"], "test")
    release = load(wanted.release)
    require(
        release.digest == wanted.digest,
        f"{wanted.release} has changed since {wanted.what} was judged; judge it again in another folder",
    )
    check_same_classes(train.classes, release.classes, "the original images and the set")
    artifacts = [store.open_artifact(Path(folder), "teacher") for folder in wanted.teachers]
    teachers = teachers_of(release, [store.teacher_of(artifact) for artifact in artifacts])
    weights = [artifact.file("weights.safetensors") for artifact in artifacts]
    if teachers and not weights:
        weights = [release.source.file("teacher.safetensors")]
    params, digests = run.params, {"set": wanted.digest, "teachers": [artifact.digest for artifact in artifacts]}
    settings = {**digests, "request": wanted.model_dump(mode="json", exclude={"release"}), "params": params.content()}
    # What every row is made from, whichever rows, seeds and networks are asked for.
    blocks = ("selection", "softlabels", "compression")
    made_from = digests | {name: params.content()[name] for name in blocks}
    with (
        run.staging("data/judgement", settings, inputs) as staging,
        store.staging_dir(KEPT, run.lineage(made_from, inputs)) as kept,
    ):
        notes = store.Notes(kept.notes)
        known = [train, store.table_of(inputs["images"], "minival")]
        hashes = tested.hashes_of(test, kept.notes)
        remarks = list(tested.remarks(release.images, test, known, hashes))
        judged = Judged(
            release=release,
            params=params,
            rows=wanted.rows,
            teachers=teachers,
            teacher_bytes=sum(path.stat().st_size for path in weights),
            train=train,
            labeller=Labeller(params.softlabels, params.compression, run.device, run.map),
            notes=notes,
        )
        contenders = judged.contenders()
        found: list[judgement.Row] = []
        for student in wanted.students:
            found += rows_of(run, student, wanted, contenders, release, train, test, notes)
        result = judgement.Judgement(
            what=wanted.what,
            name=release.name,
            digest=release.digest,
            data=judgement.Data(
                source=params.images.source,
                size=train.size,
                classes=len(train.classes),
                train=len(train),
                test=len(test),
                digest=inputs["images"].digest,
                test_digest=tested.digest(test, hashes),
            ),
            versions={package: version(package) for package in ("dcpipe", "torch")},
            device=run.device.type,
            remarks=remarks,
            rows=found,
        )
        judgement.save(staging.root, result)
        drawn = {"accuracy by bytes": pages.pareto({wanted.what: result}), "images": pictures.grid(release.images)}
        (staging.root / "judgement.md").write_text(pages.markdown(result), encoding="utf-8")
        (staging.root / "index.html").write_text(pages.page(result, drawn), encoding="utf-8")
        run.reporter.table("judgement", judgement.table(result))
        run.reporter.image("accuracy by bytes", drawn["accuracy by bytes"])
        staging.publish("judgement", {"rows": len(found)})
        notes.remove(UNCOMPRESSED)  # may take more than all else, and are made again if they are needed


def rows_of(
    run: Run,
    student: str,
    wanted: request.Request,
    contenders: Sequence[Contender],
    release: Release,
    train: ImageTable,
    test: ImageTable,
    notes: store.Notes,
) -> list[judgement.Row]:
    """The rows of one network."""
    block = run.params.evaluation.model_copy(update={"student": student})
    params = run.params.model_copy(update={"evaluation": block})
    protocol = replace(protocol_of(block, params.softlabels), curve=wanted.curve)
    whole: dict[str, int | None] = {all_images.KIND: None} if all_images.KIND in wanted.rows else {}
    seen = len(release.images.decoded_ids) * block.epochs
    if all_images.AT_COMPUTE in wanted.rows and (epochs := all_images.epochs_at_compute(seen, train)):
        whole[all_images.AT_COMPUTE] = epochs
    outcomes = train_students(run, contenders, params, protocol, wanted.seeds, train, test, notes, whole)
    views = release.pack.shape.views if release.pack is not None else params.softlabels.views
    found = [
        judgement.Row(
            kind=row.kind,
            name=row.name,
            student=student,
            protocol=protocol.name,
            ipc=row.ipc,
            images=len(row.images.decoded_ids),
            epochs=block.epochs,
            seeds=wanted.seeds,
            accuracy=_accuracies(outcomes[row.kind]),
            image_bytes=row.image_bytes,
            label_bytes=row.label_bytes,
            teacher_bytes=row.teacher_bytes,
            fp16_label_bytes=0
            if row.has_hard_labels
            else LabelShape(len(row.images.decoded_ids), views, len(train.classes)).reference_bytes,
            curve=_curve(outcomes[row.kind]) if wanted.curve else [],
        )
        for row in contenders
    ]
    for kind, epochs_of in whole.items():
        score = all_images.score_of(outcomes[kind], params, train)
        found.append(
            judgement.Row(
                kind=kind,
                name=all_images.NAMES[kind],
                student=student,
                protocol=score.protocol,
                ipc=score.ipc,
                images=len(train),
                epochs=epochs_of or score.epochs,
                seeds=wanted.seeds,
                accuracy=list(score.accuracy),
                image_bytes=score.image_bytes,
                label_bytes=0,
                teacher_bytes=0,
                fp16_label_bytes=0,
            )
        )
    return found


def _accuracies(outcomes: Outcomes) -> list[float]:
    return [outcome["accuracy"] for outcome in outcomes]


def _curve(outcomes: list[dict[str, Any]]) -> list[list[float]]:
    """The mean accuracy over the students after each number of epochs that they were tested after."""
    tests = [{int(row["epoch"]) + 1: row["accuracy"] for row in o["history"] if "accuracy" in row} for o in outcomes]
    return [[float(epoch), sum(test[epoch] for test in tests) / len(tests)] for epoch in sorted(tests[0])]


if __name__ == "__main__":
    main(judging_stage, "judging")
