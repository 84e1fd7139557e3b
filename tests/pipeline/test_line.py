"""The main job: `dvc repro` through every stage, twice; what people then ask for; variants by parameters."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from formats_page import documented_meta
from workspaces import TINY, Workspace, stages_run

from dcpipe import store
from dcpipe.config import presets

pytestmark = pytest.mark.pipeline
STAGES = (
    "images",
    "teacher@convnet",
    "features",
    "selection",
    "synthesis",
    "softlabels",
    "compression",
    "evaluation",
    "release",
)


def test_the_first_repro_runs_every_stage(line: Workspace) -> None:
    output = line.first_repro
    assert "The release is in data/release, " in output and "score, svd" in output
    for stage in STAGES:
        assert f"Running stage '{stage}'" in output


def test_the_second_repro_does_nothing(line: Workspace) -> None:
    output = line.run("dvc", "repro")
    assert stages_run(output) == []


def test_every_artifact_has_the_metadata_that_the_formats_page_names(line: Workspace) -> None:
    found = [json.loads(path.read_text(encoding="utf-8")) for path in line.root.glob("data/**/artifact.json")]
    assert len(found) == len(STAGES)
    for content in found:
        if content["noun"] != "release":  # tests/store/test_formats.py has it
            always, sometimes = documented_meta(content["noun"])
            assert always <= content["meta"].keys() <= always | sometimes, content["noun"]


def test_the_table_has_the_set_and_its_baselines_with_measured_bytes(line: Workspace) -> None:
    scores = {score.name: score for score in store.load_scores(line.root / "data/evaluation/scores")}
    assert list(scores) == [
        "score, svd",
        "score, uncompressed",
        "score, teacher online",
        "score, hard labels",
        "random, svd",
    ]
    assert all(len(score.accuracy) == 3 for score in scores.values())
    pack = (line.root / "data/compression/labels.safetensors").stat().st_size
    reference = 2 * 30 * 8 * 10
    assert scores["score, svd"].label_bytes == pack <= reference / 2
    assert reference < scores["score, uncompressed"].label_bytes < reference + 1024
    assert (
        scores["score, teacher online"].teacher_bytes
        == (line.root / "data/teacher/convnet/weights.safetensors").stat().st_size
    )
    assert scores["score, hard labels"].label_bytes == 0
    status = line.run("dcpipe", "status", COLUMNS="200")
    for name in scores:
        assert name in status


def test_metrics_and_plots_show(line: Workspace) -> None:
    shown = json.loads(line.run("dvc", "metrics", "show", "--json"))
    found = shown[""]["data"]["data/evaluation/metrics.json"]["data"]
    assert list(found) == ["accuracy", "std", "bytes", "teacher"]
    assert list(found["accuracy"]) == ["set", "uncompressed", "online", "hard", "random"]
    assert found["bytes"]["labels"] == (line.root / "data/compression/labels.safetensors").stat().st_size
    line.run("dvc", "plots", "show", "-o", "dvc_plots")
    page = (line.root / "dvc_plots/index.html").read_text(encoding="utf-8")
    assert "accuracy" in page and "component" in page and "condensed" in page


def test_no_pickle_and_no_timestamp_in_any_artifact(line: Workspace) -> None:
    files = [path for path in (line.root / "data").rglob("*") if path.is_file() and path.parent != line.root / "data"]
    assert len(files) > 20
    for path in files:
        assert path.suffix in {".json", ".parquet", ".safetensors", ".csv", ".png", ".md"} or "zarr" in str(path), path
        head = path.read_bytes()[:4]
        assert not head.startswith((b"\x80\x02", b"\x80\x04", b"\x80\x05", b"PK\x03\x04")), f"{path} is a pickle"


def test_a_codec_change_reruns_only_what_follows(copy_of_line: Workspace) -> None:
    copy_of_line.params(compression={"codec": "prune", "ratio": 2})
    output = copy_of_line.run("dvc", "repro", "compression")
    assert "Running stage 'compression'" in output
    for untouched in STAGES[:6]:
        assert f"Running stage '{untouched}'" not in output
    copy_of_line.params()
    again = copy_of_line.run("dvc", "repro", "compression")
    assert "is cached - skipping run, checking out outputs" in again


@pytest.mark.parametrize(
    ("softlabels", "compression", "sizes"),
    [
        ({"mix": "cutmix_images"}, {"codec": "rpca", "ratio": 1.5}, []),
        ({"mix": "none"}, {"codec": "none"}, [1, 2]),  # labels of the first image alone are those of the whole pack
        ({"method": "none"}, {"codec": "none"}, []),
    ],
    ids=["teacher-on-cutmix", "no-mix-uncompressed", "hard-labels"],
)
def test_label_variants_run_to_the_end(
    copy_of_line: Workspace, softlabels: dict[str, str], compression: dict[str, object], sizes: list[int]
) -> None:
    copy_of_line.params(
        softlabels={**TINY["softlabels"], **softlabels},
        compression=compression,
        evaluation={**TINY["evaluation"], "epochs": 1, "baselines": ["hard", "random"], "sizes": sizes},
    )
    copy_of_line.run("dvc", "repro")
    scores = store.load_scores(copy_of_line.root / "data/evaluation/scores")
    assert scores[0].name.startswith("score, ")
    assert scores[-1].name.startswith("random, ")
    below = [size for size in sizes if size < scores[0].ipc]
    assert [score.ipc for score in scores if ", first " in score.name] == 2 * below, "of the set and of random images"


def test_two_teachers_label_with_their_mean(copy_of_line: Workspace) -> None:
    networks = {"convnet": {"network": "convnet-d2-w8"}, "other": {"network": "convnet-d1-w8"}}
    copy_of_line.params(
        teacher={**TINY["teacher"], "networks": networks},
        softlabels={**TINY["softlabels"], "teachers": ["convnet", "other"]},
    )
    output = copy_of_line.run("dvc", "repro", "softlabels")
    assert "Running stage 'teacher@other'" in output and "Running stage 'teacher@convnet'" not in output
    assert store.load_soft_labels(copy_of_line.root / "data/softlabels").teachers == ("convnet", "other")


BAD = {
    "ipc": ({"selection": {"method": "score", "ipc": 500}}, "selection.ipc is 500 but"),
    "selector": ({"selection": {"method": "scroe", "ipc": 2}}, "unknown selector 'scroe'; choose one of random, score"),
    "option": (
        {"selection": {"method": "score", "ipc": 2, "options": {"aplha": 1.0}}},
        "selector 'score' has no option 'aplha'; its options are alpha, beta",
    ),
    "source": (
        {"images": {"source": "digitz", "size": 8}},
        "unknown image source 'digitz'; choose one of csv, digits, imagefolder",
    ),
    "folder": (
        {"images": {"source": "parquet", "size": 8, "options": {"path": "no/such/folder"}}},
        "no/such/folder",
    ),
    "budget": ({"compression": {"codec": "svd", "ratio": 1000}}, "ratio"),
    "mix": (
        {"compression": {"codec": "prune", "ratio": 2, "options": {"granularity": "batch", "batch_size": 4}}},
        "but mix 'cutmix_labels' needs its labels for any partner",
    ),
    "key": (
        {"compression": {"codec": "svd", "ratoi": 2}},
        "unknown key 'compression.ratoi'; valid keys are codec, ratio",
    ),
}


def test_bad_input_stops_with_one_sentence_and_loses_nothing(copy_of_line: Workspace) -> None:
    def content() -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in (copy_of_line.root / "data").rglob("*") if path.is_file()}

    before, told = content(), copy_of_line.refusals({case: blocks for case, (blocks, _) in BAD.items()})
    assert len(before) > 20 and content() == before
    for case, (_, sentence) in BAD.items():
        assert sentence in told[case]
        assert "Traceback" not in told[case]


def test_teacher_with_classes_in_another_order_is_refused(copy_of_line: Workspace) -> None:
    folder = copy_of_line.root / "data/teacher/convnet"
    teacher = store.load_teacher(folder)
    swapped = (teacher.classes[1], teacher.classes[0], *teacher.classes[2:])
    artifact = store.open_artifact(folder, "teacher")
    meta = {**artifact.meta, "classes": list(swapped)}
    copy = copy_of_line.root / "copy"
    copy.mkdir()
    (copy / "weights.safetensors").write_bytes((folder / "weights.safetensors").read_bytes())
    (copy / "history.json").write_bytes((folder / "history.json").read_bytes())
    store.publish(copy, folder, "teacher", meta, artifact.lineage)
    for noun in ("features", "softlabels"):
        output = copy_of_line.run(sys.executable, "-m", f"flows.{noun}", ok=False)
        assert "class 0 is '1' on one side and '0' on the other; use one class order" in output


def test_two_runs_in_one_workspace(copy_of_line: Workspace) -> None:
    first = copy_of_line.start(
        sys.executable,
        "-c",
        "import fcntl, time; f = open('.dcpipe/scratch/data-selection.lock', 'a+');"
        "fcntl.flock(f, fcntl.LOCK_EX); print('held', flush=True); time.sleep(60)",
    )
    assert first.stdout is not None and first.stdout.readline() == "held\n"
    try:
        output = copy_of_line.run(sys.executable, "-m", "flows.selection", ok=False)
    finally:
        first.kill()
        first.communicate()
    assert "another run is writing data/selection" in output


def test_workspaces_are_independent(line: Workspace, make_workspace: Callable[[str], Workspace]) -> None:
    """Equal parameters, another folder: equal content, to the byte. Other parameters: other content."""
    workspace = make_workspace("second")

    def teacher(root: Path) -> str:
        return store.open_artifact(root / "data/teacher/convnet", "teacher").digest

    for seed, same in ((0, True), (1, False)):
        workspace.params(images={**TINY["images"], "seed": seed})
        workspace.stage("images")
        workspace.stage("teacher", "convnet")
        assert (teacher(workspace.root) == teacher(line.root)) == same


def test_every_preset_is_understood_by_dvc(line: Workspace) -> None:
    """Interpolation and parameter tracking accept what presets leave out."""
    for name in presets.names()[:3]:
        content = yaml.safe_load(presets.text(name))
        assert set(content) == set(TINY)
