"""Gradient matching in a real line: every method by `dvc repro`, a killed MDC, and the study of sizes in miniature."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from workspaces import TINY, Workspace, stages_run

import dcpipe
from dcpipe import images, store
from dcpipe.types import Score

pytestmark = pytest.mark.pipeline
SMALL: dict[str, Any] = {
    "teacher": {**TINY["teacher"], "training": {**TINY["teacher"]["training"], "epochs": 2}},
    "selection": {"method": "random", "ipc": 3},
    "softlabels": {
        **{"method": "none", "teachers": ["convnet"], "views": 8},
        "augmentation": {"scale_min": 1.0, "flip": 0.0, "siamese": "color_crop_scale_rotate"},  # of idc/mnist
    },
    "compression": {"codec": "none"},
    "evaluation": {"protocol": "idc/mnist", "student": "convnet-d1-w4", "epochs": 1}
    | {"baselines": ["random"], "sizes": [1, 3]},
}
SHORT: dict[str, Any] = {"network": "convnet-d2-w4", "outer": 2, "inner": 2, "real_batch": 4}
DSA = {**SHORT, "strategy": "dsa:color_crop_cutout_scale_rotate"}
# A rate at which so few steps move u8 pixels.
IDC = {**SHORT, "learn_images": 8, "lr": 5.0}
# Method, options and the grid of what comes out. `dsa` and `dream`, which differ from `dc` and `idc` by options or by
# which images they take, run in the tests of the engine.
METHODS: list[tuple[str, dict[str, Any], int]] = [
    ("dc", {**SHORT, "network": "convnet-d1-w4", "learn_epochs": 1}, 1),
    ("dm", DSA, 1),
    ("idc", {**IDC, "factor": 2}, 2),
    ("mdc", {"base": "dream", "options": {**IDC, "factor": 2}, "period": 1}, 2),
]
AFTER = ["softlabels", "compression", "evaluation", "release"]
SIZES: dict[str, Any] = {
    "methods": {
        "mdc": {"synthesis": {"method": "mdc", "options": {"base": "idc", "options": IDC, "period": 1}}},
        "idc": {"synthesis": {"method": "idc", "options": IDC}, "baselines": ["A", "C", "lfs", "lbs"]},
    },
    "ipc": 3,
    "seeds": [0, 1, 2],
}


def method_of(workspace: Workspace, method: str, **options: Any) -> None:
    workspace.params(**SMALL, synthesis={"method": method, "options": options})


def read_release(folder: Path, grid: int) -> None:
    """The first two images of every class are those that synthesis made, and students get their cells."""
    release, whole = dcpipe.load(folder, ipc=2), store.load_set(folder.with_name("synthesis"))
    mine = release.images
    assert release.pack is None and mine.grid == grid and len(mine) == 20
    for label in range(10):
        expected = whole.images[whole.labels == label][:2]
        assert mine.images[mine.labels == label].tobytes() == expected.tobytes()
    dataset = release.dataset()
    dataset.set_epoch(0)
    inputs, targets = dataset.batch(np.arange(len(dataset)))
    assert tuple(inputs.shape) == (10 * 2 * grid**2, 3, 8, 8)
    assert np.array_equal(targets.numpy(), np.eye(10)[np.repeat(mine.labels, grid**2)])


def told_at_each_size(data: Path, scores: Sequence[Score]) -> None:
    """Students of the first image of each class and of all three, beside as many random ones, and their average."""
    names = ["mdc, hard labels", "mdc, hard labels, first 1", "random, hard labels", "random, hard labels, first 1"]
    assert [(score.name, score.ipc) for score in scores] == list(zip(names, (3, 1, 3, 1), strict=True))
    assert scores[1].image_bytes < scores[0].image_bytes
    with (data / "evaluation/sizes.csv").open(encoding="utf-8", newline="") as stream:
        rows = {(row["entry"], int(row["size"])): float(row["accuracy"]) for row in csv.DictReader(stream)}
    expected = {
        (name, size): score
        for name, whole in ((names[0], 0), (names[2], 2))
        for size, score in ((1, scores[whole + 1]), (3, scores[whole]))
    }
    assert rows == {key: pytest.approx(score.mean, abs=0.01) for key, score in expected.items()}
    averages = json.loads((data / "evaluation/metrics.json").read_text(encoding="utf-8"))["average"]
    for kind, name in (("set", names[0]), ("random", names[2])):
        assert averages[kind] == pytest.approx((rows[name, 1] + rows[name, 3]) / 2, abs=0.02)


@pytest.fixture(scope="module")
def built(make_workspace: Callable[[str], Workspace]) -> Iterator[Workspace]:
    """A workspace whose line has run up to what synthesis starts from; tests copy it."""
    workspace = make_workspace("matching")
    method_of(workspace, "none")
    workspace.run("dvc", "repro", "selection")
    yield workspace


@pytest.fixture
def workspace(built: Workspace, tmp_path: Path) -> Workspace:
    """A copy that a test may change."""
    return built.copy(tmp_path)


def test_methods_of_single_images_are_values_of_synthesis_method(workspace: Workspace) -> None:
    each_makes_other_images(workspace, METHODS[:2])


def test_methods_of_grids_and_mdc_are_values_of_synthesis_method(workspace: Workspace) -> None:
    """And of the last, students learn and a release holds it."""
    data = workspace.root / "data"
    each_makes_other_images(workspace, METHODS[2:], whole=True)
    score, *others = store.load_scores(data / "evaluation/scores")
    assert (score.name, score.protocol) == ("mdc, hard labels", "idc/mnist with epochs 1")
    assert (score.ipc, len(score.accuracy), score.label_bytes) == (3, 3, 0)
    assert score.image_bytes == (data / "synthesis/images.parquet").stat().st_size
    told_at_each_size(data, [score, *others])
    with (data / "synthesis/subsets.csv").open(encoding="utf-8", newline="") as stream:
        assert {row["subset"] for row in csv.DictReader(stream)} <= {"1", "2"}
    assert (data / "synthesis/subsets.png").read_bytes().startswith(b"\x89PNG")
    read_release(data / "release", grid=METHODS[-1][2])
    card = (data / "release/README.md").read_text(encoding="utf-8")
    assert "picked by `random` and refined by `mdc`" in card and "base: dream" in card
    assert stages_run(workspace.run("dvc", "repro")) == []


def test_labels_and_whitening_of_mdc_on_mtt_reach_students_and_the_release(workspace: Workspace) -> None:
    few = {"network": "convnet-d1-w4", "iterations": 2, "steps": 2, "start_below": 1, "experts": 2, "expert_epochs": 2}
    labels = {"softlabels": {**SMALL["softlabels"], "method": "learned", "views": 1}}
    packed = {"compression": {"codec": "mean_label", "bytes_per_image": 100}}
    few |= {"lr_labels": 1.0, "initial": "predicted", "whitening": 0.1}
    learned = {"method": "mdc", "options": {"base": "mtt", "options": few, "period": 1}}
    evaluation = SMALL["evaluation"] | {"lr": "learned"}
    workspace.params(**SMALL | labels | packed | {"synthesis": learned, "evaluation": evaluation})
    assert stages_run(workspace.run("dvc", "repro")) == ["synthesis", *AFTER]
    data = workspace.root / "data"
    artifact = store.open_artifact(data / "synthesis", "synthesis")
    with (data / "synthesis/experts.csv").open(encoding="utf-8", newline="") as stream:
        assert [len(row["sha256"]) for row in csv.DictReader(stream)] == [64, 64]
    rate = float(store.load_learned(artifact)["rate"])
    logits = store.load_learned(artifact)["logits"].astype(np.float16).astype(np.float32)
    names = ["mdc, mean_label", "mdc, mean_label, first 1", "random, hard labels", "random, hard labels, first 1"]
    scores = store.load_scores(data / "evaluation/scores")
    assert [score.name for score in scores] == names
    assert {score.protocol for score in scores} == {f"idc/mnist with epochs 1, lr {rate:g}"}
    transform = store.whitening_file(artifact)
    assert transform is not None
    sizes = {score.image_bytes - transform.stat().st_size for score in scores}
    assert artifact.file("images.parquet").stat().st_size in sizes and min(sizes) > 0
    with (data / "synthesis/whitening.csv").open(encoding="utf-8", newline="") as stream:
        [row] = csv.DictReader(stream)
    assert float(row["eps"]) == 0.1 and 0 < float(row["rounding"]) < 0.6
    release = dcpipe.load(data / "release")
    assert (data / "release" / transform.name).read_bytes() == transform.read_bytes()
    assert release.whitening is not None and release.manifest["whitening"] == 0.1
    assert release.manifest["params"]["evaluation"]["lr"] == pytest.approx(rate) and not release.manifest["teachers"]
    assert np.array_equal(release.images.ids, store.load_set(data / "synthesis").ids)
    for epoch in (0, 5):
        dataset = release.dataset()
        dataset.set_epoch(epoch)
        given = dataset.batch(np.arange(len(dataset)))[1].numpy()
        shown = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        assert np.allclose(given[np.lexsort(given.T)], shown[np.lexsort(shown.T)], atol=1e-3)


def each_makes_other_images(
    workspace: Workspace, methods: list[tuple[str, dict[str, Any], int]], whole: bool = False
) -> None:
    """Changed in params.yaml alone: other images come out. With `whole`, the last goes through the whole line."""
    data = workspace.root / "data"
    selected = store.load_selection(data / "selection")
    table = store.table_of(store.open_artifact(data / "images", "images"), "train")
    row_of = {number: row for row, number in enumerate(table.ids.tolist())}
    rows = np.array([row_of[number] for number in selected.ids.tolist()])
    seen, digests = {images.read_rows(table, rows).tobytes()}, set()
    for number, (method, options, grid) in enumerate(methods, 1):
        method_of(workspace, method, **options)
        on = whole and number == len(methods)
        told = workspace.run("dvc", "repro", *([] if on else ["synthesis"]))
        assert stages_run(told) == ["synthesis", *(AFTER if on else [])]
        artifact = store.open_artifact(data / "synthesis", "synthesis")
        condensed = store.load_set(artifact.path)
        assert condensed.ids.tolist() == selected.ids.tolist() and condensed.images.shape == (30, 8, 8, 3)
        assert condensed.labels.tolist() == selected.labels.tolist() and condensed.grid == grid
        assert artifact.digest not in digests and condensed.images.tobytes() not in seen, (method, options)
        digests.add(artifact.digest)
        seen.add(condensed.images.tobytes())


def test_a_killed_mdc_ends_with_the_same_images(workspace: Workspace) -> None:
    """SIGKILL in two of its outer loops, and the checkpoint is what it goes on from."""
    options = {**IDC, "factor": 2, "outer": 20, "inner": 6}
    method_of(workspace, "mdc", base="idc", options=options, period=2)
    env = {"DCPIPE_CHECKPOINT_SECONDS": "0"}
    folder = workspace.root / "data/synthesis"
    workspace.stage("synthesis")
    unbroken = store.open_artifact(folder, "synthesis").digest
    shutil.rmtree(folder)

    def place() -> int:
        """Inner steps that the checkpoint holds; -1 without one."""
        kept = workspace.kept("matching.pt")
        return 6 * kept["loop"] + kept["step"] if kept else -1

    assert place() == -1
    first = workspace.kill("synthesis", place, 15, **env)
    second = workspace.kill("synthesis", place, 50, **env)
    assert 15 <= first[-1] < 50 <= second[-1] < 120 and not folder.exists()
    assert min(second) >= first[-1], "the second run went on from the first one's checkpoint"
    workspace.stage("synthesis", **env)
    assert store.open_artifact(folder, "synthesis").digest == unbroken


def test_a_study_of_sizes_is_made_once_and_shown(workspace: Workspace) -> None:
    method_of(workspace, "none")
    path = workspace.root / "studies/params.yaml"
    path.write_text(yaml.safe_dump({"sizes": SIZES}, sort_keys=False), encoding="utf-8")
    told = workspace.run("dcpipe", "study", "sizes", COLUMNS="120")
    assert stages_run(told) == ["studies/dvc.yaml:sizes"], "what the line has made is not made again"
    folder = workspace.root / "data/study/sizes"
    store.open_artifact(folder, "study")
    with (folder / "summary.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    entries = ("mdc", "idc-A", "idc-C", "idc-lfs", "idc-lbs")
    assert [(row["entry"], row["size"]) for row in rows] == [
        (entry, size) for entry in entries for size in ("1", "2", "3", "average")
    ]
    assert {row["protocol"] for row in rows} == {"idc/mnist with epochs 1"} and {row["seeds"] for row in rows} == {"3"}
    assert all(entry in told for entry in entries) and "idc/mnist with epochs 1" in told
    with (folder / "slimming.csv").open(encoding="utf-8", newline="") as stream:
        slimmed = {(row["entry"], row["size"]): row["bytes"] for row in csv.DictReader(stream)}
    assert list(slimmed) == [(f"idc-{slimming}", size) for slimming in ("lfs", "lbs") for size in "12"]
    assert all(row["image_bytes"] == slimmed.get((row["entry"], row["size"]), row["image_bytes"]) for row in rows)
    assert stages_run(workspace.run("dvc", "repro", "studies/dvc.yaml:sizes")) == []
