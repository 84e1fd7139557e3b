"""The study of resilience in a tiny workspace: labelled once, packed at every ratio, kills, refusals."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import yaml
from PIL import Image
from tiny import table

from dcpipe import store
from dcpipe.reports import pictures
from dcpipe.types import DataError, Selection
from flows import contenders
from flows.contenders import contender_of, one_score, pack_into, protocol_of, write_labels
from flows.features import features_stage
from flows.images import images_stage
from flows.studies import resilience as flow
from flows.studies.resilience import resilience_stage
from flows.studies.selectors import study_stage
from flows.synthesis import picked
from flows.teacher import teacher_stage

PARAMS = tiny.changed(
    tiny.PARAMS,
    softlabels={"views": 40},
    compression={"ratio": 1000.0, "reference": "fp32"},  # a budget that the study does not use
)
run_of = partial(tiny.run_of, content=PARAMS)
SCORE = {"alpha": 1.0, "beta": 0.1}
STUDY: dict[str, Any] = {
    "selectors": {"random": {}, "score": {"options": SCORE}, "again": {"method": "score", "options": SCORE}},
    "ratios": [4, 1.25, 30],
    "ipc": 2,
    "seeds": [0, 1, 5],
}
FOLDER = Path("data/study/resilience")
FILES = ("results.csv", "summary.csv", "figure.png", "picked/random-ipc2.png")
FP16 = 2 * 20 * 40 * 10


def write_study(**changes: Any) -> None:
    Path("studies").mkdir(exist_ok=True)
    Path("studies/params.yaml").write_text(
        yaml.safe_dump({"resilience": {**STUDY, **changes}}, sort_keys=False), encoding="utf-8"
    )


def counting(calls: dict[str, int], work: Callable[..., Any], dies_at: int = 0) -> Callable[..., Any]:
    """`work`, its calls counted by name; the one numbered `dies_at` dies."""

    def counted(*arguments: Any) -> Any:
        calls[work.__name__] = calls.get(work.__name__, 0) + 1
        if calls[work.__name__] == dies_at:
            raise KeyboardInterrupt
        if work is one_score:  # labels of one coreset are on disk at a time, and the teacher's not at all
            notes = arguments[-1].parent
            assert len(list(notes.glob("*/uncompressed.safetensors"))) == 1
            assert not list(notes.glob("*/labels.zarr"))
        return work(*arguments)

    return counted


@pytest.fixture(scope="module")
def studied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dict[str, int]]]:
    """A workspace of real digits after a whole study, which tests only read, and how often what was done."""
    root, calls = tmp_path_factory.mktemp("studied"), dict[str, int]()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setenv("DCPIPE_SCRATCH", str(root / "scratch"))
        images_stage(run_of("images"))
        teacher_stage(run_of("teacher"), "main")
        features_stage(run_of("features"))
        write_study()
        patch.setattr(flow, "one_score", counting(calls, one_score))
        patch.setattr(flow, "pack_into", counting(calls, pack_into))
        patch.setattr(contenders, "write_labels", counting(calls, write_labels))
        resilience_stage(run_of("resilience"))
    yield root, calls


@pytest.fixture
def workspace(studied: tuple[Path, dict[str, int]], scratch: Path) -> Path:
    """A copy without the study, to change, as the current folder."""
    shutil.copytree(studied[0] / "data", scratch.parent / "data", ignore=shutil.ignore_patterns("study"))
    write_study()
    return scratch.parent


def test_every_selector_has_a_row_at_every_ratio_and_is_labelled_once(studied: tuple[Path, dict[str, int]]) -> None:
    root, calls = studied
    rows = table(root / FOLDER / "results.csv")
    assert [(row["selector"], row["ratio"], row["seed"]) for row in rows] == [
        (name, ratio, seed)
        for name in ("random", "score", "again")
        for ratio in ("", "1.25", "4.0", "30.0")
        for seed in ("0", "1", "5")
    ]
    # Three coresets of random, one of score whatever its name; 30 times is not reached and has no student.
    assert calls == {"write_labels": 4, "pack_into": 4 * 4, "one_score": 3 * 3 + 3 * 3}
    for row in rows:
        if row["ratio"] == "30.0":
            assert row["note"].startswith("codec 'svd': its arrays take at least ")
            assert (row["accuracy"], row["label_bytes"]) == ("", "0")
        elif row["ratio"]:
            assert 0 < int(row["label_bytes"]) <= FP16 / float(row["ratio"])
        else:
            assert FP16 < int(row["label_bytes"]) < FP16 + 2**16
    assert [list(row.values())[1:] for row in rows[12:24]] == [list(row.values())[1:] for row in rows[24:]]
    artifact = store.open_artifact(root / FOLDER, "study")
    assert artifact.meta == {"name": "resilience", "split": "test"}
    assert set(artifact.lineage["inputs"]) == {"images", "features", "teacher main"}


def test_a_row_is_what_doing_it_by_hand_gives(
    studied: tuple[Path, dict[str, int]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What `selection` would find at that budget: the same labels, bytes and student."""
    monkeypatch.chdir(studied[0])
    run = run_of("study", compression={"ratio": 4.0, "reference": "fp16"})
    source = store.open_artifact(Path("data/images"), "images")
    train, test = (store.table_of(source, split) for split in ("train", "test"))
    [row] = [
        r for r in table(FOLDER / "results.csv") if (r["selector"], r["ratio"], r["seed"]) == ("score", "4.0", "5")
    ]
    features = store.load_features(Path("data/features"))
    # The picks are known by their digest: score's own, as the study of selectors makes them.
    Path("studies/params.yaml").write_text(
        yaml.safe_dump(
            {"selection": {"selectors": STUDY["selectors"], "ipc": [2], "seeds": [0, 1, 5]}}, sort_keys=False
        ),
        encoding="utf-8",
    )
    monkeypatch.setenv("DCPIPE_SCRATCH", str(tmp_path / "scratch"))
    seen: list[Selection] = []
    monkeypatch.setattr(
        "flows.studies.selectors.judge", lambda run, scene, chosen: seen.extend(one.picks for one in chosen) or 1 / 0
    )
    with pytest.raises(ZeroDivisionError):
        study_stage(run, "selection")
    picks = seen[5]
    assert store.digest_of(picks.ids.tolist())[:12] == row["picks"]
    rates = dict(zip(features.ids.tolist(), features.label_rate.tolist(), strict=True))
    assert float(row["label_rate"]) == pytest.approx(np.mean([rates[i] for i in picks.ids.tolist()]), abs=1e-3)
    teachers = {"main": store.load_teacher(Path("data/teacher/main"))}
    contender = contender_of(run, "by hand", picked(train, picks), teachers, tmp_path / "hand")
    score = one_score(run, contender, protocol_of(run.params.evaluation), train, test, 5, tmp_path)
    assert float(row["accuracy"]) == round(score["accuracy"], 3)
    assert int(row["label_bytes"]) == (tmp_path / "hand/labels.safetensors").stat().st_size
    assert int(row["image_bytes"]) == (tmp_path / "hand/images.parquet").stat().st_size
    assert (FOLDER / "picked/score-ipc2.png").read_bytes() == pictures.grid(picked(train, picks), 10, 10)


