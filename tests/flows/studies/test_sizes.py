"""The study of sizes in a tiny workspace: rows worked out again from the flow's parts, what is shared, kills."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from functools import cache, partial, wraps
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from tiny import table

from dcpipe import images, selection, store, synthesis
from dcpipe.evaluation import contenders
from dcpipe.studies.sizes import SizesStudy
from dcpipe.studies.variant_cells import VariantCellsStudy
from dcpipe.synthesis import components, slimmable
from dcpipe.types import DataError, ImageSet
from flows.features import features_stage
from flows.images import images_stage
from flows.running import runtime
from flows.teacher import teacher_stage

PARAMS = tiny.changed(
    tiny.PARAMS,
    teacher={"training": {**tiny.PARAMS["teacher"]["training"], "epochs": 1}},
    evaluation={"epochs": 1},
)
run_of = partial(tiny.run_of, content=PARAMS)
run_study = partial(tiny.run_study, "sizes", content=PARAMS)
SHORT = {
    **{"network": "convnet-d1-w4", "factor": 1, "outer": 2, "inner": 1, "real_batch": 8, "learn_images": 8},
    "lr": 5.0,  # large enough that two steps move u8 pixels
}
HARD: dict[str, Any] = {"selection": {"method": "random"}, "softlabels": {"method": "none"}}
METHODS: dict[str, Any] = {
    "mdc": {
        **HARD,
        "synthesis": {"method": "mdc", "options": {"base": "idc", "options": SHORT, "period": 1}},
        "snapshots": [1],
    },
    "idc": {**HARD, "synthesis": {"method": "idc", "options": SHORT}, "baselines": ["A", "B", "C", "lfs", "lbs"]},
    "real": {"selection": {"method": "random"}, "compression": {"ratio": 1.0}},
}
ENTRIES = ("mdc-loop1", "mdc", "idc-A", "idc-B", "idc-C", "idc-lfs", "idc-lbs", "real")
STUDY = {"ipc": 3, "seeds": [0, 1, 5]}
FOLDER = Path("data/study/sizes")
# Runs of idc: all three rounds, A at 1 and 2, and B at the second and third round, each with another seed.
# Students: mdc 3 sizes after each of two loops, A 3, B 2 (one image is A's), C, lfs and lbs 2 (all is A's), real 3. lbs
# trains at two sizes.
WHOLE = {"mdc": 1, "idc": 5, "none": 1, "score": (6 + 3 + 2 + 2 + 2 + 2 + 3) * 3, "train": 2, "decompose": 4}


def write_study(**changes: Any) -> None:
    tiny.write_studies(sizes={"methods": METHODS, **STUDY, **changes})


def watch(patch: pytest.MonkeyPatch, where: str = "", dies_at: int = 0) -> dict[str, int]:
    """Count the costly calls; call number `dies_at` of `where` dies."""
    calls: dict[str, int] = {}

    def counted(work: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(work)
        def inner(*arguments: Any, **options: Any) -> Any:
            name = work.__name__
            calls[name] = calls.get(name, 0) + 1
            if name == where and calls[name] == dies_at:
                raise KeyboardInterrupt
            return work(*arguments, **options)

        return inner

    for name in ("none", "idc", "mdc"):
        patch.setitem(synthesis.METHODS, name, counted(synthesis.METHODS[name]))
    patch.setattr(contenders, "score", counted(contenders.score))
    patch.setattr(slimmable, "train", counted(slimmable.train))
    patch.setattr(components, "decompose", counted(components.decompose))
    return calls


def in_scratch(patch: pytest.MonkeyPatch, root: Path) -> None:
    patch.chdir(root)
    patch.setenv("DCPIPE_SCRATCH", str(root / "scratch"))
    write_study()


@pytest.fixture(scope="module", autouse=True)
def code_is_read_once() -> Iterator[None]:
    """Every staging folder needs the digest of the code, which would take most of the time of these tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runtime, "code_digest", cache(runtime.code_digest))
        yield


