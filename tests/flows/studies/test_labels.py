"""The study of codecs in a tiny workspace: every cell a row, bytes as on disk, kills, refusals."""

from __future__ import annotations

import io
import shutil
import statistics
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from PIL import Image
from tiny import table

from dcpipe import store
from dcpipe.compression.budget import Budget
from dcpipe.compression.fidelity import fidelity
from dcpipe.evaluation import contenders
from dcpipe.studies import labels as study
from dcpipe.types import DataError
from flows.features import features_stage
from flows.images import images_stage
from flows.selection import selection_stage
from flows.softlabels import softlabels_stage
from flows.synthesis import synthesis_stage
from flows.teacher import teacher_stage

PARAMS = tiny.changed(tiny.PARAMS, selection={"method": "random"}, softlabels={"views": 40})
run_of = partial(tiny.run_of, content=PARAMS)
run_study = partial(tiny.run_study, "labels", content=PARAMS)
STUDY: dict[str, Any] = {
    "codecs": {"svd": {}, "small": {"codec": "lowrank_int8"}, "fresh": {"codec": "field", "options": {"fresh": True}}},
    "ratios": [4, 2, 30],
    "temperatures": [4, 1],
    "students": ["small", "svd"],
    "seeds": [0, 1, 5],
}
OTHERS = {
    "selection": {"selectors": {"random": {}}, "ipc": [1], "seeds": [0, 1, 2]},
    "coefficients": {"base": {"alpha": 1, "beta": 1}, "alpha": [1], "beta": [1], "ipc": 1, "seeds": [0, 1, 2]},
}
FOLDER = Path("data/study/labels")
ROWS = [(name, ratio) for name in ("svd", "small", "fresh") for ratio in ("2.0", "4.0", "30.0")]


def write_study(**changes: Any) -> None:
    tiny.write_studies(**OTHERS, labels={**STUDY, **changes})


