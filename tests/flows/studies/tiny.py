"""The tiny workspace of the studies' tests: real digits of 8 pixels, networks of a few channels, a few epochs."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml

from dcpipe import store
from dcpipe.config import params
from dcpipe.evaluation import contenders
from dcpipe.evaluation.contenders import Contender
from dcpipe.evaluation.students import protocol_of
from flows.running.reporting import Plain, Reporter
from flows.running.runtime import Run
from flows.studies.stage import studies_stage

AUGMENTATION = {"scale_min": 0.6, "flip": 0.0}
PARAMS: dict[str, Any] = {
    "images": {"source": "digits", "size": 8},
    "teacher": {
        "networks": {"main": {"network": "convnet-d1-w8"}},
        "training": {"epochs": 4, "batch_size": 64, "optimizer": "adamw", "lr": 0.01, "augmentation": AUGMENTATION},
    },
    "features": {"teacher": "main", "label_rate": {"views": 2, "stored_views": 4}, "augmentation": AUGMENTATION},
    "selection": {"method": "score", "ipc": 2},
    "synthesis": {},
    "softlabels": {"teachers": ["main"], "views": 12, "augmentation": AUGMENTATION},
    "compression": {"codec": "svd", "ratio": 1.5},
    "evaluation": {"student": "convnet-d1-w4", "epochs": 2, "batch_size": 10, "lr": 0.01, "temperature": 4.0},
    "release": {"name": "tiny-digits"},
}


def changed(content: Mapping[str, Any], **blocks: Mapping[str, Any]) -> dict[str, Any]:
    """`content` with keys of its blocks replaced."""
    return {name: {**block, **blocks.get(name, {})} for name, block in content.items()}


def run_of(stage: str, *, content: Mapping[str, Any] = PARAMS, **blocks: Mapping[str, Any]) -> Run:
    """A plain run on the CPU under the parameters that `changed` makes."""
    return Run(stage, params.parse(changed(content, **blocks)), Plain(stage), device=torch.device("cpu"))


def run_study(
    name: str, *, content: Mapping[str, Any] = PARAMS, reporter: Reporter | None = None, **blocks: Mapping[str, Any]
) -> None:
    """Run a study of the current folder's studies/params.yaml, with params.yaml written as `changed` makes it."""
    whole = changed(content, **blocks)
    Path("params.yaml").write_text(yaml.safe_dump(whole), encoding="utf-8")
    run = Run("studies", params.parse(whole), reporter or Plain("studies"), device=torch.device("cpu"))
    studies_stage(run, name)


def write_studies(**studies: Mapping[str, Any]) -> None:
    """Write studies/params.yaml."""
    Path("studies").mkdir(exist_ok=True)
    Path("studies/params.yaml").write_text(yaml.safe_dump(studies, sort_keys=False), encoding="utf-8")


def by_hand(
    contender: Contender, seed: int, folder: Path, *, content: Mapping[str, Any] = PARAMS, **blocks: Mapping[str, Any]
) -> float:
    """The accuracy of one student under the protocol of such parameters, on the current folder's test images."""
    source = store.open_artifact(Path("data/images"), "images")
    train, test = (store.table_of(source, split) for split in ("train", "test"))
    protocol = protocol_of(params.parse(changed(content, **blocks)).evaluation)
    outcome = contenders.score(contender, protocol, train, test, seed, device=torch.device("cpu"), folder=folder)
    return float(outcome["accuracy"])


def table(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file."""
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))
