"""The study of compressions in a tiny workspace: labelled once, packed by every codec, kills, curves, refusals."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from PIL import Image
from tiny import table
from variant_studies import Calls, counting, forbidden, in_scratch

from dcpipe import softlabels, store, synthesis
from dcpipe.evaluation import contenders
from dcpipe.evaluation.contenders import Labeller
from dcpipe.studies.compressions import CompressionsStudy
from dcpipe.types import DataError
from flows.features import features_stage
from flows.images import images_stage
from flows.teacher import teacher_stage

PARAMS = tiny.changed(
    tiny.PARAMS,
    softlabels={"views": 40},
    compression={"ratio": 1.0, "reference": "fp32"},  # a budget that the study does not use
)
run_of = partial(tiny.run_of, content=PARAMS)
run_study = partial(tiny.run_study, content=PARAMS)
RANDOM = {"selection": {"method": "random"}}
VARIANTS: dict[str, Any] = {
    "random": RANDOM,
    "rded": {**RANDOM, "synthesis": {"method": "rded", "options": {"candidates": 5, "scale_min": 0.5}}},
    "batch": {**RANDOM, "evaluation": {"batch_size": 5}},
}
STUDY: dict[str, Any] = {
    "variants": VARIANTS,
    "codecs": {"svd": {}, "lpld": {"codec": "prune"}},
    "ratios": [30, 2],
    "ipc": [2, 1],
    "tests": 2,
    "seeds": [0, 1, 5],
}
FOLDER = Path("data/study/compressions")
ROWS = [("uncompressed", ""), ("mean label", ""), ("svd", "2.0"), ("svd", "30.0"), ("lpld", "2.0"), ("lpld", "30.0")]
PLACE = ("variant", "ipc", "codec", "ratio")
SETS = 3 * 2
REACHED = 4  # of the six rows of a set; no codec reaches 30 times


def write_study(**changes: Any) -> None:
    tiny.write_studies(compressions={**STUDY, **changes})


def watch(patch: pytest.MonkeyPatch, where: str = "", dies_at: int = 0) -> Calls:
    """Count the costly calls; call number `dies_at` of `where` dies."""
    calls: Calls = {}
    for name in ("none", "rded"):
        patch.setitem(synthesis.METHODS, name, counting(calls, synthesis.METHODS[name]))
    for home, name in ((softlabels, "fill"), (contenders, "score"), (Labeller, "pack")):
        patch.setattr(home, name, counting(calls, getattr(home, name), dies_at if name == where else 0))
    return calls


@pytest.fixture(scope="module")
def compressed(cached_code_digest: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Calls]]:
    """A workspace of real digits after a whole study, which tests only read, and the number of calls it took."""
    root = tmp_path_factory.mktemp("compressed")
    with pytest.MonkeyPatch.context() as patch:
        in_scratch(patch, root)
        images_stage(run_of("images"))
        teacher_stage(run_of("teacher"), "main")
        features_stage(run_of("features"))
        write_study()
        calls = watch(patch)
        run_study("compressions")
    yield root, calls


@pytest.fixture
def own(compressed: tuple[Path, Calls], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the workspace without the study, which is the current folder and may be changed."""
    shutil.copytree(compressed[0] / "data", tmp_path / "data", ignore=shutil.ignore_patterns("study"))
    in_scratch(monkeypatch, tmp_path)
    write_study()
    return tmp_path


