"""Commands that run a part of the pipeline by `dvc repro` and show what came out."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import yaml

from dcpipe import logs
from dcpipe.release.tags import need_dvc
from dcpipe.reports.printing import print_table
from dcpipe.types import require


def evaluate(level: str | None) -> None:
    """Reproduce the evaluation of the workspace that the current folder is; `level` is how much is said."""
    require(
        Path("dvc.yaml").is_file(),
        f"{Path.cwd()} has no dvc.yaml; change to a workspace's folder, or make one with `dcpipe init PRESET DIR`",
    )
    _repro("evaluation", level)


def study(name: str | None, level: str | None, sweep: str | None = None) -> None:
    """Reproduce a study of the workspace that the current folder is, and print its table and where its figures are;
    `level` is how much is said. `sweep` becomes `sweep.run` in studies/params.yaml first.

    Raises `DataError` for a mistake in the parameters of the study before any stage runs, because the stages that a
    study needs may take days."""
    from dcpipe import studies
    from dcpipe.config import blocks, params
    from dcpipe.studies.sweep import running

    studies.check_name(name)
    assert name is not None
    stages = Path("studies/dvc.yaml")
    require(
        stages.is_file(),
        f"{Path.cwd()} has no studies/dvc.yaml; change to the workspace's folder, or copy studies/ of dcpipe there",
    )
    require(sweep is None or name == "sweep", f"study {name} has no entries to choose from; leave {sweep} out")
    known = yaml.safe_load(stages.read_text(encoding="utf-8"))
    require(
        isinstance(known, dict) and name in (known.get("stages") or {}),
        f"{stages} has no study {name}, because an earlier dcpipe wrote it; run `dcpipe upgrade` and give {name} a "
        f"block in {studies.FILE}",
    )
    if sweep is not None:
        text = studies.FILE.read_text(encoding="utf-8")
        studies.FILE.write_text(running(text, sweep), encoding="utf-8")
    content = blocks.read(Path("params.yaml"), "the workspace's parameters")
    _ = studies.load(name, params.load(), content).cells
    _repro(f"studies/dvc.yaml:{name}", level)
    folder, found = Path("data/study") / name, studies.STUDIES[name]
    print_table(found.table(folder / "summary.csv"))
    first, *others = (folder / f"{figure}.png" for figure in found.figures)
    figures = [str(first), *(str(other) for other in others if other.is_file())]  # some are drawn only on request
    line = f"Figure{'s' if len(figures) > 1 else ''}: {' and '.join(figures)}"
    print(f"{line}; pictures of the images: {folder / found.pictures}" if found.pictures else line)


def _repro(target: str, level: str | None) -> None:
    need_dvc("builds the set", "pipeline")
    said = {} if level is None else {logs.VARIABLE: level}
    done = subprocess.run([sys.executable, "-m", "dvc", "repro", target], env={**os.environ, **said}, check=False)
    require(done.returncode == 0, f"`dvc repro {target}` failed; its message is above")
