"""Studies of variants in a tiny workspace: rows as in the pipeline, shared work, interruptions, live reports."""

from __future__ import annotations

import io
import statistics
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tiny import table
from variant_studies import (
    EDC,
    FOLDER,
    LADDER,
    NETWORKS,
    VARIANTS,
    WHOLE,
    Calls,
    forbidden,
    run_of,
    run_study,
    watch,
    write_study,
)

from dcpipe import store
from dcpipe.studies.variant_cells import VariantCellsStudy
from dcpipe.synthesis import recovery
from dcpipe.types import ImageSet
from flows.compression import compression_stage
from flows.evaluation import evaluation_stage
from flows.running import drawing
from flows.running.reporting import Plain
from flows.selection import selection_stage
from flows.softlabels import softlabels_stage
from flows.synthesis import synthesis_stage

# --- results ---


def test_every_variant_has_one_row_per_seed_and_equal_work_is_done_once(studied: tuple[Path, Calls]) -> None:
    root, calls = studied
    rows = table(root / FOLDER / "results.csv")
    assert [(row["variant"], row["ipc"], row["seed"]) for row in rows] == [
        (name, ipc, seed) for name in VARIANTS for ipc in ("1", "2") for seed in ("0", "1", "5")
    ]
    assert list(rows[0]) == [
        *("variant", "ipc", "seed", "accuracy", "image_bytes", "label_bytes", "teacher_bytes"),
        *("synthesis", "labels", "fp16_label_bytes", "student", "protocol"),
    ]
    # Images of `random` and of the others at two ipc, labels of each, students of all but the twin.
    assert calls == WHOLE
    edc = [list(row.values())[1:] for row in rows if row["variant"] == "edc"]
    assert [list(row.values())[1:] for row in rows if row["variant"] == "edc-twin"] == edc
    assert {row["protocol"] for row in rows} == {"score"}
    artifact = store.open_artifact(root / FOLDER, "study")
    assert artifact.meta == {"name": "syntheses", "split": "test"}
    assert set(artifact.lineage["inputs"]) == {"images", "features", *(f"teacher {key}" for key in NETWORKS)}


def test_labels_weigh_what_students_need(studied: tuple[Path, Calls]) -> None:
    root = studied[0]
    weights = sum((root / f"data/teacher/{key}/weights.safetensors").stat().st_size for key in ("main", "second"))
    for row in table(root / FOLDER / "results.csv"):
        fp16, n_bytes = 2 * 10 * int(row["ipc"]) * 12 * 10, int(row["label_bytes"])
        found = row["labels"], n_bytes > 0, int(row["fp16_label_bytes"]), int(row["teacher_bytes"])
        expected = {"edc-online": ("online", False, 0, weights), "edc-hard": ("hard", False, 0, 0)}
        assert found == expected.get(row["variant"], ("packed", True, fp16, 0)), row["variant"]
        assert n_bytes <= fp16 / 1.5
        assert int(row["image_bytes"]) > 0


def test_the_summary_is_the_results_by_variant_and_ipc(studied: tuple[Path, Calls]) -> None:
    folder = studied[0] / FOLDER
    rows, summary = table(folder / "results.csv"), table(folder / "summary.csv")
    assert [(row["variant"], row["ipc"]) for row in summary] == [(n, i) for n in VARIANTS for i in ("1", "2")]
    for row in summary:
        own = [float(r["accuracy"]) for r in rows if (r["variant"], r["ipc"]) == (row["variant"], row["ipc"])]
        assert float(row["accuracy"]) == pytest.approx(statistics.fmean(own), abs=2e-3)
        assert float(row["std"]) == pytest.approx(statistics.stdev(own), abs=2e-3)
        assert row["seeds"] == "3" and "gain" not in row and float(row["seconds"]) >= 0
        assert ("label_seconds" in row) and "label_seconds" not in rows[0], "which would differ from run to run"
        seconds = float(row["label_seconds"])
        assert seconds > 0 if row["labels"] == "packed" else seconds == 0


def test_the_figure_and_a_picture_of_every_variant_are_png(studied: tuple[Path, Calls]) -> None:
    folder = studied[0] / FOLDER
    assert {path.name for path in folder.rglob("*.png")} == {
        "figure.png",
        "gallery.png",
        *(f"{name}-ipc{ipc}.png" for name in VARIANTS for ipc in (1, 2)),
    }
    for path in folder.rglob("*.png"):
        with Image.open(io.BytesIO(path.read_bytes())) as image:
            assert image.format == "PNG" and min(image.size) > (300 if path.name == "figure.png" else 8)
    pictures = {name: (folder / f"images/{name}-ipc2.png").read_bytes() for name in VARIANTS}
    assert pictures["edc"] == pictures["edc-hard"] != pictures["random"]