def test_every_set_has_rows_for_every_codec_and_is_made_and_labelled_once(compressed: tuple[Path, Calls]) -> None:
    root, calls = compressed
    rows = table(root / FOLDER / "results.csv")
    assert [tuple(row[key] for key in (*PLACE, "seed")) for row in rows] == [
        (name, ipc, *place, seed) for name in VARIANTS for ipc in "12" for place in ROWS for seed in "015"
    ]
    # `random` and `batch` share their images. A set is labelled once for all its packs.
    expected = {"none": 2, "rded": 2, "fill": SETS, "pack": REACHED * SETS, "score": 3 * REACHED * SETS}
    assert calls == expected
    for row in rows:
        images, n_bytes = 10 * int(row["ipc"]), int(row["label_bytes"])
        fp16 = 2 * images * 40 * 10
        assert int(row["fp16_label_bytes"]) == fp16 and int(row["image_bytes"]) > 0
        if row["ratio"] == "30.0":
            codec = row["codec"].replace("lpld", "prune")
            assert row["note"].startswith(f"codec '{codec}': ") and (row["accuracy"], n_bytes) == ("", 0)
            continue
        assert row["note"] == "" and float(row["bytes_per_image"]) == pytest.approx(n_bytes / images, abs=0.01)
        if row["codec"] == "uncompressed":
            assert fp16 < n_bytes < fp16 + 2**16
        elif row["codec"] == "mean label":
            assert 2 * images * 10 < n_bytes < 2 * images * 10 + 1000
        else:
            assert 0 < n_bytes <= fp16 / 2
    artifact = store.open_artifact(root / FOLDER, "study")
    assert artifact.meta == {"name": "compressions", "split": "test"}
    assert set(artifact.lineage["inputs"]) == {"images", "features", "teacher main"}


def test_rows_are_those_of_other_studies_with_this_codec(own: Path, compressed: tuple[Path, Calls]) -> None:
    """The same images, labels, bytes and students as where a variant sets the codec."""
    rows = table(compressed[0] / FOLDER / "results.csv")
    codecs: dict[tuple[str, str], dict[str, Any]] = {
        ("uncompressed", ""): {"codec": "none", "ratio": None, "reference": None},
        ("mean label", ""): {"codec": "mean_label", "ratio": 1, "reference": None},
        ("svd", "2.0"): {"ratio": 2, "reference": None},
    }
    variants = {f"{n}-{i}": {**VARIANTS[n], "compression": c} for n in VARIANTS for i, c in enumerate(codecs.values())}
    tiny.write_studies(syntheses={"variants": variants, "ipc": [2], "seeds": STUDY["seeds"]})
    run_study("syntheses")
    found = table(Path("data/study/syntheses/results.csv"))
    assert len(found) == 3 * 3 * 3
    for row in found:
        name, index = row["variant"].split("-")
        place = (name, "2", *list(codecs)[int(index)], row["seed"])
        [same] = [r for r in rows if tuple(r[key] for key in (*PLACE, "seed")) == place]
        for key in ("accuracy", "image_bytes", "label_bytes", "synthesis", "student", "protocol"):
            assert row[key] == same[key], (place, key)


def test_the_summary_says_what_is_lost(compressed: tuple[Path, Calls]) -> None:
    folder = compressed[0] / FOLDER
    rows, summary = table(folder / "results.csv"), table(folder / "summary.csv")
    assert len(summary) == SETS * len(ROWS)
    accuracies = {tuple(row[key] for key in (*PLACE, "seed")): row["accuracy"] for row in rows}
    for line in summary:
        place = tuple(line[key] for key in PLACE)
        if line["note"]:
            assert line["ratio"] == "30.0" and {line[key] for key in ("accuracy", "std", "drop", "drop_std")} == {""}
            assert (line["seeds"], line["label_bytes"]) == ("0", "0")
            continue
        after = [float(accuracies[(*place, seed)]) for seed in "015"]
        before = [float(accuracies[(*place[:2], "uncompressed", "", seed)]) for seed in "015"]
        lost = np.subtract(before, after)
        assert float(line["accuracy"]) == pytest.approx(np.mean(after), abs=1e-3)
        assert float(line["drop"]) == pytest.approx(np.mean(lost), abs=1e-3)
        assert float(line["drop_std"]) == pytest.approx(np.std(lost, ddof=1), abs=1e-3)
        assert line["seeds"] == "3"


