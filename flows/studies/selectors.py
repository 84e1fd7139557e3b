"""study NAME: selectors with their options x images per class x seeds, under the evaluation's one protocol.

NAME is a block of studies/params.yaml, `selection` or `coefficients`; `resilience` has a flow of its own, which opens,
checks and selects by this one. Every coreset is labelled by the same teachers in the same views, packed by the same
codec to the same budget, and taught to the same student; picks that cells share are labelled once, and trained once a
seed. Tasks: one a selecting, a shard of labels, a student; a killed run goes on after the last that was done.
Output: data/study/NAME: results, summary, figure, pictures of the picks. Seconds are measured: only the summary, where
they are, differs from run to run.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from dcpipe import networks, selection, store
from dcpipe.config.options import check_options
from dcpipe.config.params import NOT_OF_STUDIES
from dcpipe.reports import figures, pictures, tabular
from dcpipe.selection import Candidates, Picks, Progress
from dcpipe.studies import selectors
from dcpipe.studies.selectors import Entry, Study
from dcpipe.types import ImageTable, LabelShape, Selection, Teacher, require
from flows.compression import plan
from flows.contenders import contender_of, one_score, protocol_of
from flows.running.runtime import Run, main
from flows.selection import by_class
from flows.synthesis import picked

SHOWN = 10  # classes in a picture of picks, and images of each
Figures = dict[str, float]


@dataclass(frozen=True, eq=False)
class Cell:
    """One coreset and one student: a row of the results."""

    entry: Entry
    ipc: int
    seed: int

    def __str__(self) -> str:
        return f"{self.entry.name}-ipc{self.ipc}-seed{self.seed}"


@dataclass(frozen=True, eq=False)
class Chosen:
    """What a cell picked, and the seconds it took."""

    cell: Cell
    picks: Selection
    seconds: float

    @property
    def digest(self) -> str:
        """Equal for equal picks in equal order."""
        return store.digest_of(self.picks.ids.tolist())[:12]


@dataclass(frozen=True, eq=False)
class Scene:
    """What all cells share: where students learn and are tested, whose features are selected by (a folder), who labels,
    and where work is kept."""

    train: ImageTable
    test: ImageTable
    features: Path
    teachers: dict[str, Teacher]
    staging: store.StagingDir


def study_stage(run: Run, name: str) -> None:
    """Check, select, label and teach, tabulate and draw, publish."""
    study = selectors.load(name)
    require(not study.ratios, f"study {name!r} is of ratios, and has a flow of its own; run `dcpipe study {name}`")
    with opened(run, study) as scene:
        check(study, scene)
        check_budgets(run, study, scene)
        chosen = select(run, study, scene)
        report(run, study, scene, chosen, judge(run, scene, chosen))
        scene.staging.publish("study", {"name": name, "split": study.split})


@contextmanager
def opened(run: Run, study: Study) -> Iterator[Scene]:
    """The scene of a study, its inputs verified, on the bench of what they and the settings amount to."""
    inputs = {noun: store.open_artifact(Path("data") / noun, noun) for noun in ("images", "features")}
    require(
        inputs["images"].meta["counts"][study.split] > 0,
        f"{selectors.FILE}: {study.name}.split is {study.split}, which is empty; raise images.minival, or use test",
    )
    stored = run.params.softlabels.method == "stored"
    labelling = {
        key: store.open_artifact(Path("data/teacher") / key, "teacher")
        for key in (run.params.softlabels.teachers if stored else [])
    }
    settings = {
        "study": asdict(study),
        "softlabels": run.params.softlabels.model_dump(mode="json"),
        "compression": run.params.compression.model_dump(mode="json"),
        "evaluation": run.params.evaluation.model_dump(mode="json", exclude=set(NOT_OF_STUDIES)),
    }
    lineage = {**inputs, **{f"teacher {key}": artifact for key, artifact in labelling.items()}}
    with run.staging(f"data/study/{study.name}", settings, lineage) as staging:
        teachers = {key: store.load_teacher(artifact.path) for key, artifact in labelling.items()}
        train, test = store.table_of(inputs["images"], "train"), store.table_of(inputs["images"], study.split)
        yield Scene(train, test, inputs["features"].path, teachers, staging)


def check(study: Study, scene: Scene) -> None:
    """Refuse what could not be finished, before any work: options, teachers, a figure."""
    for entry in study.entries:
        with selectors.told(f"{study.name}, {entry.name}"):
            check_options(selection.SELECTORS, entry.method, entry.options)
    figures.need_matplotlib()
    if scene.teachers:
        networks.check_teachers(scene.teachers, scene.train.classes, scene.train.size)


def check_budgets(run: Run, study: Study, scene: Scene) -> None:
    """Refuse a budget of the workspace that labels of some ipc cannot meet, before any work."""
    if scene.teachers:
        block = run.params.softlabels
        for ipc in study.ipc:
            with selectors.told(f"{study.name}, ipc {ipc}"):
                shape = label_shape(run, scene, ipc)
                plan(run.params.compression, shape, block.augmentation.policy(block.seed, block.mix))


def label_shape(run: Run, scene: Scene, ipc: int) -> LabelShape:
    """Of the soft labels of one coreset."""
    n_classes = len(scene.train.classes)
    return LabelShape(ipc * n_classes, run.params.softlabels.views, n_classes)


def select(run: Run, study: Study, scene: Scene) -> list[Chosen]:
    """What every cell picks. Each ipc is selected for itself: not every selector's smaller set is the beginning of its
    larger one. A selector that draws nothing is asked once for all seeds."""
    features, classes = store.load_features(scene.features), scene.train.classes
    order, offsets = store.by_label(features.labels, len(classes))
    candidates = by_class(features, order, offsets, classes, scene.staging.notes)
    with selectors.told(study.name):
        candidates.check(max(study.ipc))

    def choose(cell: Cell) -> Chosen:
        asked = cell if selection.uses_seed(cell.entry.method) else replace(cell, seed=study.seeds[0])
        kept = scene.staging.kept(f"picks-{asked}")
        if kept is None:
            with selectors.told(f"{study.name}, {cell.entry.name}"):
                picks, seconds = timed(run, asked, candidates)
            rows = order[picks.rows]
            kept = {"ids": features.ids[rows], "labels": features.labels[rows], "gains": picks.gains}
            kept["seconds"] = np.array(seconds)
            scene.staging.keep(f"picks-{asked}", **kept)
        noun = Selection(kept["ids"], kept["labels"], kept["gains"], cell.entry.method)
        return Chosen(cell, noun, float(kept["seconds"]))

    cells = [Cell(entry, ipc, seed) for entry in study.entries for ipc in study.ipc for seed in study.seeds]
    return run.map(choose, cells, str, progress="select")


def timed(run: Run, cell: Cell, candidates: Candidates) -> tuple[Picks, float]:
    """A cell's picks, and the seconds they took."""

    def progress(made: int, to_make: int) -> None:
        run.reporter.progress(f"select {cell}", made, to_make)

    def grown(picks: Picks) -> None:
        progress(len(picks.rows), cell.ipc * candidates.n_classes)

    started = time.perf_counter()
    selector = selection.SELECTORS[cell.entry.method]
    picks = selector(candidates, cell.ipc, cell.seed, Progress(None, grown, progress), **cell.entry.options)
    return picks, time.perf_counter() - started