def test_a_variant_gets_the_results_of_the_pipeline_with_its_values(
    workspace: Path, studied: tuple[Path, Calls]
) -> None:
    """Runs the stages one after another, and compares the scores of the evaluation with those of the study."""
    changes = {"selection": {"method": "random", "ipc": 2}, "synthesis": EDC, "evaluation": {"seeds": [0, 1, 5]}}
    for name in ("selection", "synthesis", "softlabels", "compression", "evaluation"):
        stages = selection_stage, synthesis_stage, softlabels_stage, compression_stage, evaluation_stage
        [one] = [one for one in stages if one.__name__ == f"{name}_stage"]
        one(run_of(name, **changes))
    scores = store.load_scores(Path("data/evaluation/scores"))
    rows = [row for row in table(studied[0] / FOLDER / "results.csv") if row["ipc"] == "2"]
    for variant, name in (
        ("edc", "edc, svd"),
        ("edc-online", "edc, teacher online"),
        ("edc-hard", "edc, hard labels"),
        ("random", "random, svd"),
    ):
        [score] = [score for score in scores if score.name == name]
        own = [row for row in rows if row["variant"] == variant]
        assert [float(row["accuracy"]) for row in own] == [round(value, 3) for value in score.accuracy], variant
        for key in ("image_bytes", "label_bytes", "teacher_bytes"):
            assert {int(row[key]) for row in own} == {getattr(score, key)}, (variant, key)


# --- interruptions ---


def same_files(studied: Path, folder: Path = FOLDER) -> None:
    """All but the seconds: results, figure, pictures byte for byte."""
    names = sorted(path.relative_to(studied / folder) for path in (studied / folder).rglob("*.png"))
    for name in (Path("results.csv"), *names):
        assert (folder / name).read_bytes() == (studied / folder / name).read_bytes(), name


def test_an_interrupted_run_continues_and_does_nothing_twice(studied: tuple[Path, Calls], workspace: Path) -> None:
    """Broken again and again: in the statistics, a synthesis, a labelling, a training."""
    total: Counter[str] = Counter()
    for where, at in (("collect", 1), ("edc", 2), ("fill", 1), ("score", 8), ("", 0)):
        with pytest.MonkeyPatch.context() as patch:
            calls = watch(patch, where, at)
            with pytest.raises(KeyboardInterrupt) if where else nullcontext():
                run_study("syntheses")
        total.update(calls)
        assert FOLDER.exists() == (where == "")
    same_files(studied[0])
    # A task that broke is begun again, and what the statistics broke is a synthesis too.
    assert total == {name: count + 1 for name, count in WHOLE.items() if name not in ("none", "edc")} | {
        "none": WHOLE["none"],
        "edc": WHOLE["edc"] + 2,
    }