def test_curves_end_at_the_accuracy_of_the_table(compressed: tuple[Path, Calls]) -> None:
    folder = compressed[0] / FOLDER
    curves = table(folder / "curves.csv")
    assert [row["epoch"] for row in curves] == ["1", "2"] * (SETS * REACHED)
    means = {tuple(row[key] for key in PLACE): row for row in table(folder / "summary.csv") if not row["note"]}
    ends = {tuple(row[key] for key in PLACE): row for row in curves if row["epoch"] == "2"}
    assert list(ends) == list(means)
    for place, end in ends.items():
        assert float(end["accuracy"]) == pytest.approx(float(means[place]["accuracy"]), abs=2e-3)
    for name in ("figure", "curves", "images/random-ipc1", "images/rded-ipc2"):
        with Image.open(io.BytesIO((folder / f"{name}.png").read_bytes())) as image:
            assert image.format == "PNG"


@pytest.mark.parametrize(("where", "after"), [("score", 17), ("pack", 6)])
def test_an_interrupted_run_continues_by_pack_and_by_student(
    where: str, after: int, compressed: tuple[Path, Calls], own: Path
) -> None:
    root, whole = compressed
    with pytest.MonkeyPatch.context() as patch:
        first = watch(patch, where, after)
        with pytest.raises(KeyboardInterrupt):
            run_study("compressions")
    assert not FOLDER.exists()
    with pytest.MonkeyPatch.context() as patch:
        rest = watch(patch)
        run_study("compressions")
    for name in ("results.csv", "summary.csv", "curves.csv", "figure.png", "curves.png"):
        assert (FOLDER / name).read_bytes() == (root / FOLDER / name).read_bytes(), name
    assert first["score"] + rest["score"] == whole["score"] + (where == "score"), "no student is trained twice"
    assert {first.get(name, 0) + rest.get(name, 0) for name in ("none", "rded")} == {2}


def test_without_curves_accuracies_are_the_same(own: Path, compressed: tuple[Path, Calls]) -> None:
    write_study(variants={"random": RANDOM}, ipc=[1], tests=0)
    run_study("compressions")
    rows = table(compressed[0] / FOLDER / "results.csv")
    assert table(FOLDER / "results.csv") == [r for r in rows if (r["variant"], r["ipc"]) == ("random", "1")]
    assert {path.name for path in FOLDER.glob("*.*")} == {"artifact.json", "results.csv", "summary.csv", "figure.png"}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"ratios": [40, 30]}, "studies/params.yaml: compressions: no codec reaches any of the ratios: codec 'svd': "),
        ({"codecs": {"none": {}}}, "studies/params.yaml: compressions, none: codec 'none' takes no budget, and "),
        ({"codecs": {"best": {}}}, "studies/params.yaml: compressions, best: unknown codec 'best'; choose one of "),
        (
            {"variants": {"wrong": {"compression": {"ratio": 2}}}},
            "studies/params.yaml: compressions, wrong: a variant may not change compression: codecs and ratios of ",
        ),
        (
            {
                "codecs": {"prune": {"options": {"granularity": "batch", "batch_size": 5}}},
                "variants": {"right": {}, "wrong": {"softlabels": {"mix": "cutmix_labels"}}},
                "ratios": [2],
            },
            "studies/params.yaml: compressions, wrong, ipc 2, prune-2x: codec 'prune' stores view ",
        ),
        ({"ipc": [500]}, "studies/params.yaml: compressions: selection.ipc is 500 but class "),
    ],
)
def test_what_cannot_be_finished_is_refused_before_any_work(
    change: dict[str, Any], sentence: str, own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CompressionsStudy, "make_images", forbidden)
    write_study(**change)
    with pytest.raises(DataError) as error:
        run_study("compressions")
    assert str(error.value).startswith(sentence) and "\n" not in str(error.value)
    assert not FOLDER.exists()
