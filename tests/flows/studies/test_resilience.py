"""The study of resilience in a tiny workspace: labelled once, packed at every ratio, kills, refusals."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from PIL import Image
from tiny import table

from dcpipe import softlabels, store
from dcpipe.evaluation import contenders
from dcpipe.evaluation.contenders import Labeller
from dcpipe.images import read_selection
from dcpipe.reports import pictures
from dcpipe.selection import SELECTORS, Progress, candidates_of
from dcpipe.studies import coresets
from dcpipe.types import DataError
from flows.features import features_stage
from flows.images import images_stage
from flows.teacher import teacher_stage

PARAMS = tiny.changed(
    tiny.PARAMS,
    softlabels={"views": 40},
    compression={"ratio": 10.0, "reference": "fp32"},  # a budget that the study does not use
)
run_of = partial(tiny.run_of, content=PARAMS)
run_study = partial(tiny.run_study, "resilience", content=PARAMS)
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


WORK = {"score": contenders, "pack": Labeller, "label_block": softlabels.shards}  # what is costly, and where it is


def write_study(**changes: Any) -> None:
    tiny.write_studies(resilience={**STUDY, **changes})


def count_calls(patch: pytest.MonkeyPatch, where: str = "", dies_at: int = 0) -> dict[str, int]:
    """Count the costly calls; call number `dies_at` of `where` dies."""
    calls: dict[str, int] = {}

    def counted(name: str, work: Callable[..., Any]) -> Callable[..., Any]:
        def inner(*arguments: Any, **options: Any) -> Any:
            calls[name] = calls.get(name, 0) + 1
            if (name, calls[name]) == (where, dies_at):
                raise KeyboardInterrupt
            if name == "score":  # labels of one coreset are on disk at a time, and the teacher's not at all
                assert len(list(options["folder"].glob("coresets/*/uncompressed.safetensors"))) == 1
                assert not list(options["folder"].glob("coresets/*/labels.zarr"))
            return work(*arguments, **options)

        return inner

    for name, home in WORK.items():
        patch.setattr(home, name, counted(name, getattr(home, name)))
    return calls


@pytest.fixture(scope="module")
def studied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dict[str, int]]]:
    """A workspace of real digits after a whole study, which tests only read, and how often what was done."""
    root = tmp_path_factory.mktemp("studied")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setenv("DCPIPE_SCRATCH", str(root / "scratch"))
        images_stage(run_of("images"))
        teacher_stage(run_of("teacher"), "main")
        features_stage(run_of("features"))
        write_study()
        calls = count_calls(patch)
        run_study()
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
    assert [(row["selector"], row["codec"], row["ratio"], row["seed"]) for row in rows] == [
        (name, codec, ratio, seed)
        for name in ("random", "score", "again")
        for codec, ratio in (("uncompressed", ""), ("mean label", ""), ("svd", "1.25"), ("svd", "4.0"), ("svd", "30.0"))
        for seed in ("0", "1", "5")
    ]
    # Three coresets of random, one of score whatever its name, each of ten shards; 30 times is not reached: no pack.
    assert calls == {"label_block": 4 * 10, "pack": 4 * 4, "score": 3 * 4 + 3 * 4}
    for row in rows:
        if row["ratio"] == "30.0":
            assert row["note"].startswith("codec 'svd': its arrays take at least ")
            assert (row["accuracy"], row["label_bytes"]) == ("", "0")
        elif row["codec"] == "mean label":
            assert 2 * 20 * 10 < int(row["label_bytes"]) < 2 * 20 * 10 + 1000
        elif row["ratio"]:
            assert 0 < int(row["label_bytes"]) <= FP16 / float(row["ratio"])
        else:
            assert FP16 < int(row["label_bytes"]) < FP16 + 2**16
    assert [list(row.values())[1:] for row in rows[15:30]] == [list(row.values())[1:] for row in rows[30:]]
    artifact = store.open_artifact(root / FOLDER, "study")
    assert artifact.meta == {"name": "resilience", "split": "test"}
    assert set(artifact.lineage["inputs"]) == {"images", "features", "teacher main"}


def test_a_row_is_what_doing_it_by_hand_gives(
    studied: tuple[Path, dict[str, int]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What `selection` would find at that budget: the same picks, labels, bytes and student."""
    monkeypatch.chdir(studied[0])
    run = run_of("studies", compression={"ratio": 4.0, "reference": "fp16"})
    train, features = (
        store.table_of(store.open_artifact(Path("data/images"), "images"), "train"),
        store.load_features(Path("data/features")),
    )
    [row] = [
        r for r in table(FOLDER / "results.csv") if (r["selector"], r["ratio"], r["seed"]) == ("score", "4.0", "5")
    ]
    candidates = candidates_of(features, train.classes, tmp_path)
    picks = candidates.selection(SELECTORS["score"](candidates, 2, 5, Progress(), **SCORE), "score")
    assert store.digest_of(picks.ids.tolist())[:12] == row["picks"]
    rates = dict(zip(features.ids.tolist(), features.label_rate.tolist(), strict=True))
    assert float(row["label_rate"]) == pytest.approx(np.mean([rates[i] for i in picks.ids.tolist()]), abs=1e-3)
    teachers = {"main": store.load_teacher(Path("data/teacher/main"))}
    labeller = Labeller(run.params.softlabels, run.params.compression, run.device, run.map)
    images, notes = read_selection(train, picks), store.Notes(tmp_path).within("hand")
    contender = labeller.contender("by hand", images, teachers, notes)
    assert float(row["accuracy"]) == round(tiny.by_hand(contender, 5, tmp_path, content=PARAMS), 3)
    assert int(row["label_bytes"]) == (tmp_path / "hand/labels.safetensors").stat().st_size
    assert int(row["image_bytes"]) == (tmp_path / "hand/images.parquet").stat().st_size
    assert (FOLDER / "picked/score-ipc2.png").read_bytes() == pictures.grid(images, 10, 10)