def test_a_killed_recovery_resumes_inside_a_batch(
    studied: tuple[Path, Calls], workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a checkpoint a step, the step that died is the only one done twice."""
    steps: list[int] = []

    def report(live: Any, done: int, total: int, note: str, images: Callable[[], ImageSet]) -> None:
        if note.startswith("batch"):
            steps.append(done)
            if len(steps) == 9:
                raise KeyboardInterrupt

    monkeypatch.setattr(drawing.LiveImages, "report", report)
    monkeypatch.setattr(recovery, "REPORT_SECONDS", -1.0)
    monkeypatch.setenv("DCPIPE_CHECKPOINT_SECONDS", "0")
    write_study(named={"edc": VARIANTS["edc"]}, ipc=[2])
    with pytest.raises(KeyboardInterrupt):
        run_study("syntheses")
    [checkpoint] = Path("scratch").glob("*.notes/images-*/recovery-*-open.pt")
    run_study("syntheses")
    assert steps == [*range(1, 10), *range(9, 13)], "two batches of 6 steps, of which step 9 died"
    assert not checkpoint.exists()
    picture = FOLDER / "images/edc-ipc2.png"
    assert picture.read_bytes() == (studied[0] / picture).read_bytes()
    rows = table(studied[0] / FOLDER / "results.csv")
    assert table(FOLDER / "results.csv") == [r for r in rows if (r["variant"], r["ipc"]) == ("edc", "2")]


def test_checkpoints_do_not_pile_up(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DCPIPE_CHECKPOINT_SECONDS", "0")
    watch(monkeypatch, "score", 1)
    write_study(named={"edc": VARIANTS["edc"]}, ipc=[1])
    with pytest.raises(KeyboardInterrupt):
        run_study("syntheses")
    assert list(Path("scratch").glob("*.notes/images-*.npz"))
    assert not list(Path("scratch").rglob("recovery-*"))


# --- the ladder ---


def test_rungs_add_up_and_gains_are_over_the_rung_below(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_study("ladder", LADDER)
    calls = watch(monkeypatch)
    run_study("ladder")
    folder = Path("data/study/ladder")
    # One set of images and of labels an ipc: nothing but students differs.
    assert calls == {"none": 2, "fill": 2, "score": 4 * 2 * 3}
    summary, rows = table(folder / "summary.csv"), table(folder / "results.csv")
    assert [(row["variant"], row["labels"], row["ipc"]) for row in summary] == [
        (name, labels, ipc)
        for name, labels in zip(LADDER, ("packed", "packed", "hard", "packed"), strict=True)
        for ipc in ("1", "2")
    ]
    for index, row in enumerate(summary):
        if index < 2:
            assert row["gain"] == ""
            continue
        before, now = (
            statistics.fmean(float(r["accuracy"]) for r in rows if (r["variant"], r["ipc"]) == place)
            for place in ((summary[index - 2]["variant"], row["ipc"]), (row["variant"], row["ipc"]))
        )
        assert float(row["gain"]) == pytest.approx(now - before, abs=2e-3)
    cells = store.open_artifact(folder, "study").lineage["params"]["cells"]
    asked = [(cells[f"{name}-ipc2"]["evaluation"]["batch_size"], cells[f"{name}-ipc2"]["labels"]) for name in LADDER]
    assert asked[:3] == [(10, "packed"), (5, "packed"), (5, "hard")]
    assert (folder / "figure.png").read_bytes().startswith(b"\x89PNG")


def test_without_soft_labels_students_learn_from_hard_ones(workspace: Path) -> None:
    write_study(named={"plain": VARIANTS["random"], "hard": {**VARIANTS["random"], "labels": "hard"}}, ipc=[1])
    run_study("syntheses", softlabels={"method": "none"})
    rows = table(FOLDER / "results.csv")
    assert {(row["labels"], row["label_bytes"], row["fp16_label_bytes"]) for row in rows} == {("hard", "0", "0")}
    assert [row["accuracy"] for row in rows[:3]] == [row["accuracy"] for row in rows[3:]]


# --- staging folders ---


def test_parameters_that_a_study_does_not_use_do_not_restart_it(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(VariantCellsStudy, "check", forbidden)

    def stagings(**blocks: Any) -> int:
        with pytest.raises(AssertionError, match="this is work"):
            run_study("syntheses", **blocks)
        return len(list(Path("scratch").glob("*.notes")))

    assert stagings() == 1
    assert stagings(evaluation={"seeds": [7, 8, 9], "baselines": []}, selection={"ipc": 1}) == 1
    assert stagings(evaluation={"epochs": 1}) == 2
    write_study(seeds=[0, 1, 2])
    assert stagings() == 3
    write_study(named={**VARIANTS, "edc-twin": VARIANTS["edc-hard"]})
    assert stagings() == 4


# --- live reports ---


class Watching(Plain):
    """A reporter that records what is reported."""

    def __init__(self, stage: str) -> None:
        super().__init__(stage)
        self.pictures: list[tuple[str, bytes]] = []
        self.progressed: list[tuple[str, int, int, str]] = []
        self.tables: dict[str, Sequence[Any]] = {}

    @property
    def watched(self) -> bool:
        return True

    def table(self, title: str, rows: Sequence[Any]) -> None:
        self.tables[title] = rows

    def image(self, title: str, png: bytes) -> None:
        self.pictures.append((title, png))

    def progress(self, title: str, done: int, total: int, note: str = "") -> None:
        self.progressed.append((title, done, total, note))


def test_progress_and_results_of_a_study_are_displayed(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawing, "PICTURE_SECONDS", -1.0)
    monkeypatch.setattr(recovery, "REPORT_SECONDS", -1.0)
    write_study(named={"edc": VARIANTS["edc"], "edc-hard": VARIANTS["edc-hard"]}, ipc=[1])
    seen = Watching("studies")
    run_study("syntheses", reporter=seen)
    assert [entry[1:3] for entry in seen.progressed if entry[0] == "syntheses"] == [(1, 2), (2, 2)]
    shown = dict(seen.pictures)
    assert shown["syntheses figure"] == (FOLDER / "figure.png").read_bytes()
    assert shown["images of edc-ipc1"] == (FOLDER / "images/edc-ipc1.png").read_bytes()
    assert [row["variant"] for row in seen.tables["syntheses summary"]] == ["edc", "edc-hard"]


def test_a_live_synthesis_shows_its_loss_and_its_images(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawing, "PICTURE_SECONDS", -1.0)
    monkeypatch.setattr(recovery, "REPORT_SECONDS", -1.0)
    selection_stage(run_of("selection"))
    seen = Watching("synthesis")
    synthesis_stage(replace(run_of("synthesis", synthesis=EDC), reporter=seen))
    steps = [entry for entry in seen.progressed if entry[0] == "synthesis" and entry[3].startswith("batch")]
    assert [entry[1:3] for entry in steps] == [(done, 12) for done in range(1, 13)]
    for name in ("match", "cross-entropy", "flatness"):
        assert f"{name} " in steps[0][3]
    assert any(entry[3] == "statistics of real images" for entry in seen.progressed)
    live = [png for title, png in seen.pictures if title == "images under way"]
    assert len(set(live)) >= 12 and all(png.startswith(b"\x89PNG") for png in live)
    assert seen.pictures[-1][0] == "condensed images"


def test_no_picture_is_drawn_if_nothing_is_displayed(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawing, "PICTURE_SECONDS", -1.0)
    drawing.LiveImages(run_of("synthesis")).report(1, 2, "note", forbidden)
