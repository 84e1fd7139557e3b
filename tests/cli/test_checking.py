"""`dcpipe check`: mistakes in one go, or what will be made."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import tiny_plugin
import yaml
from tiny_model import outline

from dcpipe.cli import checking
from dcpipe.cli.commands import main
from dcpipe.config import check, params, presets

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text(presets.text("digits"), encoding="utf-8")
    return tmp_path


def change(workspace: Path, *pairs: tuple[str, str]) -> None:
    """Replace text in params.yaml."""
    path = workspace / "params.yaml"
    text = path.read_text(encoding="utf-8")
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new)
    path.write_text(text, encoding="utf-8")


def test_it_says_what_will_be_made(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.splitlines() == [
        "set       digits-score: 10 images of 8 pixels per class, 10 classes",
        "images    digits {test_share: 0.2, seed: 0}",
        "selection score {alpha: 0.1, beta: 0.1, eps2: 0.5}",
        "synthesis none",
        "labels    100 views of each image by convnet, mix none",
        "codec     rpca",
        "budget    49,828 bytes are planned, 498.3 per image: 4.01 times less than the 200,000 bytes in fp16",
        "students  convnet-d2-w32, protocol score, 100 epochs, seeds 0, 1, 2",
        "params.yaml is fine.",
    ]


def test_facts_that_are_not_known_yet_are_marked(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change(
        workspace, ("source: digits\n  options: {test_share: 0.2, seed: 0}", "source: parquet\n  options: {path: x}")
    )
    assert main(["check"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("10 images of 8 pixels per class, classes are counted when the images are read")
    assert "budget    it is checked when the images are read" in lines
    change(workspace, ("method: stored", "method: none"))
    assert main(["check"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "labels    hard: the classes of the images" in lines and not any("budget" in line for line in lines)


def test_each_kind_of_mistake_gets_a_line(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change(
        workspace, ("alpha: 0.1", "alpha: 1e-1"), ("codec: rpca", "codec: rcpa"), ("convnet-d2-w32", "convnet-d5-w8")
    )
    assert main(["check"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    first, second, third = err.splitlines()
    assert first == (
        "dcpipe: params.yaml: selection.options.alpha is '1e-1': input should be a valid number; YAML needs a point, "
        "as in 1.0e-3"
    )
    assert second.startswith("dcpipe: params.yaml: compression.codec: unknown codec 'rcpa'; choose one of cur, field")
    assert third == (
        "dcpipe: params.yaml: evaluation.student: network 'convnet-d5-w8' halves images 5 times; for 8 pixels "
        "choose a depth of at most 3"
    )


def test_a_budget_out_of_reach_is_one(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change(workspace, ("ratio: 4", "ratio: 12"))
    assert main(["check"]) == 2
    assert capsys.readouterr().err.startswith(
        "dcpipe: params.yaml: compression.ratio 12 leaves 16,666 bytes for labels of 100 images x 100 views"
    )


def test_a_model_that_is_not_here_is_one_before_any_stage_runs(
    workspace: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    change(workspace, ("synthesis:\n  method: none", "synthesis:\n  method: d4m\n  options: {model: model}"))
    assert main(["check"]) == 2
    sentence = (
        "params.yaml: synthesis.options.model: d4m: model 'model' is not a folder with model_index.json; give the"
    )
    assert sentence in capsys.readouterr().err
    outline(workspace / "model")
    assert main(["check"]) == 0 and "synthesis d4m {model: model}" in capsys.readouterr().out
    monkeypatch.chdir("/")
    assert main(["check", str(workspace / "params.yaml")]) == 0


def test_mistakes_in_studies_are_found_and_studies_that_do_not_apply_are_notes(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (workspace / "studies").mkdir()
    file = workspace / "studies" / "params.yaml"
    shipped = Path(__file__).resolve().parents[2] / "studies" / "params.yaml"
    file.write_text(shipped.read_text(encoding="utf-8"), encoding="utf-8")
    assert main(["check"]) == 0
    assert "note" not in capsys.readouterr().out
    change(workspace, ("codec: rpca", "codec: none"), ("  ratio: 4\n", ""))
    assert main(["check"]) == 0
    notes = [line for line in capsys.readouterr().out.splitlines() if line.startswith("note")]
    assert notes == [
        "note      study resilience does not apply: compression.codec is none: nothing would be compressed; "
        "choose a codec"
    ]
    file.write_text("selection: {selectors: {herdign: {}}, ipc: [1], seeds: [0, 1, 2]}\n", encoding="utf-8")
    assert main(["check"]) == 2
    assert "studies/params.yaml: selection, herdign: unknown selector 'herdign'" in capsys.readouterr().err


def test_another_file_may_be_checked(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = workspace / "other.yaml"
    other.write_text("images: {}\nimages: {}\n", encoding="utf-8")
    assert main(["check", "other.yaml"]) == 2
    assert capsys.readouterr().err == ("dcpipe: other.yaml: key 'images' is given twice, in lines 1 and 2; keep one\n")
    assert main(["check", "nowhere.yaml"]) == 2
    assert capsys.readouterr().err.startswith("dcpipe: nowhere.yaml not found; run `dcpipe init PRESET`")


def test_resolved_prints_a_file_that_says_the_same(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--resolved"]) == 0
    text = capsys.readouterr().out
    assert "  options: {parts: fitted, sparse_share: null, lam: null, tolerance: null, precision: float32}\n" in text
    (workspace / "whole.yaml").write_text(text, encoding="utf-8")
    before, after = params.load(workspace / "params.yaml"), params.load(workspace / "whole.yaml")
    assert check.resolved(before) == check.resolved(after) == yaml.safe_load(text)
    assert main(["check", "whole.yaml", "--resolved"]) == 0
    assert capsys.readouterr().out == text
    change(workspace, ("alpha: 0.1", "alpha: -1"))
    assert main(["check", "--resolved"]) == 2
    assert "selection.options.alpha is -1: input should be greater than or equal to 0" in capsys.readouterr().err


def test_what_another_version_of_a_plugin_made_is_named(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny_plugin.install(workspace / "site", monkeypatch)
    change(workspace, ("method: score", "method: last"), ("options: {alpha: 0.1, beta: 0.1, eps2: 0.5}", "options: {}"))
    made = workspace / "data" / "selection"
    made.mkdir(parents=True)
    for version, notes in (("0.9 abc", 1), (None, 0)):
        lineage = {"plugins": {"tiny-plugin": version}} if version else {}
        (made / "artifact.json").write_text(json.dumps({"lineage": lineage}), encoding="utf-8")
        assert main(["check"]) == 0
        told = [line for line in capsys.readouterr().out.splitlines() if line.startswith("note")]
        assert len(told) == notes
        if told:
            start = "note      data/selection was made with tiny-plugin 0.9 abc, installed is 1.0 "
            assert told[0].startswith(start) and told[0].endswith("; run `dvc repro --force` on its stage")


@pytest.mark.parametrize("name", ["digits-mdc", "cifar10-small", "cifar10-mdc-ipc10", "imagenette-ipc10"])
def test_the_studies_that_come_with_dcpipe_are_no_mistakes_beside_another_preset(name: str, tmp_path: Path) -> None:
    """They name the digits' teachers: beside other teachers they do not apply, which is a note."""
    shutil.copytree(ROOT / "studies", tmp_path / "studies")
    (tmp_path / "params.yaml").write_text(presets.text(name), encoding="utf-8")
    assert checking.check_all(tmp_path / "params.yaml").lines()[-1].endswith("params.yaml is fine.")
