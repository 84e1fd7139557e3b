"""What DVC shows of a judgement: files that are there, in a workspace only."""

from __future__ import annotations

from pathlib import Path

import yaml
from judgements import judgement, row

from dcpipe.judging import dvcfile
from dcpipe.judging.judgement import save

FOUND = judgement(row("own", [98.0]), what="fish: 1, @v1.0.0")


def test_a_dvc_yaml_names_the_numbers_of_the_judgement(tmp_path: Path) -> None:
    out = tmp_path / "judged" / "fish"
    (out / "data/judgement").mkdir(parents=True)
    (tmp_path / ".dvc/plots").mkdir(parents=True)
    (tmp_path / ".dvc/plots/accuracy.json").touch()
    assert dvcfile.write(out, FOUND) and dvcfile.write(out, FOUND)
    save(out / "data/judgement", FOUND)
    content = yaml.safe_load((out / "dvc.yaml").read_text(encoding="utf-8"))
    [metrics], [plots] = content["metrics"], content["plots"]
    assert (out / metrics).is_file() and "stages" not in content
    plot = plots["accuracy by bytes of fish"]
    [file] = {*plot["x"], *plot["y"]}
    header = (out / file).read_text(encoding="utf-8").splitlines()[0].split(",")
    assert plot["template"] == "accuracy" and {"set", "std", plot["x"][file], plot["y"][file]} <= set(header)
    assert plot["title"] == "fish: 1, @v1.0.0, judged"
    assert "/data/images" in (out / ".gitignore").read_text(encoding="utf-8").splitlines()


def test_elsewhere_there_is_nobody_to_show_it(tmp_path: Path) -> None:
    (tmp_path / ".dvc/plots").mkdir(parents=True)
    (tmp_path / "judged").mkdir()
    assert not dvcfile.write(tmp_path / "judged", FOUND)
    assert list((tmp_path / "judged").iterdir()) == []