def test_the_summary_says_what_is_lost(studied: tuple[Path, dict[str, int]]) -> None:
    folder = studied[0] / FOLDER
    rows, summary = table(folder / "results.csv"), table(folder / "summary.csv")
    assert len(summary) == 3 * 4
    for its in summary:
        own = [row for row in rows if (row["selector"], row["ratio"]) == (its["selector"], its["ratio"])]
        whole = [row for row in rows if (row["selector"], row["ratio"]) == (its["selector"], "")]
        assert (its["fp16_label_bytes"], bool(its["note"])) == (str(FP16), its["ratio"] == "30.0")
        if not its["note"]:
            drops = [float(w["accuracy"]) - float(o["accuracy"]) for w, o in zip(whole, own, strict=True)]
            assert float(its["drop"]) == pytest.approx(np.mean(drops), abs=1e-3)
            assert float(its["drop_std"]) == pytest.approx(np.std(drops, ddof=1), abs=1e-3)
    with Image.open(io.BytesIO((folder / "figure.png").read_bytes())) as image:
        assert image.format == "PNG" and min(image.size) > 300


@pytest.mark.parametrize(("where", "after"), [("one_score", 5), ("pack_into", 6)])
def test_a_broken_run_goes_on_pack_by_pack_and_student_by_student(
    where: str,
    after: int,
    studied: tuple[Path, dict[str, int]],
    workspace: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    root, whole = studied
    calls: dict[str, int] = {}
    for work in (one_score, pack_into):
        monkeypatch.setattr(flow, work.__name__, counting(calls, work, after if work.__name__ == where else 0))
    with pytest.raises(KeyboardInterrupt):
        resilience_stage(run_of("resilience"))
    assert not FOLDER.exists()
    resilience_stage(run_of("resilience"))
    for name in FILES:
        assert (FOLDER / name).read_bytes() == (root / FOLDER / name).read_bytes(), name
    assert calls == {**{name: whole[name] for name in calls}, where: whole[where] + 1}, "what was done stays done"


def forbidden(*arguments: Any) -> Any:
    raise AssertionError("this is work")


@pytest.mark.parametrize(
    ("change", "blocks", "sentence"),
    [
        ({}, {"softlabels": {"method": "none"}}, "softlabels.method is none: there are no labels to compress; choose"),
        ({}, {"compression": {"codec": "none"}}, "compression.codec is none: nothing would be compressed; choose a"),
        ({"ratios": [40, 30]}, {}, "studies/params.yaml: resilience, 30x: codec 'svd': its arrays take at least "),
        (
            {},
            {"compression": {"options": {"bits": 8}}},
            "studies/params.yaml: resilience, 1.25x: codec 'svd' has no option 'bits'",
        ),
        ({"selectors": {"best": {}}}, {}, "studies/params.yaml: resilience, best: unknown selector 'best'; choose one"),
    ],
)
def test_what_cannot_be_finished_is_refused_before_any_work(
    change: dict[str, Any], blocks: dict[str, Any], sentence: str, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flow, "select", forbidden)
    write_study(**change)
    with pytest.raises(DataError) as error:
        resilience_stage(run_of("resilience", **blocks))
    assert str(error.value).startswith(sentence) and "\n" not in str(error.value)
    assert not FOLDER.exists()


def test_it_is_no_study_at_the_workspaces_budget(workspace: Path) -> None:
    with pytest.raises(DataError) as error:
        study_stage(run_of("study"), "resilience")
    sentence = "study 'resilience' is of ratios, and has a flow of its own; run `dcpipe study resilience`"
    assert str(error.value) == sentence
