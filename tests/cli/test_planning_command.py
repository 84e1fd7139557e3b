"""`dcpipe plan`: for a preset without its images, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dcpipe.cli import commands as cli
from dcpipe.config import presets

IMAGENET = ["--device", "h100", "--images", "1281167", "--classes", "1000", "--test", "50000"]


def test_a_preset_without_its_images(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (workspace / "params.yaml").write_text(presets.text("imagenet-1k-ipc10"), encoding="utf-8")
    assert cli.main(["plan", *IMAGENET, "--devices", "1,8", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    stages = {row["stage"]: row for row in found["stages"]}
    assert stages["evaluation"]["steps"] == 15 * 300 * 157
    assert stages["softlabels"]["bytes"] == pytest.approx(6e9, rel=0.01)
    assert found["hours"]["8"] < found["hours"]["1"] / 4
    assert any("assumed, not measured" in source for source in found["sources"])
    assert cli.main(["plan", *IMAGENET]) == 0
    told = capsys.readouterr().out
    assert "time on 1" in told and "evaluation takes longest" in told
    assert [path.name for path in workspace.iterdir()] == ["params.yaml"], "nothing is left behind"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "the images of params.yaml cannot be counted (image folder imagenet/train not found"),
        (["--device", "tpu"], "there are no stored figures of device 'tpu'"),
        (["--devices", "1,many"], "--devices is '1,many'; give numbers, as in --devices 1,8"),
        (["--devices", "0", *IMAGENET], "--devices has 0; give numbers of 1 or more"),
        (["nowhere.yaml"], "nowhere.yaml not found"),
    ],
)
def test_mistakes(arguments: list[str], sentence: str, workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (workspace / "params.yaml").write_text(presets.text("imagenet-1k-ipc10"), encoding="utf-8")
    assert cli.main(["plan", *arguments]) == 2
    assert capsys.readouterr().err.startswith(f"dcpipe: {sentence}")


def test_storage_measures_nothing(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (workspace / "params.yaml").write_text(presets.text("imagenet-1k-ipc10"), encoding="utf-8")
    arguments = ["plan", "--storage", *IMAGENET[2:]]
    assert cli.main([*arguments, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {row["ipc"]: row["fp32"] for row in rows}[50] == 60_000_000_000
    assert cli.main(arguments) == 0
    assert "60.0 GB" in capsys.readouterr().out
