"""Studies of variants in a tiny workspace: rows as the line gives them, what is shared, kills, refusals, watching."""

from __future__ import annotations

import io
import shutil
import statistics
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import cache, partial, wraps
from pathlib import Path
from typing import Any

import pytest
import tiny
from PIL import Image
from tiny import table

from dcpipe import softlabels, store, synthesis
from dcpipe.evaluation import contenders
from dcpipe.studies.variant_cells import VariantCellsStudy
from dcpipe.synthesis import recovery
from dcpipe.synthesis import statistics as measured
from dcpipe.types import DataError, ImageSet
from flows.compression import compression_stage
from flows.evaluation import evaluation_stage
from flows.features import features_stage
from flows.images import images_stage
from flows.running import drawing, runtime
from flows.running.reporting import Plain
from flows.selection import selection_stage
from flows.softlabels import softlabels_stage
from flows.synthesis import synthesis_stage
from flows.teacher import teacher_stage

NETWORKS = {"main": "convnet-d1-w8", "second": "convnet-d2-w4", "resnet": "resnet10-w2"}
TEACHING = {**tiny.PARAMS["teacher"]["training"], "epochs": 2}
PARAMS = tiny.changed(
    tiny.PARAMS,
    teacher={"networks": {key: {"network": name} for key, name in NETWORKS.items()}, "training": TEACHING},
    softlabels={"teachers": ["main", "second"]},
)
run_of = partial(tiny.run_of, content=PARAMS)
run_study = partial(tiny.run_study, content=PARAMS)
EDC = {"method": "edc", "options": {"iterations": 6, "batch_size": 10, "crop_min": 0.5, "flip": 0.0}}
VARIANTS: dict[str, Any] = {
    "random": {"selection": {"method": "random"}, "synthesis": {"method": "none"}},
    "edc": {"selection": {"method": "random"}, "synthesis": EDC},
    "edc-online": {"selection": {"method": "random"}, "synthesis": EDC, "labels": "online"},
    "edc-hard": {"selection": {"method": "random"}, "synthesis": EDC, "labels": "hard"},
    "edc-batch": {"selection": {"method": "random"}, "synthesis": EDC, "evaluation": {"batch_size": 7}},
    "edc-twin": {"selection": {"method": "random"}, "synthesis": EDC},
}
LADDER: dict[str, Any] = {
    "start": {"selection": {"method": "random"}},
    "batch": {"evaluation": {"batch_size": 5}},
    "hard": {"labels": "hard"},
    "back": {"labels": "packed", "evaluation": {"protocol": "score", "epochs": 1, "batch_size": 8}},
}
STUDY = {"ipc": [2, 1], "seeds": [0, 1, 5]}
FOLDER = Path("data/study/syntheses")
WHOLE = {"none": 2, "edc": 2, "fill": 2 + 2, "score": 5 * 2 * 3, "collect": 1}
Calls = dict[str, int]


def write_study(name: str = "syntheses", named: dict[str, Any] | None = None, **changes: Any) -> None:
    tiny.write_studies(**{name: {"variants": VARIANTS if named is None else named, **STUDY, **changes}})


def counting(calls: Calls, work: Callable[..., Any], dies_at: int = 0) -> Callable[..., Any]:
    """`work`, its calls counted by name; the one numbered `dies_at` dies."""

    @wraps(work)
    def counted(*arguments: Any, **options: Any) -> Any:
        calls[work.__name__] = calls.get(work.__name__, 0) + 1
        if calls[work.__name__] == dies_at:
            raise KeyboardInterrupt
        return work(*arguments, **options)

    return counted


def watch(patch: pytest.MonkeyPatch, where: str = "", dies_at: int = 0) -> Calls:
    """Count the costly calls; call number `dies_at` of `where` dies."""
    calls: Calls = {}

    def counted(work: Callable[..., Any]) -> Callable[..., Any]:
        return counting(calls, work, dies_at if work.__name__ == where else 0)

    for name in ("none", "edc"):
        patch.setitem(synthesis.METHODS, name, counted(synthesis.METHODS[name]))
    patch.setattr(contenders, "score", counted(contenders.score))
    patch.setattr(softlabels, "fill", counted(softlabels.fill))
    patch.setattr(measured, "collect", counted(measured.collect))
    return calls


def in_scratch(patch: pytest.MonkeyPatch, root: Path) -> None:
    patch.chdir(root)
    patch.setenv("DCPIPE_SCRATCH", str(root / "scratch"))