@pytest.fixture(scope="module")
def studied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A workspace of real digits after a whole study, which tests only read."""
    root = tmp_path_factory.mktemp("studied")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setenv("DCPIPE_SCRATCH", str(root / "scratch"))
        images_stage(run_of("images"))
        teacher_stage(run_of("teacher"), "main")
        features_stage(run_of("features"))
        selection_stage(run_of("selection"))
        synthesis_stage(run_of("synthesis"))
        softlabels_stage(run_of("softlabels"))
        write_study()
        run_study()
    yield root


@pytest.fixture
def workspace(studied: Path, scratch: Path) -> Path:
    """A copy without the study, to change, as the current folder."""
    shutil.copytree(studied / "data", scratch.parent / "data", ignore=shutil.ignore_patterns("study"))
    write_study()
    return scratch.parent


def test_every_cell_has_a_row_and_so_have_the_baselines(studied: Path) -> None:
    summary = table(studied / FOLDER / "summary.csv")
    baselines = [("uncompressed", ""), ("teacher online", ""), ("hard labels", ""), ("mean label", "")]
    assert [(row["codec"], row["ratio"]) for row in summary] == baselines + ROWS
    teacher = (studied / "data/teacher/main/weights.safetensors").stat().st_size
    assert [int(row["bytes"]) for row in summary[1:3]] == [teacher, 0]
    for row in summary[4:]:
        assert (int(row["fp16_bytes"]), int(row["fp32_bytes"])) == (2 * 20 * 40 * 10, 4 * 20 * 40 * 10)
        if row["note"]:
            assert row["bytes"] == "0" and row["accuracy"] == row["kl_t4"] == ""
        else:
            assert 0 < int(row["bytes"]) <= 16_000 / float(row["ratio"])
    [beyond] = [row for row in summary if row["note"] and row["codec"] == "svd"]
    assert beyond["ratio"] == "30.0"
    assert beyond["note"].startswith("codec 'svd': its arrays take at least ")
    taught = {(row["codec"], row["ratio"]) for row in summary if row["accuracy"]}
    assert taught == {
        *baselines,
        *(place for place in ROWS[:6] if place != ("svd", "30.0") and reached(summary, place)),
    }
    for row in summary:
        if row["accuracy"]:
            own = [
                float(r["accuracy"]) for r in table(studied / FOLDER / "results.csv") if place_of(r) == place_of(row)
            ]
            assert len(own) == 3
            assert float(row["accuracy"]) == pytest.approx(statistics.fmean(own), abs=1e-3)
            assert float(row["std"]) == pytest.approx(statistics.stdev(own), abs=1e-3)


def place_of(row: dict[str, str]) -> tuple[str, str]:
    return row["codec"], row["ratio"]


def reached(summary: list[dict[str, str]], place: tuple[str, str]) -> bool:
    return next(not row["note"] for row in summary if place_of(row) == place)


def test_a_row_is_what_doing_it_by_hand_gives(studied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(studied)
    run = run_of("studies")
    labels, images = store.load_soft_labels(Path("data/softlabels")), store.load_set(Path("data/synthesis"))
    pack = Budget("lowrank_int8", ratio=4).compress(labels, tmp_path, run.device, run.map)
    path = tmp_path / "labels.safetensors"
    store.save_pack(path, pack)
    pack = store.read_pack(path, labels.ids)
    near = fidelity(pack, labels, [1, 4], run.device).over()
    [row] = [row for row in table(FOLDER / "summary.csv") if place_of(row) == ("small", "4.0")]
    assert int(row["bytes"]) == path.stat().st_size
    assert {key: float(row[key]) for key in near} == pytest.approx(near, abs=1e-5)
    hard = contenders.hard_contender("own", "by hand", images, labels.policy, 0, run.device)
    accuracy = tiny.by_hand(hard.with_pack(pack, run.device), 5, tmp_path, content=PARAMS)
    [result] = [r for r in table(FOLDER / "results.csv") if (*place_of(r), r["seed"]) == ("small", "4.0", "5")]
    assert float(result["accuracy"]) == pytest.approx(accuracy, abs=1e-3)


def test_one_mean_label_per_image_is_a_baseline(studied: Path) -> None:
    labels = store.load_soft_labels(studied / "data/softlabels")
    z = np.asarray(labels.logits[:]).astype(np.float64)
    mean = z.mean(axis=1, keepdims=True).astype(np.float16).astype(np.float64) + 0 * z

    def log_softmax(values: np.ndarray) -> np.ndarray:
        return values - np.log(np.exp(values).sum(axis=2, keepdims=True))

    p, q = log_softmax(z / 4), log_softmax(mean / 4)
    [row] = [row for row in table(studied / FOLDER / "summary.csv") if row["codec"] == "mean label"]
    assert float(row["kl_t4"]) == pytest.approx(16 * (np.exp(p) * (p - q)).sum(axis=2).mean(), abs=1e-4)
    assert float(row["agreement"]) == pytest.approx((z.argmax(2) == mean.argmax(2)).mean(), abs=1e-5)
    assert 2 * 20 * 10 < int(row["bytes"]) <= 2 * 20 * 10 + 512  # 20 images, 10 classes, and a header
    assert float(row["bytes_per_image"]) == pytest.approx(int(row["bytes"]) / 20, abs=0.01)
    assert row["seeds"] == "3" and row["accuracy"]


def test_spectra_and_ranks_are_of_each_image_and_class(studied: Path) -> None:
    labels = store.load_soft_labels(studied / "data/softlabels")
    values = np.linalg.svd(np.asarray(labels.logits[:]).astype(np.float64), compute_uv=False)
    energy = np.cumsum(values**2, axis=1) / (values**2).sum(axis=1, keepdims=True)
    ranks = table(studied / FOLDER / "ranks.csv")
    assert [int(row["image"]) for row in ranks] == labels.ids.tolist()
    for share in (0.9, 0.99):
        expected = [int(np.argmax(row >= share - 1e-12)) + 1 for row in energy]
        assert [int(row[f"rank_{share}"]) for row in ranks] == expected
    spectra = table(studied / FOLDER / "spectra.csv")
    assert [row["class"] for row in spectra[::10]] == ["all", *map(str, range(10))]
    relative = values / values[:, :1]
    found = [float(row["median"]) for row in spectra[:10]]
    np.testing.assert_allclose(found, np.median(relative, axis=0), atol=1e-6)
    for name in ("figure", "spectra"):
        with Image.open(io.BytesIO((studied / FOLDER / f"{name}.png").read_bytes())) as image:
            assert image.format == "PNG" and min(image.size) > 300


@pytest.mark.parametrize(("where", "after"), [("score", 5), ("fidelity", 2)])
def test_an_interrupted_run_continues_cell_by_cell(
    where: str, after: int, studied: Path, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = contenders if where == "score" else study
    calls, work = [0], getattr(home, where)

    def dies(*arguments: Any, **options: Any) -> Any:
        calls[0] += 1
        if calls[0] == after + 1:
            raise KeyboardInterrupt
        return work(*arguments, **options)

    monkeypatch.setattr(home, where, dies)
    with pytest.raises(KeyboardInterrupt):
        run_study()
    assert not FOLDER.exists()
    run_study()
    for name in ("results.csv", "spectra.csv", "ranks.csv"):
        assert (FOLDER / name).read_bytes() == (studied / FOLDER / name).read_bytes()
    packs = [row for row in table(FOLDER / "summary.csv") if row["kl_t4"]]
    students = [row for row in table(FOLDER / "summary.csv") if row["accuracy"]]
    assert calls[0] == 1 + (len(packs) if where == "fidelity" else 3 * len(students)), "what was done is not done again"


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"codecs": {"svt": {}}, "students": []}, "labels, svt: unknown codec 'svt'; choose one of"),
        (
            {"codecs": {"svd": {"options": {"bits": 8}}}, "students": []},
            "labels, svd: codec 'svd' takes no options; remove 'bits'",
        ),
        (
            {"codecs": {"field": {"options": {"bits": 5}}}, "students": []},
            "labels, field: codec 'field': bits is 5; give",
        ),
    ],
)
def test_what_cannot_be_run_is_refused_before_any_work(
    changes: dict[str, Any], sentence: str, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_study(**changes)
    monkeypatch.setattr(Budget, "compress", None)
    with pytest.raises(DataError) as error:
        run_study()
    assert str(error.value).startswith(f"studies/params.yaml: {sentence.split('; give')[0]}")


def test_hard_labels_and_empty_splits_are_refused(workspace: Path) -> None:
    with pytest.raises(DataError, match=r"softlabels.method is none: there are no labels to compress; choose stored"):
        run_study(softlabels={"method": "none"})
    images_stage(run_of("images", images={"minival": 0}))
    write_study(split="minival")
    with pytest.raises(DataError, match=r"labels.split is minival, which is empty; raise images.minival, or use test"):
        run_study()
