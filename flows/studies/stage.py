"""studies NAME: run the cells of a study, and make its tables and figures. NAME is a block of studies/params.yaml.

`dcpipe.studies` defines what a study runs and which stages it needs. Tasks: one per selection, synthesis, shard of
labels, pack and student; an interrupted study continues after the last finished task.
Output: data/study/NAME with results, summary, figures and pictures of the images. The summary contains measured
seconds, so it differs from run to run; everything else is the same.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dcpipe import store, studies
from dcpipe.config import blocks
from dcpipe.reports import tabular
from flows.running.drawing import LiveImages
from flows.running.inputs import Inputs
from flows.running.runtime import Run


def studies_stage(run: Run, name: str) -> None:
    """Check the study, run it cell by cell, make tables and figures, and publish."""
    content = blocks.read(Path("params.yaml"), "the workspace's parameters")
    study = studies.load(name, run.params, content)
    cells = study.cells
    inputs = Inputs.open(*study.needs, teachers=study.teachers)
    study.check_split(inputs["images"].meta["counts"])
    with run.staging(f"data/study/{name}", study.settings, inputs) as staging:
        context = context_of(run, study, inputs, store.Notes(staging.notes))
        study.check(context)
        rows: list[dict[str, Any]] = []
        for done, cell in enumerate(cells, 1):
            result = study.run(context, cell)
            rows += result.rows
            for title, picture in result.pictures.items():
                (staging.root / study.pictures).mkdir(exist_ok=True)
                (staging.root / study.pictures / f"{title}.png").write_bytes(picture)
                run.reporter.image(f"images of {title}", picture)
            run.reporter.progress(name, done, len(cells))
        report = study.report(context, rows)
        for title, table in report.tables.items():
            tabular.write_csv(staging.root / f"{title}.csv", table)
        for title, figure in report.figures.items():
            (staging.root / f"{title}.png").write_bytes(figure)
            run.reporter.image(f"{name} {title}", figure)
        run.reporter.table(f"{name} summary", report.tables["summary"])
        staging.publish("study", {"name": name, "split": study.block.split})


def context_of(run: Run, study: studies.Study, inputs: Inputs, notes: store.Notes) -> studies.StudyContext:
    """The data and the callbacks that a study works with."""
    return studies.StudyContext(
        train=store.table_of(inputs["images"], "train"),
        test=store.table_of(inputs["images"], study.block.split),
        artifacts={kind: artifact.path for kind, artifact in inputs.artifacts.items()},
        teachers=inputs.load_teachers(),
        teacher_bytes=inputs.teacher_bytes,
        notes=notes,
        device=run.device,
        map_tasks=run.map,
        report=run.reporter.progress,
        live=LiveImages(run).report,
    )
