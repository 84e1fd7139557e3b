"""`dcpipe judge`: which stages a command runs, and what it refuses before any of them."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from judgements import judgement, row
from PIL import Image
from releases import CLASSES, build, parts

from dcpipe.cli import commands as cli
from dcpipe.cli import judging
from dcpipe.config import presets
from dcpipe.config.params import load_blocks
from dcpipe.judging.judgement import save
from dcpipe.store.artifact import SCHEMA, publish
from dcpipe.store.manifest import read_manifest

COMMAND = ["judge", "release", "--data", "params.yaml", "--students", "convnet-d1-w4", "--out", "out"]


def add_pictures(name: str, n: int, first: int = 0) -> None:
    for split in ("train", "val"):
        folder = Path("pictures") / split / name
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(first, first + n):
            Image.fromarray(np.full((8, 8, 3), number, dtype=np.uint8)).save(folder / f"{number}.png")


@pytest.fixture
def stages(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The stages that commands have run, in a folder with a release, its images, and their description."""
    build(workspace / "release", parts())
    for name in CLASSES:
        add_pictures(name, 2)
    options = {"path": "pictures", "classes": list(CLASSES)}
    content = {**presets.preset("digits").params, "images": {"source": "imagefolder", "options": options, "size": 8}}
    Path("params.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    run: list[str] = []

    def stage(module: str, out: Path, what: str) -> None:
        run.append(module)
        images, staging = out / "data/images", out / "staging"
        if module == "flows.images":
            block, files = (
                load_blocks(out / "params.yaml").images,
                [path.name for path in Path("pictures").rglob("*.png")],
            )
            staging.mkdir()
            publish(staging, images, "images", {"classes": list(CLASSES), "n": len(files)}, {"params": block.content()})
            return
        (out / "data/judgement").mkdir(exist_ok=True)
        found = judgement(row("own", [50.0], "convnet-d1-w4"), what=what)
        data = found.data.model_copy(update={"digest": read_manifest(images, SCHEMA).digest})
        save(out / "data/judgement", found.model_copy(update={"data": data}))

    monkeypatch.setattr(judging, "_run", stage)
    return run


def ran(stages: list[str], *more: str, code: int = 0) -> list[str]:
    """The stages that one command runs."""
    stages.clear()
    assert cli.main([*COMMAND, *more]) == code
    return [module.removeprefix("flows.") for module in stages]


def test_only_what_has_changed_is_run_again(stages: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert ran(stages) == ["images", "judging"]
    assert ran(stages) == []
    assert ran(stages, "--seeds", "0,1,2,3") == ["judging"]
    add_pictures(CLASSES[1], 1, first=2)
    assert ran(stages, "--seeds", "0,1,2,3") == ["images", "judging"], "there are more images at the same place"
    assert ran(stages, "--seeds", "0,1,2,3") == []
    content = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
    content["images"]["size"] = 16
    Path("params.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    assert ran(stages) == ["images", "judging"]
    shutil.rmtree("pictures")
    capsys.readouterr()
    assert ran(stages) == []
    told = capsys.readouterr()
    assert "going on with the images as they were read before" in told.err and "50.0 (n = 1)" in told.out


def test_a_judgement_whose_stage_was_stopped_is_made(
    stages: list[str], workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a kill between the stages nor one before the images were read leaves an old result to be shown."""
    assert ran(stages) == ["images", "judging"]
    add_pictures(CLASSES[1], 1, first=2)
    run = judging._run

    def stopped(module: str, out: Path, what: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(judging, "_run", stopped)
    assert cli.main(COMMAND) == 130
    monkeypatch.setattr(judging, "_run", run)
    assert ran(stages) == ["images", "judging"]


def test_other_weights_of_a_teacher_are_noticed(stages: list[str], workspace: Path) -> None:
    def teacher(accuracy: float) -> None:
        (workspace / "staging").mkdir()
        publish(workspace / "staging", workspace / "teacher", "teacher", {"accuracy": accuracy}, {})

    teacher(1.0)
    assert ran(stages, "--teacher", "teacher") == ["images", "judging"]
    assert ran(stages, "--teacher", "teacher") == []
    teacher(2.0)
    assert ran(stages, "--teacher", "teacher") == ["judging"]
    assert ran(stages) == ["judging"], "without it"


def test_images_of_other_classes_stop_before_any_stage(stages: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert ran(stages, "--data", "digits", code=2) == []
    assert "10 classes on one side and 3 on the other; give the images that the set was made from" in (
        capsys.readouterr().err
    )
    content = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
    content["images"]["options"]["classes"] = sorted(CLASSES)
    Path("params.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    assert ran(stages, code=2) == []
    assert "class 0 is 'goldfish' on one side and 'tench' on the other; use one class order" in capsys.readouterr().err
    assert not Path("out/judge.yaml").exists(), "another set can be judged there"


@pytest.mark.parametrize("variable", ["DCPIPE_PROCESSES", "DCPIPE_WORKERS", "DCPIPE_DEVICE"])
def test_a_variable_that_cannot_be_stops_before_any_stage(
    variable: str, stages: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(variable, "x")
    assert ran(stages, code=2) == []
    assert variable in capsys.readouterr().err


def test_a_row_that_is_not_there_says_why(stages: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    ran(stages, "--rows", "online,all_images_at_compute")
    told = capsys.readouterr().out
    assert "Not run: online, which needs the teacher that labelled the set; name it by --teacher FOLDER." in told
    assert "Not run: all_images_at_compute, because students of the set see fewer images in all than" in told
    ran(stages, "--rows", "uncompressed,online")
    assert "Not run: uncompressed and online, which need the teacher" in capsys.readouterr().out