@pytest.fixture(scope="module", autouse=True)
def code_is_read_once() -> Iterator[None]:
    """Every bench asks for the digest of the code behind it, which is what takes longest here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runtime, "code_digest", cache(runtime.code_digest))
        yield


@pytest.fixture(scope="module")
def studied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Calls]]:
    """A workspace of real digits after a whole study, which tests only read, and how often what was done."""
    root = tmp_path_factory.mktemp("studied")
    with pytest.MonkeyPatch.context() as patch:
        in_scratch(patch, root)
        images_stage(run_of("images"))
        for key in NETWORKS:
            teacher_stage(run_of("teacher"), key)
        features_stage(run_of("features"))
        write_study()
        calls = watch(patch)
        run_study("syntheses")
    yield root, calls


@pytest.fixture
def workspace(studied: tuple[Path, Calls], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy without the study, to change, as the current folder."""
    shutil.copytree(studied[0] / "data", tmp_path / "data", ignore=shutil.ignore_patterns("study"))
    in_scratch(monkeypatch, tmp_path)
    write_study()
    return tmp_path


# --- what comes out ---


def test_every_variant_has_a_row_a_seed_and_what_agrees_is_made_once(studied: tuple[Path, Calls]) -> None:
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


def test_a_variant_gets_what_the_line_gives_with_its_values(workspace: Path, studied: tuple[Path, Calls]) -> None:
    """The stages one after another, and the evaluation's own table beside the study's."""
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


# --- kills ---


def same_files(studied: Path, folder: Path = FOLDER) -> None:
    """All but the seconds: results, figure, pictures byte for byte."""
    names = sorted(path.relative_to(studied / folder) for path in (studied / folder).rglob("*.png"))
    for name in (Path("results.csv"), *names):
        assert (folder / name).read_bytes() == (studied / folder / name).read_bytes(), name


def test_a_broken_run_goes_on_and_does_nothing_twice(studied: tuple[Path, Calls], workspace: Path) -> None:
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