@pytest.fixture(scope="module")
def studied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dict[str, int], dict[str, ImageSet]]]:
    """A workspace after a whole study, how often what was done, and the images that students of each cell got."""
    root, seen = tmp_path_factory.mktemp("studied"), {}
    with pytest.MonkeyPatch.context() as patch:
        in_scratch(patch, root)
        images_stage(run_of("images"))
        teacher_stage(run_of("teacher"), "main")
        features_stage(run_of("features"))
        calls = watch(patch)
        students = VariantCellsStudy.students

        def noted(study: Any, context: Any, cell: Any, made: Any, **others: Any) -> Any:
            seen[str(cell)] = made.images
            return students(study, context, cell, made, **others)

        patch.setattr(VariantCellsStudy, "students", noted)
        run_study()
    yield root, calls, seen


@pytest.fixture
def workspace(studied: tuple[Path, Any, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy without the study, to change, as the current folder."""
    shutil.copytree(studied[0] / "data", tmp_path / "data", ignore=shutil.ignore_patterns("study"))
    in_scratch(monkeypatch, tmp_path)
    return tmp_path


def test_every_entry_has_a_row_a_size_and_seed_and_runs_are_shared(studied: tuple[Path, dict[str, int], Any]) -> None:
    root, calls, _ = studied
    rows = table(root / FOLDER / "results.csv")
    assert [(row["entry"], row["size"], row["seed"]) for row in rows] == [
        (entry, size, seed) for entry in ENTRIES for size in "123" for seed in "015"
    ]
    assert calls == WHOLE
    summary = table(root / FOLDER / "summary.csv")
    assert [(row["entry"], row["size"]) for row in summary] == [
        (entry, size) for entry in ENTRIES for size in ("1", "2", "3", "average")
    ]
    assert {path.name for path in (root / FOLDER).rglob("*.png")} == {
        *("figure.png", "gallery.png", "loops.png"),
        *(f"{entry}-ipc3.png" for entry in ENTRIES),
        *(f"idc-{slimming}-ipc{size}.png" for slimming in ("lfs", "lbs") for size in (1, 2)),
    }
    assert store.open_artifact(root / FOLDER, "study").meta == {"name": "sizes", "split": "test"}


def test_a_snapshot_is_the_set_of_a_shorter_run(studied: tuple[Path, Any, dict[str, ImageSet]]) -> None:
    """With a period of 1, subsets are chosen after each loop, so a run of one loop makes the same images."""
    root, _, seen = studied
    train = store.table_of(store.open_artifact(root / "data/images", "images"), "train")
    notes = root / "shorter"
    notes.mkdir()
    given = synthesis.SynthesisContext({}, lambda: images.read_parts(train), train.labels, run_of("x").device)
    options = {"base": "idc", "options": {**SHORT, "outer": 1}, "period": 1}
    begun = replace(seen["mdc-ipc3"], images=seen["real-ipc3"].images)
    assert np.array_equal(begun.ids, seen["real-ipc3"].ids)
    again = synthesis.METHODS["mdc"](begun, given, 0, synthesis.Progress(notes, notes, lambda *_: None), **options)
    assert np.array_equal(seen["mdc-loop1-ipc3"].images, again.images)
    assert np.array_equal(seen["mdc-loop1-ipc2"].images, again.prefix(2).images)
    assert not np.array_equal(seen["mdc-ipc3"].images, again.images)
    loops = table(root / FOLDER / "loops.csv")
    assert [(row["entry"], row["loop"], row["size"]) for row in loops] == [
        ("mdc", loop, size) for loop in "12" for size in ("1", "2", "3", "average")
    ]
    assert 0 < float(loops[0]["seconds"]) <= float(loops[4]["seconds"])
    summary = {(row["entry"], row["size"]): row["accuracy"] for row in table(root / FOLDER / "summary.csv")}
    assert [row["accuracy"] for row in loops[::4]] == [summary["mdc-loop1", "1"], summary["mdc", "1"]]


def test_baselines_are_the_papers(studied: tuple[Path, Any, dict[str, ImageSet]]) -> None:
    """A: a run from the first n picks. B: one run a pick, each with the next seed. C: the first of A's largest."""
    root, _, seen = studied
    classes = 10
    train = store.table_of(store.open_artifact(root / "data/images", "images"), "train")
    features = store.load_features(store.open_artifact(root / "data/features", "features").path)
    candidates = selection.candidates_of(features, train.classes, root / "scratch")
    picks = selection.SELECTORS["random"](candidates, 3, 0, selection.Progress())

    def ran(start: int, stop: int, seed: int) -> ImageSet:
        mine = slice(start * classes, stop * classes)
        choice = candidates.selection(selection.Picks(picks.rows[mine], picks.gains[mine]), "random")
        notes = root / f"again-{start}-{stop}"
        notes.mkdir()
        given = synthesis.SynthesisContext({}, lambda: images.read_parts(train), train.labels, run_of("x").device)
        watcher = synthesis.Progress(notes, notes, lambda *progress: None)
        return synthesis.METHODS["idc"](images.read_selection(train, choice), given, seed, watcher, **SHORT)

    whole, second = ran(0, 3, 0), ran(1, 2, 1)
    for size in (1, 2, 3):
        assert len(seen[f"mdc-ipc{size}"]) == len(seen[f"idc-B-ipc{size}"]) == size * classes
        assert np.array_equal(seen[f"idc-C-ipc{size}"].images, whole.prefix(size).images)
    assert np.array_equal(seen["idc-A-ipc2"].images, ran(0, 2, 0).images)
    assert np.array_equal(seen["idc-A-ipc3"].images, whole.images)
    b = seen["idc-B-ipc3"]
    assert np.array_equal(b.images[:classes], seen["idc-A-ipc1"].images)
    assert np.array_equal(b.images[classes : 2 * classes], second.images)
    assert np.array_equal(b.ids, candidates.selection(picks, "random").ids), "every run starts from picks of its own"
    apart = [seen["idc-A-ipc2"].images, whole.prefix(2).images, b.images[: 2 * classes], seen["mdc-ipc2"].images]
    assert len({images.tobytes() for images in apart}) == 4, "no two entries have the same images"


def test_slimmed_sets_decode_to_all_images_from_the_bytes_of_fewer(studied: tuple[Path, Any, dict[str, Any]]) -> None:
    root, _, seen = studied
    whole = seen["idc-A-ipc3"]
    values = components.values_of(whole)
    parts, singular = components.decompose(values)
    rows = {(row["entry"], row["size"]): row for row in table(root / FOLDER / "slimming.csv")}
    assert list(rows) == [(f"idc-{slimming}", size) for slimming in ("lfs", "lbs") for size in "12"]
    results = table(root / FOLDER / "results.csv")
    taken = {(row["entry"], row["size"]): int(row["image_bytes"]) for row in results}
    for place, row in rows.items():
        made, rank = seen["{}-ipc{}".format(*place)], int(row["rank"])
        assert np.array_equal(made.ids, whole.ids) and not np.array_equal(made.images, whole.images)
        assert taken[place] == int(row["bytes"]) <= int(row["budget"]) == taken["idc-C", place[1]]
        assert float(row["tail"]) == pytest.approx(255 * components.tail(singular, rank) / values.size**0.5, abs=1e-4)
        assert float(row["tail"]) <= float(row["coded"]) if place[0] == "idc-lfs" else float(row["coded"]) > 0
        if place[0] == "idc-lfs":
            stored = components.stored(parts.first(rank), values, int(row["bits"]))
            assert np.array_equal(made.images, components.images_of(stored.components().decoded(), whole).images)
    error = np.sqrt(np.mean((seen["idc-lfs-ipc2"].images.astype(float) - whole.images) ** 2))
    assert float(rows["idc-lfs", "2"]["error"]) == pytest.approx(error, abs=1e-3)
    summary = {(row["entry"], row["size"]): row for row in table(root / FOLDER / "summary.csv")}
    needs = [(row["condensations"], row["stored"]) for (_, size), row in summary.items() if size == "average"]
    assert dict(zip(ENTRIES, needs, strict=True)) == {
        **dict.fromkeys(("mdc-loop1", "mdc", "idc-C", "idc-lfs", "real"), ("1", "3")),
        **dict.fromkeys(("idc-A", "idc-lbs"), ("3", "6")),
        "idc-B": ("3", "3"),
    }


def test_students_are_those_of_the_line(studied: tuple[Path, Any, dict[str, ImageSet]], workspace: Path) -> None:
    root, _, seen = studied
    rows = table(root / FOLDER / "results.csv")
    own = run_of("evaluation", softlabels={"method": "none"}).params
    labeller = contenders.Labeller(own.softlabels, own.compression, run_of("x").device, run_of("x").map)
    contender = labeller.hard("b", seen["idc-B-ipc2"], store.Notes(workspace).within("b"))
    accuracy = tiny.by_hand(contender, 5, workspace, content=PARAMS)
    [row] = [row for row in rows if (row["entry"], row["size"], row["seed"]) == ("idc-B", "2", "5")]
    assert float(row["accuracy"]) == round(accuracy, 3)
    assert (int(row["image_bytes"]), row["label_bytes"], row["labels"]) == (contender.image_bytes, "0", "hard")


def test_soft_labels_are_made_for_each_size(studied: tuple[Path, Any, Any]) -> None:
    rows = [row for row in table(studied[0] / FOLDER / "results.csv") if row["entry"] == "real"]
    assert {(row["size"], row["fp16_label_bytes"], row["labels"]) for row in rows} == {
        (str(size), str(2 * 10 * size * 12 * 10), "packed") for size in (1, 2, 3)
    }
    n_bytes = [int(row["label_bytes"]) for row in rows[::3]]
    assert 0 < n_bytes[0] < n_bytes[1] < n_bytes[2]


def test_seconds_are_of_all_runs_that_an_entry_takes(studied: tuple[Path, Any, Any]) -> None:
    rows = {(row["entry"], row["size"]): float(row["seconds"]) for row in table(studied[0] / FOLDER / "summary.csv")}
    assert rows["mdc", "average"] == rows["mdc", "1"] == rows["mdc", "3"]
    assert rows["idc-A", "average"] == pytest.approx(sum(rows["idc-A", size] for size in "123"), abs=0.2)
    assert rows["idc-B", "average"] == pytest.approx(rows["idc-B", "3"], abs=0.1) and rows["idc-B", "1"] > 0


def test_an_interrupted_run_continues_and_does_nothing_twice(studied: tuple[Path, Any, Any], workspace: Path) -> None:
    total: Counter[str] = Counter()
    for where, at in (("idc", 3), ("score", 20), ("train", 2), ("", 0)):
        with pytest.MonkeyPatch.context() as patch:
            calls = watch(patch, where, at)
            with pytest.raises(KeyboardInterrupt) if where else nullcontext():
                run_study()
        total.update(calls)
        assert FOLDER.exists() == (where == "")
    for path in (studied[0] / FOLDER).rglob("*"):
        if path.suffix == ".png" or path.name == "results.csv":
            own = FOLDER / path.relative_to(studied[0] / FOLDER)
            assert own.read_bytes() == path.read_bytes(), own
    assert total == {**WHOLE, "idc": WHOLE["idc"] + 1, "score": WHOLE["score"] + 1, "train": 3, "decompose": 5}


def forbidden(*arguments: Any, **options: Any) -> Any:
    raise AssertionError("this is work")


def test_other_sizes_restart_the_study(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SizesStudy, "check", forbidden)
    for count, listed in enumerate(([1, 3], [3, 1], [3], None), 1):
        write_study(sizes=listed)
        with pytest.raises(AssertionError, match="this is work"):
            run_study()
        assert len(list(Path("scratch").glob("*.notes"))) == (count if count < 2 else count - 1)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"methods": {"x": {"synthesis": {"method": "best"}}}},
            "sizes, x: params.yaml with its changes: synthesis.method: unknown synthesis method 'best'; ",
        ),
        (
            {"methods": {"x": {"evaluation": {"seeds": [1, 2, 3]}}}},
            "sizes, x: a variant may not set evaluation.seeds: ",
        ),
        ({"ipc": 500, "sizes": [1]}, "sizes: selection.ipc is 500 but class "),
        ({"sizes": [4]}, "sizes.sizes has [4], but sizes.ipc is 3; raise ipc or remove larger sizes"),
    ],
)
def test_what_cannot_be_finished_is_refused_before_any_work(
    changes: dict[str, Any], sentence: str, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SizesStudy, "make_images", forbidden)
    write_study(**changes)
    with pytest.raises(DataError) as error:
        run_study()
    assert str(error.value).startswith(f"studies/params.yaml: {sentence}")
    assert "\n" not in str(error.value)