def judge(run: Run, scene: Scene, chosen: list[Chosen]) -> list[Figures]:
    """Accuracy and bytes of every cell. One coreset is in memory at a time; cells that share it come together."""
    shared = coresets(chosen)
    found: dict[tuple[str, int], Figures] = {}
    for done, (digest, group) in enumerate(shared.items(), 1):
        found |= {(digest, seed): its for seed, its in taught(run, scene, group).items()}
        run.reporter.progress("coresets", done, len(shared))
    return [found[one.digest, one.cell.seed] for one in chosen]


def coresets(chosen: list[Chosen]) -> dict[str, list[Chosen]]:
    """By digest, in order of first appearance, all that picked the same."""
    shared: dict[str, list[Chosen]] = {}
    for one in chosen:
        shared.setdefault(one.digest, []).append(one)
    return shared


def taught(run: Run, scene: Scene, group: list[Chosen]) -> dict[int, Figures]:
    """By seed, the accuracy of a student taught one coreset, and the coreset's bytes; `group` are its cells."""
    first, staging = group[0], scene.staging
    seeds = list(dict.fromkeys(one.cell.seed for one in group))
    missing = [seed for seed in seeds if staging.kept(f"score-{first.digest}-{seed}") is None]
    if missing:
        folder = staging.notes / first.digest
        name = f"{first.cell.entry.name} ipc {first.cell.ipc}"
        contender = contender_of(run, name, picked(scene.train, first.picks), scene.teachers, folder)
        protocol = protocol_of(run.params.evaluation)

        def teach(seed: int) -> None:
            score = one_score(run, contender, protocol, scene.train, scene.test, seed, folder)
            staging.keep(
                f"score-{first.digest}-{seed}",
                accuracy=np.array(score["accuracy"]),
                image_bytes=np.array(contender.image_bytes),
                label_bytes=np.array(contender.label_bytes),
            )

        run.map(teach, missing, lambda seed: f"{contender.name}/seed {seed}", progress=f"students of {name}")
    kept = {seed: staging.kept(f"score-{first.digest}-{seed}") for seed in seeds}
    return {seed: {key: value.item() for key, value in (its or {}).items()} for seed, its in kept.items()}


