"""A study in a tiny workspace: every cell run, equal picks once, the tables worked out again, kills, refusals."""

from __future__ import annotations

import io
import json
import shutil
import statistics
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from PIL import Image
from tiny import run_of, run_study, table

from dcpipe import selection, store
from dcpipe.evaluation import contenders
from dcpipe.images import read_selection
from dcpipe.reports import pictures
from dcpipe.selection import Candidates, Picks, Progress, class_by_class
from dcpipe.studies import coresets
from dcpipe.types import DataError, Selection
from flows.features import features_stage
from flows.images import images_stage
from flows.running.reporting import Plain
from flows.teacher import teacher_stage

SCORE = {"alpha": 1.0, "beta": 0.1}
STUDIES: dict[str, Any] = {
    "selection": {
        "selectors": {"random": {}, "score": {"options": SCORE}, "again": {"method": "score", "options": SCORE}},
        "ipc": [2, 1],
        "seeds": [0, 1, 5],
    },
    "coefficients": {
        "base": SCORE,
        "alpha": [5, 1],
        "beta": [0, 0.1],
        "options": {"eps2": 0.7},
        "ipc": 2,
        "seeds": [0, 1, 2],
        "split": "test",
    },
    "labels": {"codecs": {"svd": {}}, "ratios": [2], "seeds": [0, 1, 2]},
}
FOLDER = Path("data/study/selection")


def write_studies(**changes: dict[str, Any]) -> None:
    tiny.write_studies(**{name: {**block, **changes.get(name, {})} for name, block in STUDIES.items()})


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A workspace with images, a teacher and features of real digits, which tests copy."""
    root = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setenv("DCPIPE_SCRATCH", str(root / "scratch"))
        images_stage(run_of("images"))
        teacher_stage(run_of("teacher"), "main")
        features_stage(run_of("features"))
    yield root


@pytest.fixture(scope="module")
def studied(made: Path) -> Iterator[tuple[Path, list[tuple[str, int]]]]:
    """The same workspace after a whole study, which tests only read, and the students trained: names and seeds."""
    done: list[tuple[str, int]] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(made)
        patch.setenv("DCPIPE_SCRATCH", str(made / "scratch"))
        patch.setattr(contenders, "score", noting(done))
        write_studies()
        run_study("selection")
    yield made, done


@pytest.fixture
def workspace(made: Path, scratch: Path) -> Path:
    """A copy to change, as the current folder."""
    shutil.copytree(made / "data", scratch.parent / "data", ignore=shutil.ignore_patterns("study"))
    write_studies()
    return scratch.parent


def noting(done: list[tuple[str, int]]) -> Callable[..., dict[str, Any]]:
    """`contenders.score`, taking note of the students it has trained."""
    score = contenders.score

    def noted(contender: Any, protocol: Any, train: Any, test: Any, seed: int, **options: Any) -> dict[str, Any]:
        outcome = score(contender, protocol, train, test, seed, **options)
        done.append((contender.name, seed))
        return outcome

    return noted


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Names and seeds of the students trained, in order."""
    done: list[tuple[str, int]] = []
    monkeypatch.setattr(contenders, "score", noting(done))
    return done


def test_every_cell_has_a_row_and_equal_picks_are_taught_once(studied: tuple[Path, list[tuple[str, int]]]) -> None:
    root, trained = studied
    artifact = store.open_artifact(root / FOLDER, "study")
    assert artifact.meta == {"name": "selection", "split": "test"}
    assert set(artifact.lineage["inputs"]) == {"images", "features", "teacher main"}
    rows = table(root / FOLDER / "results.csv")
    expected = [(s, i, k) for s in ("random", "score", "again") for i in ("1", "2") for k in ("0", "1", "5")]
    assert [(row["selector"], row["ipc"], row["seed"]) for row in rows] == expected
    # Random picks differ by seed; those of score do not, under either name: labelled once, one student per seed.
    assert len({row["picks"] for row in rows[:6]}) == 6
    assert len({row["picks"] for row in rows[6:]}) == 2
    assert trained == [
        *((f"random ipc {ipc}, svd", seed) for ipc in (1, 2) for seed in (0, 1, 5)),
        *((f"score ipc {ipc}, svd", seed) for ipc in (1, 2) for seed in (0, 1, 5)),
    ]
    assert [list(row.values())[1:] for row in rows[6:12]] == [list(row.values())[1:] for row in rows[12:]]
    assert len({row["accuracy"] for row in rows[6:9]}) > 1