def test_a_killed_recovery_goes_on_inside_a_batch(
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
    monkeypatch.setattr(recovery, "TELL_SECONDS", -1.0)
    monkeypatch.setenv("DCPIPE_CHECKPOINT_SECONDS", "-1")
    write_study(named={"edc": VARIANTS["edc"]}, ipc=[2])
    with pytest.raises(KeyboardInterrupt):
        run_study("syntheses")
    [checkpoint] = Path("scratch").glob("*.notes/images-*/recovery.pt")
    run_study("syntheses")
    assert steps == [*range(1, 10), *range(9, 13)], "two batches of 6 steps, of which step 9 died"
    assert not checkpoint.exists()
    picture = FOLDER / "images/edc-ipc2.png"
    assert picture.read_bytes() == (studied[0] / picture).read_bytes()
    rows = table(studied[0] / FOLDER / "results.csv")
    assert table(FOLDER / "results.csv") == [r for r in rows if (r["variant"], r["ipc"]) == ("edc", "2")]


def test_checkpoints_do_not_pile_up(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DCPIPE_CHECKPOINT_SECONDS", "-1")
    watch(monkeypatch, "score", 1)
    write_study(named={"edc": VARIANTS["edc"]}, ipc=[1])
    with pytest.raises(KeyboardInterrupt):
        run_study("syntheses")
    assert list(Path("scratch").glob("*.notes/images-*.npz"))
    assert not list(Path("scratch").rglob("recovery.pt"))


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


# --- the bench ---


def forbidden(*arguments: Any, **options: Any) -> Any:
    raise AssertionError("this is work")


def test_what_a_study_does_not_use_does_not_start_it_anew(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


# --- refusals, all before any work ---

REFUSED: list[tuple[dict[str, Any], str]] = [
    (
        {"synthesis": {"method": "best"}},
        ": params.yaml with its changes: synthesis.method: unknown synthesis method 'best'; choose one of none, rded, ",
    ),
    (
        {"synthesis": {"method": "edc", "options": {"steps": 1}}},
        ": params.yaml with its changes: synthesis.options: synthesis method 'edc' has no option 'steps'; ",
    ),
    (
        {"synthesis": {"method": "edc", "options": {"observers": ["main", "third"]}}},
        ": params.yaml with its changes: synthesis.options.observers names 'third', which is not in teacher.networks; ",
    ),
    (
        {"selection": {"method": "best"}},
        ": params.yaml with its changes: selection.method: unknown selector 'best'; choose one of random, ",
    ),
    (
        {"selection": {"method": "random", "options": {"alpha": 1}}},
        ": params.yaml with its changes: selection.options: selector 'random' takes no options; remove 'alpha'",
    ),
    (
        {"compression": {"codec": "best"}},
        ": params.yaml with its changes: compression.codec: unknown codec 'best'; choose one of cur, ",
    ),
    ({"compression": {"ratio": 1000.0}}, ", ipc 1: codec 'svd': its arrays take at least "),
    (
        {"evaluation": {"student": "convnet-5"}},
        ": params.yaml with its changes: evaluation.student: unknown network 'convnet-5'; ",
    ),
    ({"evaluation": {"protocol": "best"}}, ": params.yaml with its changes: evaluation.protocol is 'best': unknow"),
    ({"evaluation": {"epochs": 0}}, ": params.yaml with its changes: evaluation.epochs is 0: input should be gre"),
    ({"evaluation": {"seeds": [1, 2, 3]}}, ": a variant may not set evaluation.seeds: the study sets it for all "),
    ({"labels": "packed", "softlabels": {"method": "none"}}, ": labels is packed but softlabels.method is none; "),
]


def nothing_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(VariantCellsStudy, "make_images", forbidden)
    monkeypatch.setattr(VariantCellsStudy, "students", forbidden)


@pytest.mark.parametrize(("variant", "sentence"), REFUSED)
def test_what_cannot_be_finished_is_refused_before_any_work(
    variant: dict[str, Any],
    sentence: str,
    studied: tuple[Path, Calls],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "data").symlink_to(studied[0] / "data")
    in_scratch(monkeypatch, tmp_path)
    nothing_is_made(monkeypatch)
    for name in ("syntheses", "ladder"):
        write_study(name, {"right": {}, "wrong": variant})
        with pytest.raises(DataError) as error:
            run_study(name)
        assert str(error.value).startswith(f"studies/params.yaml: {name}, wrong{sentence}")
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"ipc": [1, 500]}, r"^studies/params.yaml: syntheses: selection.ipc is 500 but class '\d' has \d+ images; "),
        (
            {"seeds": [0, 1]},
            r"^studies/params.yaml: syntheses.seeds is \[0, 1\]: list should have at least 3 items",
        ),
        (
            {"ipc": [1, 2, 1]},
            r"^studies/params.yaml: syntheses.ipc is \[1, 2, 1\]: 1 is listed more than once; ",
        ),
    ],
)
def test_impossible_sizes_are_refused(
    changes: dict[str, Any], sentence: str, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing_is_made(monkeypatch)
    write_study(**changes)
    with pytest.raises(DataError, match=sentence):
        run_study("syntheses")


def test_an_empty_split_is_refused(workspace: Path) -> None:
    images_stage(run_of("images", images={"minival": 0.0}))
    write_study(split="minival")
    with pytest.raises(DataError) as error:
        run_study("syntheses")
    assert str(error.value) == (
        "studies/params.yaml: syntheses.split is minival, which is empty; raise images.minival, or use test"
    )


def test_a_machine_that_cannot_draw_is_told_first(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nothing_is_made(monkeypatch)
    monkeypatch.setattr("dcpipe.reports.figures.base.find_spec", lambda name: None)
    with pytest.raises(
        DataError, match=r"^figures need matplotlib, which is not installed; install dcpipe\[pipeline\]$"
    ):
        run_study("syntheses")


def test_what_a_method_refuses_names_its_variant(workspace: Path) -> None:
    write_study(named={"wrong": {"synthesis": {"method": "edc", "options": {"alpha": 2.0}}}})
    with pytest.raises(DataError) as error:
        run_study("syntheses")
    sentence = (
        "studies/params.yaml: syntheses, wrong: params.yaml with its changes: synthesis.options.alpha is 2.0: input "
        "should be less than or equal to 1"
    )
    assert str(error.value) == sentence


# --- what watches see ---


class Watching(Plain):
    """A reporter that keeps what it is told."""

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


def test_whoever_watches_a_study_sees_it_grow(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawing, "PICTURE_SECONDS", -1.0)
    monkeypatch.setattr(recovery, "TELL_SECONDS", -1.0)
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
    monkeypatch.setattr(recovery, "TELL_SECONDS", -1.0)
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


def test_nobody_watching_no_picture_is_made(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawing, "PICTURE_SECONDS", -1.0)
    drawing.LiveImages(run_of("synthesis")).report(1, 2, "note", forbidden)