def report(run: Run, study: Study, scene: Scene, chosen: list[Chosen], found: list[Figures]) -> None:
    """Tables, the figure and pictures, on the bench and to whoever watches."""
    root, rows = scene.staging.root, []
    for one, its in zip(chosen, found, strict=True):
        place = {**study.place(one.cell.entry), "ipc": one.cell.ipc, "seed": one.cell.seed}
        rows.append({**place, **its, "accuracy": round(its["accuracy"], 3), "picks": one.digest})
    tabular.write_csv(root / "results.csv", rows)
    fp16 = {ipc: label_shape(run, scene, ipc).reference_bytes if scene.teachers else 0 for ipc in study.ipc}
    seconds = [{**row, "seconds": one.seconds} for row, one in zip(rows, chosen, strict=True)]
    summary = selectors.summary(seconds, fp16)
    tabular.write_csv(root / "summary.csv", summary)
    draw = figures.lines if study.sweeps else figures.bars
    figure = figures.png(draw(summary, study.split, conditions(run)))
    (root / "figure.png").write_bytes(figure)
    save_pictures(study, scene, chosen)
    run.reporter.table(f"{study.name} summary", summary)
    run.reporter.image(f"{study.name} figure", figure)


def save_pictures(study: Study, scene: Scene, chosen: list[Chosen]) -> None:
    """What every entry picked with the first seed, in `picked/`."""
    folder = scene.staging.root / "picked"
    folder.mkdir(exist_ok=True)
    for one in chosen:
        if one.cell.seed == study.seeds[0]:
            picture = folder / f"{one.cell.entry.name}-ipc{one.cell.ipc}.png"
            picture.write_bytes(picture_of(scene.train, one.picks))


def conditions(run: Run) -> str:
    """What all rows share, in one line."""
    budget = run.params.compression
    if run.params.softlabels.method == "none":
        return f"{protocol_told(run)}, hard labels"
    if budget.codec == "none":
        packed = "uncompressed"
    elif budget.ratio is not None:
        packed = f"{budget.codec}, {budget.ratio:g} times smaller"
    else:
        packed = f"{budget.codec}, {budget.bytes_per_image:g} bytes an image"
    return f"{protocol_told(run)}; {views_told(run)}; {packed}"


def protocol_told(run: Run) -> str:
    """Who is taught, and how long."""
    return f"{run.params.evaluation.student}, {run.params.evaluation.epochs} epochs"


def views_told(run: Run) -> str:
    """How many labels an image has, and from whom."""
    labels = run.params.softlabels
    return f"{labels.views} views an image labelled by {', '.join(labels.teachers)}"


def picture_of(train: ImageTable, picks: Selection) -> bytes:
    """The first picks of the first classes, PNG."""
    rounds = np.arange(len(picks)) // len(train.classes)
    shown = (rounds < SHOWN) & (picks.labels < SHOWN)
    some = Selection(picks.ids[shown], picks.labels[shown], picks.gains[shown], picks.method)
    return pictures.grid(picked(train, some), SHOWN, SHOWN)


if __name__ == "__main__":
    main(study_stage, "study", keyed=True)