def test_a_row_is_what_doing_it_by_hand_gives(
    studied: tuple[Path, list[tuple[str, int]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Random with seed 5 at ipc 2: the rows its shuffle names, labelled, packed, taught with seed 5, tested."""
    monkeypatch.chdir(studied[0])
    train = store.table_of(store.open_artifact(Path("data/images"), "images"), "train")
    by_class = [np.flatnonzero(train.labels == label) for label in range(10)]
    order = np.concatenate(by_class)
    offsets = np.cumsum([0, *map(len, by_class)])
    empty = np.zeros((len(order), 0))
    picks = selection.SELECTORS["random"](Candidates(empty, empty, np.zeros(len(order)), offsets), 2, 5, Progress())
    ids = train.ids[order[picks.rows]]
    images = read_selection(train, Selection(ids, train.labels[order[picks.rows]], picks.gains, "random"))
    teachers = {"main": store.load_teacher(Path("data/teacher/main"))}
    own = run_of("studies")
    labeller = contenders.Labeller(own.params.softlabels, own.params.compression, own.device, own.map)
    contender = labeller.contender("by hand", images, teachers, store.Notes(tmp_path).within("hand"))
    accuracy = tiny.by_hand(contender, 5, tmp_path)
    [row] = [r for r in table(FOLDER / "results.csv") if (r["selector"], r["ipc"], r["seed"]) == ("random", "2", "5")]
    assert float(row["accuracy"]) == round(accuracy, 3)
    assert int(row["image_bytes"]) == (tmp_path / "hand/images.parquet").stat().st_size
    size = (tmp_path / "hand/labels.safetensors").stat().st_size
    assert int(row["label_bytes"]) == size <= 2 * 20 * 12 * 10 / 1.5
    assert row["picks"] == store.digest_of(ids.tolist())[:12]
    # Uncompressed labels do not stay once they are packed.
    assert sorted(path.name for path in (tmp_path / "hand").iterdir()) == ["images.parquet", "labels.safetensors"]
    # The picture of a selector shows the first seed's picks.
    shown = selection.SELECTORS["random"](Candidates(empty, empty, np.zeros(len(order)), offsets), 2, 0, Progress())
    rows = order[shown.rows]
    first = read_selection(train, Selection(train.ids[rows], train.labels[rows], shown.gains, "random"))
    assert (FOLDER / "picked/random-ipc2.png").read_bytes() == pictures.grid(first)


def test_the_summary_is_the_results_by_selector_and_ipc(studied: tuple[Path, list[tuple[str, int]]]) -> None:
    folder = studied[0] / FOLDER
    rows, summary = table(folder / "results.csv"), table(folder / "summary.csv")
    assert [(row["selector"], row["ipc"]) for row in summary] == [
        (name, ipc) for name in ("random", "score", "again") for ipc in ("1", "2")
    ]
    for row in summary:
        own = [r for r in rows if (r["selector"], r["ipc"]) == (row["selector"], row["ipc"])]
        accuracies = [float(r["accuracy"]) for r in own]
        assert float(row["accuracy"]) == pytest.approx(sum(accuracies) / 3, abs=1e-3)
        assert float(row["std"]) == pytest.approx(statistics.stdev(accuracies), abs=1e-3)
        assert row["seeds"] == "3"
        assert int(row["image_bytes"]) == round(sum(int(r["image_bytes"]) for r in own) / 3)
        assert int(row["fp16_label_bytes"]) == 2 * 10 * int(row["ipc"]) * 12 * 10
        assert int(row["label_bytes"]) <= int(row["fp16_label_bytes"]) / 1.5
        assert float(row["seconds"]) >= 0
    names = {f"{name}-ipc{ipc}.png" for name in ("random", "score", "again") for ipc in (1, 2)}
    assert {path.name for path in (folder / "picked").iterdir()} == names
    with Image.open(io.BytesIO((folder / "figure.png").read_bytes())) as image:
        assert image.format == "PNG" and min(image.size) > 300


@pytest.mark.parametrize(("where", "after"), [("score", 7), ("timed_picks", 4)])
def test_an_interrupted_run_continues_cell_by_cell(
    where: str,
    after: int,
    studied: tuple[Path, list[tuple[str, int]]],
    workspace: Path,
    monkeypatch: pytest.MonkeyPatch,
    trained: list[tuple[str, int]],
) -> None:
    unbroken, whole, calls = (studied[0] / FOLDER / "results.csv").read_bytes(), len(studied[1]), [0]
    home = contenders if where == "score" else coresets
    work = getattr(home, where)

    def dies(*arguments: Any, **options: Any) -> Any:
        calls[0] += 1
        if calls[0] == after + 1:
            raise KeyboardInterrupt
        return work(*arguments, **options)

    monkeypatch.setattr(home, where, dies)
    with pytest.raises(KeyboardInterrupt):
        run_study("selection")
    assert not FOLDER.exists()
    run_study("selection")
    assert (FOLDER / "results.csv").read_bytes() == unbroken
    assert len(trained) == whole, "a student that was done is not trained again"
    # Random runs for each ipc and seed, score and its copy once per ipc.
    assert calls[0] == (whole if where == "score" else 6 + 2 + 2) + 1


def test_coefficients_are_one_sweep_each_through_the_base(workspace: Path, trained: list[tuple[str, int]]) -> None:
    run_study("coefficients")
    folder = Path("data/study/coefficients")
    summary = table(folder / "summary.csv")
    places = [(row["selector"], row["swept"], row["alpha"], row["beta"], row["ipc"]) for row in summary]
    assert places == [
        ("random", "", "", "", "2"),
        ("alpha-1", "alpha", "1.0", "0.1", "2"),
        ("alpha-5", "alpha", "5.0", "0.1", "2"),
        ("beta-0", "beta", "1.0", "0.0", "2"),
        ("beta-0.1", "beta", "1.0", "0.1", "2"),
    ]
    rows = table(folder / "results.csv")
    base = [[row[key] for key in ("seed", "accuracy", "picks")] for row in rows if row["selector"] == "alpha-1"]
    assert base == [
        [row[key] for key in ("seed", "accuracy", "picks")] for row in rows if row["selector"] == "beta-0.1"
    ]
    assert not any(name.startswith("beta-0.1") for name, _ in trained)
    assert (folder / "figure.png").read_bytes().startswith(b"\x89PNG")


def test_a_selector_is_called_for_each_ipc_and_seed_with_its_options(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A selector whose smaller set is not a prefix of its larger one; it runs once unless it uses the seed."""
    calls: list[tuple[int, int, int]] = []

    def last(candidates: Candidates, ipc: int, seed: int, watch: Progress, *, skip: int = 0) -> Picks:
        calls.append((ipc, seed, skip))
        sizes = np.diff(candidates.offsets)
        return class_by_class(
            candidates, ipc, watch, lambda y, n: (sizes[y] - skip - ipc + np.arange(ipc), np.zeros(ipc))
        )

    monkeypatch.setitem(selection.SELECTORS, "last", last)
    monkeypatch.setattr(selection, "uses_seed", lambda name: False)
    write_studies(selection={"selectors": {"last": {"options": {"skip": 3}}}, "ipc": [1, 2]})
    run_study("selection")
    assert calls == [(ipc, 0, 3) for ipc in (1, 2)]
    calls.clear()
    monkeypatch.setattr(selection, "uses_seed", lambda name: True)
    shutil.rmtree("data/study")
    run_study("selection")
    assert calls == [(ipc, seed, 3) for ipc in (1, 2) for seed in (0, 1, 5)]
    train = store.table_of(store.open_artifact(Path("data/images"), "images"), "train")
    rows = table(FOLDER / "results.csv")
    for ipc in (1, 2):
        own = [train.ids[train.labels == label][-3 - ipc : -3] for label in range(10)]
        ids = np.stack(own, axis=1).ravel()
        digest = store.digest_of(ids.tolist())[:12]
        assert [row["picks"] for row in rows if row["ipc"] == str(ipc)] == [digest] * 3


def test_hard_labels_weigh_nothing_and_need_no_teacher(workspace: Path, trained: list[tuple[str, int]]) -> None:
    shutil.rmtree("data/teacher")
    write_studies(selection={"selectors": {"random": {}}, "ipc": [1]})
    run_study("selection", softlabels={"method": "none"})
    [row] = table(FOLDER / "summary.csv")
    assert (row["label_bytes"], row["fp16_label_bytes"]) == ("0", "0") and int(row["image_bytes"]) > 0
    assert trained[0][0] == "random ipc 1, hard labels"
    assert not (store.open_artifact(FOLDER, "study").lineage["inputs"]).keys() & {"teacher main"}


def test_parameters_that_only_the_pipeline_uses_do_not_restart_a_study(
    workspace: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Studies do not use seeds and baselines of `evaluation`; another student or study has another staging folder."""
    monkeypatch.setattr(coresets.CoresetStudy, "check", forbidden)

    def stagings(**blocks: dict[str, Any]) -> set[str]:
        with pytest.raises(AssertionError, match="this is work"):
            run_study("selection", **blocks)
        return {path.name for path in scratch.glob("*.notes")}

    assert len(stagings()) == len(stagings(evaluation={"seeds": [7, 8, 9], "baselines": []})) == 1
    assert len(stagings(evaluation={"epochs": 1})) == 2
    write_studies(coefficients={"ipc": 1})
    assert len(stagings()) == 2
    write_studies(selection={"ipc": [1]})
    assert len(stagings()) == 3


# --- refusals, all before any work ---

REFUSED: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    (
        {"selectors": {"random": {}, "best": {}}},
        {},
        r"^studies/params.yaml: selection, best: unknown selector 'best'; choose one of random, ",
    ),
    (
        {"selectors": {"mine": {"method": "score", "options": {"gamma": 1}}}},
        {},
        r"^studies/params.yaml: selection, mine: selector 'score' has no option 'gamma'; its options are alpha, ",
    ),
    (
        {"ipc": [1, 500]},
        {},
        r"^studies/params.yaml: selection: selection.ipc is 500 but class '\d' has \d+ images; use ipc <= \d+$",
    ),
    (
        {"ipc": [1, 2]},
        {"compression": {"codec": "svd", "ratio": 1000.0}},
        r"^studies/params.yaml: selection, ipc 1: codec 'svd': its arrays take at least \d+ bytes",
    ),
]


@pytest.mark.parametrize(("change", "blocks", "sentence"), REFUSED)
def test_what_cannot_be_finished_is_refused_before_any_work(
    change: dict[str, Any], blocks: dict[str, Any], sentence: str, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coresets, "timed_picks", forbidden)
    write_studies(selection=change)
    with pytest.raises(DataError, match=sentence):
        run_study("selection", **blocks)
    assert not FOLDER.exists()


def forbidden(*arguments: Any, **options: Any) -> Any:
    raise AssertionError("this is work")


def test_an_empty_split_is_refused(workspace: Path) -> None:
    images_stage(run_of("images", images={"minival": 0.0}))
    write_studies(selection={"split": "minival"})
    with pytest.raises(DataError) as error:
        run_study("selection")
    assert str(error.value) == (
        "studies/params.yaml: selection.split is minival, which is empty; raise images.minival, or use test"
    )


def test_a_machine_without_matplotlib_is_refused_first(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coresets, "timed_picks", forbidden)
    monkeypatch.setattr("dcpipe.reports.figures.base.find_spec", lambda name: None)
    with pytest.raises(
        DataError, match=r"^figures need matplotlib, which is not installed; install dcpipe\[pipeline\]$"
    ):
        run_study("selection")


def test_what_a_selector_refuses_names_its_entry(workspace: Path) -> None:
    write_studies(selection={"selectors": {"wrong": {"method": "score", "options": {"eps2": -1.0}}}})
    with pytest.raises(DataError, match=r"^studies/params.yaml: selection, wrong: .*eps2 is -1.0: "):
        run_study("selection")


# --- what watches see ---


def test_the_summary_and_the_figure_are_displayed(workspace: Path) -> None:
    shown: dict[str, Any] = {}

    class Watching(Plain):
        def table(self, title: str, rows: Any) -> None:
            shown[title] = rows

        def image(self, title: str, png: bytes) -> None:
            shown[title] = png

        def progress(self, title: str, done: int, total: int, note: str = "") -> None:
            shown.setdefault(title, []).append((done, total))

    run_study("selection", reporter=Watching("studies"))
    assert shown["selection figure"] == (FOLDER / "figure.png").read_bytes()
    assert [row["selector"] for row in shown["selection summary"]][::2] == ["random", "score", "again"]
    assert shown["selection"] == [(done, 18) for done in range(1, 19)]
    assert shown["images of score-ipc2"] == (FOLDER / "picked/score-ipc2.png").read_bytes()
    assert shown["select score-ipc2-seed0"][-1] == (20, 20)


def test_a_picture_shows_ten_of_each_of_ten_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Selection] = []
    monkeypatch.setattr(coresets, "read_selection", lambda train, picks: seen.append(picks))
    monkeypatch.setattr(pictures, "grid", lambda images, classes, columns: json.dumps([classes, columns]).encode())
    many = type("Table", (), {"classes": tuple(map(str, range(12)))})()
    picks = Selection(np.arange(144), np.tile(np.arange(12), 12), np.zeros(144), "random")
    draw: Callable[..., bytes] = coresets.picture_of
    assert draw(many, picks) == b"[10, 10]"
    assert seen[0].ids.tolist() == [round_ * 12 + label for round_ in range(10) for label in range(10)]