def test_the_summary_says_what_is_lost(studied: tuple[Path, dict[str, int]]) -> None:
    folder = studied[0] / FOLDER
    rows, summary = table(folder / "results.csv"), table(folder / "summary.csv")
    assert len(summary) == 3 * 5
    for line in summary:
        place = [line[key] for key in ("selector", "codec", "ratio")]
        own = [row for row in rows if [row[key] for key in ("selector", "codec", "ratio")] == place]
        whole = [row for row in rows if (row["selector"], row["codec"]) == (line["selector"], "uncompressed")]
        assert (line["fp16_label_bytes"], bool(line["note"])) == (str(FP16), line["ratio"] == "30.0")
        if not line["note"]:
            assert float(line["bytes_per_image"]) == pytest.approx(int(line["label_bytes"]) / 20, abs=0.01)
            drops = [float(w["accuracy"]) - float(o["accuracy"]) for w, o in zip(whole, own, strict=True)]
            assert float(line["drop"]) == pytest.approx(np.mean(drops), abs=1e-3)
            assert float(line["drop_std"]) == pytest.approx(np.std(drops, ddof=1), abs=1e-3)
    with Image.open(io.BytesIO((folder / "figure.png").read_bytes())) as image:
        assert image.format == "PNG" and min(image.size) > 300


@pytest.mark.parametrize(("where", "after"), [("score", 5), ("pack", 6)])
def test_an_interrupted_run_continues_by_pack_and_by_student(
    where: str,
    after: int,
    studied: tuple[Path, dict[str, int]],
    workspace: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    root, whole = studied
    with pytest.MonkeyPatch.context() as patch:
        first = count_calls(patch, where, after)
        with pytest.raises(KeyboardInterrupt):
            run_study()
    assert not FOLDER.exists()
    rest = count_calls(monkeypatch)
    run_study()
    for name in FILES:
        assert (FOLDER / name).read_bytes() == (root / FOLDER / name).read_bytes(), name
    for name in ("score", "label_block"):
        assert first[name] + rest[name] == whole[name] + (name == where), "what was done stays done"
    assert first["pack"] + rest["pack"] >= whole["pack"], "packs that were there are only read again"


def test_a_coreset_whose_packs_are_gone_is_packed_again(
    studied: tuple[Path, dict[str, int]], workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two seeds may pick the same with another coreset between them, whose work removes the first one's packs."""
    select = coresets.timed_picks
    monkeypatch.setattr(
        coresets,
        "timed_picks",
        lambda context, cell: select(context, replace(cell, seed=0 if cell.seed == 5 else cell.seed)),
    )
    write_study(selectors={"random": {}}, ratios=[4])
    calls = count_calls(monkeypatch)
    run_study()
    rows = table(FOLDER / "results.csv")
    assert [row["picks"] for row in rows[:3]] == [rows[0]["picks"], rows[1]["picks"], rows[0]["picks"]]
    assert len({row["picks"] for row in rows}) == 2
    assert calls == {"label_block": 3 * 10, "pack": 3 * 3, "score": 3 * 3}


def forbidden(*arguments: Any, **options: Any) -> Any:
    raise AssertionError("this is work")


@pytest.mark.parametrize(
    ("change", "blocks", "sentence"),
    [
        ({}, {"softlabels": {"method": "none"}}, "softlabels.method is none: there are no labels to compress; choose"),
        ({}, {"compression": {"codec": "none"}}, "compression.codec is none: nothing would be compressed; choose a"),
        ({"ratios": [40, 30]}, {}, "studies/params.yaml: resilience, svd-30x: codec 'svd': its arrays take at least "),
        (
            {},
            {"compression": {"options": {"bits": 8}}},
            "params.yaml: compression.options: codec 'svd' takes no options; remove 'bits'",
        ),
        ({"selectors": {"best": {}}}, {}, "studies/params.yaml: resilience, best: unknown selector 'best'; choose one"),
    ],
)
def test_what_cannot_be_finished_is_refused_before_any_work(
    change: dict[str, Any], blocks: dict[str, Any], sentence: str, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coresets, "timed_picks", forbidden)
    write_study(**change)
    with pytest.raises(DataError) as error:
        run_study(**blocks)
    assert str(error.value).startswith(sentence) and "\n" not in str(error.value)
    assert not FOLDER.exists()
