"""The tiny workspace of the studies' tests: real digits of 8 pixels, networks of a few channels, a few epochs."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from dcpipe.config import params
from flows.running.reporting import Plain
from flows.running.runtime import Run

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


def table(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file."""
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))
