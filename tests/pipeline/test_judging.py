"""`dcpipe judge` from an empty folder: the rows of the stage `evaluation` to the digit, also after a kill."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest
from judgements import judgement as judgement_of
from judgements import row
from workspaces import Workspace

from dcpipe import store
from dcpipe.judging import dvcfile, judgement

pytestmark = pytest.mark.pipeline
NAMES = {"own": "score, svd", "uncompressed": "score, uncompressed", "online": "score, teacher online"} | {
    "hard": "score, hard labels",
    "random": "random, svd",
}


def test_a_killed_and_resumed_judgement_has_the_rows_of_the_evaluation(line: Workspace, tmp_path: Path) -> None:
    away = Workspace(tmp_path, line.env)
    rows = "uncompressed,online,hard,random,equal_bytes"
    command = ["dcpipe", "judge", str(line.root / "data/release"), "--data", str(line.root / "params.yaml")]
    command += ["--teacher", str(line.root / "data/teacher/convnet"), "--rows", rows, "--out", "judged"]
    process, deadline = away.start(*command), time.monotonic() + 120
    while not list(tmp_path.glob("judged/.dcpipe/scratch/data-students-*.notes/*/result-online-0.json")):
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()[0]
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    told = away.run(*command, COLUMNS="200")
    assert "images: done" not in told, "what was made before the kill is not made again"
    found = judgement.load(tmp_path / "judged")
    expected = {score.name: score for score in store.load_scores(line.root / "data/evaluation/scores")}
    for kind, name in NAMES.items():
        row = found.row(kind, "convnet-d2-w8")
        assert row is not None
        assert tuple(row.accuracy) == expected[name].accuracy, name
        sizes = (expected[name].image_bytes, expected[name].label_bytes, expected[name].teacher_bytes)
        assert (row.image_bytes, row.label_bytes, row.teacher_bytes) == sizes, name
        assert row.name in told
    equal, own = found.row("equal_bytes", "convnet-d2-w8"), found.rows[0]
    assert equal is not None and equal.total_bytes <= own.total_bytes
    page = (tmp_path / "judged/data/judgement/index.html").read_text(encoding="utf-8")
    assert "data:image/png;base64," in page and "tiny-digits, svd" in page
    # The same command again shows the result, and two judgements are compared.
    assert "judging: done" not in away.run(*command)
    # One more seed trains one more student of each row.
    kept = found.row("hard", "convnet-d2-w8")
    told = away.run(*command, "--seeds", "3,0,1,2", "--rows", "hard")
    more = judgement.load(tmp_path / "judged").row("hard", "convnet-d2-w8")
    assert kept is not None and more is not None and more.accuracy[1:] == kept.accuracy
    assert "hard labels 3: epoch" in told and "hard labels 0: epoch" not in told
    other = [*command[:-1], "other", "--seeds", "0,1,2", "--rows", "hard"]
    away.run(*other)
    compared = away.run("dcpipe", "compare", "judged", "other", "--out", "compared.html", COLUMNS="200")
    assert "+0.0" in compared and (tmp_path / "compared.html").is_file()


def test_dvc_shows_the_rows_of_a_judgement_in_a_workspace(copy_of_line: Workspace) -> None:
    out = copy_of_line.root / "judged/digits"
    (out / "data/judgement").mkdir(parents=True)
    found = judgement_of(row("own", [98.0, 98.2, 98.4]), row("hard", [95.0, 96.0, 97.0]))
    judgement.save(out / "data/judgement", found)
    assert dvcfile.write(out, found)
    shown = json.loads(copy_of_line.run("dvc", "metrics", "show", "--json"))[""]["data"]
    numbers = {Path(path).as_posix(): content["data"] for path, content in shown.items()}
    assert numbers["judged/digits/data/judgement/metrics.json"]["net"]["accuracy"] == {"set": 98.2, "hard": 96.0}
    assert "accuracy" in numbers["data/evaluation/metrics.json"]
    copy_of_line.run("dvc", "plots", "show")
    page = (copy_of_line.root / "dvc_plots/index.html").read_text(encoding="utf-8")
    assert "set@v1.0.0, judged" in page and "set, hard" in page
