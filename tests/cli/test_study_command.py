"""`dcpipe study`: it runs the stage of a study and shows what came out."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from dcpipe.cli import commands as cli
from dcpipe.config import presets
from dcpipe.studies import STUDIES

SHIPPED = (Path(__file__).resolve().parents[2] / "studies/params.yaml").read_text(encoding="utf-8")

RESILIENCE = """\
selector,ipc,codec,ratio,accuracy,std,drop,drop_std,seeds,image_bytes,label_bytes,fp16_label_bytes,label_rate,note
score,10,uncompressed,,97.0,0.2,0.0,0.0,3,22500,200496,200000,12.345,
score,10,mean label,,90.0,0.4,7.0,0.2,3,22500,2500,200000,12.345,
score,10,svd,5.0,95.5,0.4,1.5,0.3,3,22500,39900,200000,12.345,
score,10,svd,20.0,,,,,0,22500,0,200000,12.345,codec 'svd': its arrays take at least 22000 bytes
"""
VARIANTS = """\
variant,ipc,accuracy,std,gain,seeds,image_bytes,label_bytes,teacher_bytes,synthesis,labels,fp16_label_bytes,protocol,seconds
real,10,60.25,1.5,,3,22500,44500,0,none,packed,200000,edc/cifar10,0.1
edc-online,10,62.75,0.25,2.5,3,22500,0,1300000,edc,online,0,edc/cifar10,12.345
"""
SUMMARY = """\
selector,ipc,accuracy,std,seeds,image_bytes,label_bytes,fp16_label_bytes,seconds
random,1,60.25,1.5,3,4321,999,20000,0.004
score,10,97.0,0.25,3,22500,44500,200000,12.5
"""


def test_the_stage_says_as_much_as_the_command(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[str | None] = []

    def run(command: list[str], env: dict[str, str], check: bool) -> subprocess.CompletedProcess[bytes]:
        heard.append(env.get("DCPIPE_LOG"))
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.delenv("DCPIPE_LOG", raising=False)
    monkeypatch.setattr(subprocess, "run", run)
    (workspace / "dvc.yaml").write_text("{}", encoding="utf-8")
    for option in ([], ["-q"], ["-v"]):
        assert cli.main(["evaluate", *option]) == 0
    assert heard == [None, "warning", "debug"]


def stand_in(workspace: Path, monkeypatch: pytest.MonkeyPatch, name: str, summary: str) -> list[list[str]]:
    """A workspace whose `dvc repro` of a study writes `summary`; returns the commands that were run, without Python."""
    ran = []

    def run(command: list[str], env: dict[str, str], check: bool) -> subprocess.CompletedProcess[bytes]:
        ran.append(command[1:])
        folder = workspace / "data/study" / name
        folder.mkdir(parents=True)
        (folder / "summary.csv").write_text(summary, encoding="utf-8")
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(subprocess, "run", run)
    (workspace / "studies").mkdir(exist_ok=True)
    (workspace / "studies/dvc.yaml").write_text(f"stages: {{{name}: {{}}}}", encoding="utf-8")
    (workspace / "studies/params.yaml").write_text(SHIPPED, encoding="utf-8")
    (workspace / "params.yaml").write_text(presets.text("digits"), encoding="utf-8")
    return ran


def test_mistakes_are_told_before_any_stage_runs(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran = stand_in(workspace, monkeypatch, "selection", SUMMARY)
    path = workspace / "studies/params.yaml"
    for old, new, sentence in (
        ("seeds: [0, 1, 2]", "seeds: [0, 1]", "selection.seeds is [0, 1]: give at least 3 entries"),
        ("score: {}", "score: {method: scoer}", "unknown selector 'scoer'; choose one of"),
    ):
        assert old in SHIPPED
        path.write_text(SHIPPED.replace(old, new, 1), encoding="utf-8")
        assert cli.main(["study", "selection"]) == 2
        told = capsys.readouterr().err
        assert told.startswith("dcpipe: studies/params.yaml: ") and sentence in told and not ran
    path.write_text(SHIPPED, encoding="utf-8")
    (workspace / "params.yaml").unlink()
    assert cli.main(["study", "selection"]) == 2 and not ran
    assert "params.yaml" in capsys.readouterr().err


def test_study_runs_its_stage_and_shows_what_came_out(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran = stand_in(workspace, monkeypatch, "selection", SUMMARY)
    assert cli.main(["study", "selection"]) == 0
    assert ran == [["-m", "dvc", "repro", "studies/dvc.yaml:selection"]]
    told = capsys.readouterr().out
    assert "top-1 in percent, mean ± std over 3 seeds" in told
    [row] = [line for line in told.splitlines() if "score" in line]
    for cell in ("10", "97.0 ± 0.2", "22.5 kB", "44.5 kB", "200.0 kB", "12.50"):
        assert cell in row, cell
    assert "Figure: data/study/selection/figure.png; pictures of the images: data/study/selection/picked" in told


def test_study_resilience_shows_drops(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran = stand_in(workspace, monkeypatch, "resilience", RESILIENCE)
    assert cli.main(["study", "resilience"]) == 0
    assert ran == [["-m", "dvc", "repro", "studies/dvc.yaml:resilience"]]
    told = capsys.readouterr().out
    assert "top-1 in percent, mean ± std over 3 seeds" in told
    rows = [" ".join(line.split()) for line in told.splitlines() if "score" in line]
    assert rows == [
        "score 10 12.35 uncompressed 200.5 kB 200.0 kB 97.0 ± 0.2",
        "score 10 12.35 mean label 2.5 kB 200.0 kB 90.0 ± 0.4 7.0 ± 0.2",
        "score 10 12.35 svd 5.0 39.9 kB 200.0 kB 95.5 ± 0.4 1.5 ± 0.3",
        "score 10 12.35 svd 20.0 not reached 200.0 kB",
    ]
    assert "Figure: data/study/resilience/figure.png; pictures of the images: data/study/resilience/picked" in told


def test_a_sweep_is_chosen_by_its_name(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran = stand_in(
        workspace, monkeypatch, "sweep", VARIANTS.replace("gain,", "").replace(",2.5,", ",").replace(",,", ",")
    )
    path = workspace / "studies/params.yaml"
    grid = "{grid: {evaluation.epochs: [5]}, ipc: [1]}"
    path.write_text(
        f"sweep:\n  # which\n  run: a  # this\n  sweeps: {{a: {grid}, b: {grid}}}\n  seeds: [0, 1, 2]\n",
        encoding="utf-8",
    )
    assert cli.main(["study", "sweep", "c"]) == 2
    assert "there is no sweep 'c'; choose one of a, b" in capsys.readouterr().err and not ran
    assert cli.main(["study", "selection", "b"]) == 2
    assert "study selection has no entries to choose from; leave b out" in capsys.readouterr().err and not ran
    assert cli.main(["study", "sweep", "b"]) == 0
    assert ran == [["-m", "dvc", "repro", "studies/dvc.yaml:sweep"]]
    assert path.read_text(encoding="utf-8").splitlines()[2] == "  run: b"


@pytest.mark.parametrize("name", ["syntheses", "ladder"])
def test_study_of_variants_shows_bytes_and_gains(
    name: str, workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = VARIANTS if name == "ladder" else VARIANTS.replace("gain,", "").replace(",2.5,", ",").replace(",,", ",")
    ran = stand_in(workspace, monkeypatch, name, lines)
    assert cli.main(["study", name]) == 0
    assert ran == [["-m", "dvc", "repro", f"studies/dvc.yaml:{name}"]]
    told = capsys.readouterr().out
    assert "top-1 in percent, last epoch, mean ± std over 3 seeds" in told and "edc/cifar10" in told
    rows = [" ".join(line.split()) for line in told.splitlines() if line.startswith((" real", " edc", "real", "edc"))]
    gain = " +2.5" if name == "ladder" else ""
    assert rows == [
        "real 10 60.2 ± 1.5 22.5 kB 44.5 kB 200.0 kB 0 B 0.1",
        f"edc-online 10 62.8 ± 0.2{gain} 22.5 kB 0 B 0 B 1.3 MB 12.3",
    ]
    assert ("gain" in told) == (name == "ladder")


COMPRESSIONS = """\
variant,ipc,codec,ratio,accuracy,std,drop,drop_std,seeds,image_bytes,label_bytes,bytes_per_image,fp16_label_bytes,protocol,note
rded,10,uncompressed,,97.0,0.2,0.0,0.0,3,22500,200496,2004.96,200000,score,
rded,10,mean label,,90.0,0.4,7.0,0.2,3,22500,2500,25.0,200000,score,
rded,10,prune,5.0,98.5,0.4,-1.5,0.3,3,22500,39900,399.0,200000,score,
rded,10,prune,20.0,,,,,0,22500,0,0.0,200000,score,codec 'prune': its arrays take at least 22000 bytes
"""


@pytest.mark.parametrize("curves", [False, True])
def test_study_of_compressions_shows_drops_and_the_figures_that_were_drawn(
    curves: bool, workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran = stand_in(workspace, monkeypatch, "compressions", COMPRESSIONS)
    folder = Path("data/study/compressions")
    if curves:
        monkeypatch.setattr(Path, "is_file", lambda path: path.name in ("dvc.yaml", "params.yaml", "curves.png"))
    assert cli.main(["study", "compressions"]) == 0
    assert ran == [["-m", "dvc", "repro", "studies/dvc.yaml:compressions"]]
    told = capsys.readouterr().out
    assert "top-1 in percent, last epoch, mean ± std over 3 seeds\nscore" in "\n".join(
        line.strip() for line in told.splitlines()
    )
    rows = [" ".join(line.split()) for line in told.splitlines() if line.startswith((" rded", "rded"))]
    assert rows == [
        "rded 10 uncompressed 200.5 kB 2,005.0 200.0 kB 97.0 ± 0.2",
        "rded 10 mean label 2.5 kB 25.0 200.0 kB 90.0 ± 0.4 7.0 ± 0.2",
        "rded 10 prune 5.0 39.9 kB 399.0 200.0 kB 98.5 ± 0.4 -1.5 ± 0.3",
        "rded 10 prune 20.0 not reached 200.0 kB",
    ]
    shown = f"Figures: {folder}/figure.png and {folder}/curves.png" if curves else f"Figure: {folder}/figure.png"
    assert f"{shown}; pictures of the images: {folder}/images" in told


SIZES = """\
entry,size,accuracy,std,seeds,image_bytes,label_bytes,protocol,seconds,degradation
mdc,1,50.25,1.5,3,450,0,score,12.3,2.5
mdc,10,66.7,0.5,3,4500,0,score,12.3,2.5
mdc,average,58.475,0.75,3,,,score,12.3,2.5
"""


def test_study_of_sizes_shows_a_column_a_size(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran = stand_in(workspace, monkeypatch, "sizes", SIZES)
    assert cli.main(["study", "sizes"]) == 0
    assert ran == [["-m", "dvc", "repro", "studies/dvc.yaml:sizes"]]
    told = capsys.readouterr().out
    [row] = [" ".join(line.split()) for line in told.splitlines() if line.startswith((" mdc", "mdc"))]
    assert row == "mdc 50.2 66.7 58.5 ± 0.8 2.5 12.3"
    assert "Figure: data/study/sizes/figure.png; pictures of the images: data/study/sizes/images" in told


def test_variants_under_several_protocols_send_the_reader_to_the_summary(tmp_path: Path) -> None:
    path = tmp_path / "summary.csv"
    path.write_text(VARIANTS.replace("edc/cifar10,0.1", "score,0.1"), encoding="utf-8")
    assert str(STUDIES["syntheses"].table(path).title).endswith("\nprotocols differ: see summary.csv")


def test_study_refuses_what_it_cannot_run(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for words, sentence in (
        (
            ["study"],
            "dcpipe: name a study: selection, coefficients, labels, resilience, syntheses, ladder, sweep, sizes, "
            "students, compressions, slimming, continual, landscape\n",
        ),
        (
            ["study", "codecs"],
            "dcpipe: unknown study 'codecs'; choose one of selection, coefficients, labels, resilience, syntheses, "
            "ladder, sweep, sizes, students, compressions, slimming, continual, landscape\n",
        ),
        (
            ["study", "selection"],
            f"dcpipe: {workspace} has no studies/dvc.yaml; change to the workspace's folder, or copy studies/ of "
            "dcpipe there\n",
        ),
    ):
        assert cli.main(words) == 2
        assert capsys.readouterr().err == sentence
    (workspace / "studies").mkdir()
    for text in ("", "stages: {}", "stages: {slimming: {}}"):
        (workspace / "studies/dvc.yaml").write_text(text, encoding="utf-8")
        assert cli.main(["study", "selection"]) == 2
        assert capsys.readouterr().err == (
            "dcpipe: studies/dvc.yaml has no study selection, because an earlier dcpipe wrote it; run `dcpipe upgrade` "
            "and give selection a block in studies/params.yaml\n"
        )
    stand_in(workspace, monkeypatch, "selection", "")
    monkeypatch.setattr(subprocess, "run", lambda command, env, check: subprocess.CompletedProcess(command, 1))
    assert cli.main(["study", "selection"]) == 2
    told = capsys.readouterr().err
    assert told == "dcpipe: `dvc repro studies/dvc.yaml:selection` failed; its message is above\n"
