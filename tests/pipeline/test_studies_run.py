"""Studies through real commands: made once, shown by DVC, killed and gone on with, and no burden to the line."""

from __future__ import annotations

import csv
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from typing import Any

import pytest
import yaml
from workspaces import TINY, Workspace, stages_run

from dcpipe import store

pytestmark = pytest.mark.pipeline
STUDIES: dict[str, Any] = {
    "selection": {
        "selectors": {
            "random": {},
            "score": {"options": {"alpha": 5.0, "beta": 1.0}},
            "flat": {"method": "score", "options": {"alpha": 0.0, "beta": 0.0}},
        },
        "ipc": [3, 4],
        "seeds": [0, 1, 2],
    },
    "coefficients": {
        "base": {"alpha": 5.0, "beta": 1.0},
        "alpha": [1.0, 5.0],
        "beta": [1.0],
        "ipc": 3,
        "seeds": [0, 1, 2],
    },
}


def study_of(workspace: Workspace, **changes: dict[str, Any]) -> None:
    content = {name: {**block, **changes.get(name, {})} for name, block in STUDIES.items()}
    (workspace.root / "studies/params.yaml").write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")


def rows_of(workspace: Workspace, name: str, file: str) -> list[dict[str, str]]:
    with (workspace.root / "data/study" / name / file).open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture(scope="module")
def studied(line: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """The line with a study, and what `dcpipe study` told; tests may run what is up to date."""
    workspace = line.copy(tmp_path_factory.mktemp("studied"))
    study_of(workspace)
    workspace.first_repro = workspace.run("dcpipe", "study", "selection", COLUMNS="120")
    return workspace


def test_a_study_is_made_once_and_shown(studied: Workspace) -> None:
    told = studied.first_repro
    assert "Running stage 'studies/dvc.yaml:selection'" in told
    assert "Running stage 'teacher@convnet'" not in told, "what the line has made is not made again"
    assert "top-1 in percent, mean ± std over 3 seeds" in told and "flat" in told
    assert len(rows_of(studied, "selection", "results.csv")) == 18
    store.open_artifact(studied.root / "data/study/selection", "study")
    again = studied.run("dcpipe", "study", "selection")
    assert stages_run(again) == [] and "random" in again
    assert stages_run(studied.run("dvc", "repro")) == [], "a study changes nothing in the line"
    tracked = studied.run("git", "status", "--porcelain", "--untracked-files=all", "data").split()
    assert "data/study/selection/results.csv" in tracked, "Git tracks the results of studies"


def test_studies_are_drawn_and_depend_on_their_own_block(copy_of_line: Workspace) -> None:
    study_of(copy_of_line)
    copy_of_line.run("dcpipe", "study", "coefficients")
    folder = copy_of_line.root / "data/study/coefficients"
    assert (folder / "figure.png").is_file() and list((folder / "picked").iterdir())

    def is_stale() -> bool:
        return "studies/dvc.yaml:coefficients" in copy_of_line.run("dvc", "status", "studies/dvc.yaml:coefficients")

    assert not is_stale()
    study_of(copy_of_line, selection={"ipc": [3]})
    assert not is_stale(), "another study's block says nothing of this one"
    study_of(copy_of_line, coefficients={"alpha": [2.0, 5.0]})
    assert is_stale()


def test_the_rows_of_random_are_those_of_the_evaluations_baseline(studied: Workspace) -> None:
    """The same picks, labels, budget and seed under one protocol: the same accuracy and bytes."""
    scores = store.load_scores(studied.root / "data/evaluation/scores")
    [baseline] = [score for score in scores if score.name.startswith("random")]
    [row] = [
        row
        for row in rows_of(studied, "selection", "results.csv")
        if (row["selector"], row["ipc"], row["seed"]) == ("random", "3", "0")
    ]
    assert float(row["accuracy"]) == round(baseline.accuracy[0], 3)
    assert (int(row["image_bytes"]), int(row["label_bytes"])) == (baseline.image_bytes, baseline.label_bytes)


def test_killed_at_random_moments_ends_the_same(copy_of_line: Workspace) -> None:
    # Long enough that a kill falls among the cells, however slowly Python starts.
    copy_of_line.params(evaluation={**TINY["evaluation"], "epochs": 40})
    study_of(
        copy_of_line,
        selection={"ipc": [3], "selectors": {"random": {}, "flat": STUDIES["selection"]["selectors"]["flat"]}},
    )
    folder = copy_of_line.root / "data/study/selection"
    words = (sys.executable, "-m", "flows.studies", "selection")
    env = {"DCPIPE_CHECKPOINT_SECONDS": "0"}
    started = time.monotonic()
    copy_of_line.run(*words, **env)
    whole = time.monotonic() - started
    unbroken = (folder / "results.csv").read_bytes()
    shutil.rmtree(folder)
    chance, killed = random.Random("study"), 0
    while killed < 2:
        started = time.monotonic()
        process = copy_of_line.start(*words, **env)
        with suppress(subprocess.TimeoutExpired):
            process.wait(whole * chance.uniform(0.5, 0.8))
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            killed += 1
        process.communicate()
        if folder.exists():  # it had ended before the kill, because the machine is less busy than before: start over
            whole = time.monotonic() - started
            shutil.rmtree(folder)
    copy_of_line.run(*words, **env)
    assert (folder / "results.csv").read_bytes() == unbroken


def test_mistakes_stop_it_in_one_line(copy_of_line: Workspace) -> None:
    study_of(copy_of_line, selection={"ipc": [3, 1]})
    copy_of_line.params(compression={"codec": "svd", "ratio": 3})
    told = copy_of_line.run("dcpipe", "study", "selection", ok=False)
    assert "studies selection: studies/params.yaml: selection, ipc 1: codec 'svd': its arrays take at least" in told
    assert "dcpipe: `dvc repro studies/dvc.yaml:selection` failed; its message is above" in told
    assert "Traceback" not in told
    told = copy_of_line.run("dcpipe", "study", "codecs", ok=False)
    legal = (
        "selection, coefficients, labels, resilience, syntheses, ladder, sweep, sizes, students, compressions, "
        "slimming, continual, landscape"
    )
    assert told == f"dcpipe: unknown study 'codecs'; choose one of {legal}\n"


def test_a_release_does_not_wait_for_studies(copy_of_line: Workspace) -> None:
    study_of(copy_of_line)
    copy_of_line.commit("Build")
    assert "studies/dvc.yaml:selection" in copy_of_line.run("dvc", "status")
    assert "Tagged tiny-digits@v1.0.0" in copy_of_line.run("dcpipe", "publish", "tiny-digits@v1.0.0")
