"""What the tests of all presets share: a preset's parameters, and what they come to."""

from __future__ import annotations

import inspect
from functools import cache
from typing import Any

import torch
import yaml
from torch import nn

from dcpipe import networks, synthesis
from dcpipe.config import params, presets, protocols


@cache
def load(name: str) -> params.Params:
    return params.parse(yaml.safe_load(presets.text(name)), name)


def note(name: str, key: str) -> str:
    """What a preset states of its source, published accuracy, cost or gaps, as one text."""
    found = presets.preset(name).notes[key]
    return found if isinstance(found, str) else "; ".join(f"{topic}: {clause}" for topic, clause in found.items())


@cache
def built(network: str, size: int) -> nn.Module:
    """For two classes, as heads are not what a preset can get wrong; without numbers, which take time to draw."""
    with torch.device("meta"):
        return networks.build(network, 2, size)


def effective(content: params.Params) -> dict[str, Any]:
    """The options of a synthesis, defaults included."""
    found = inspect.signature(synthesis.METHODS[content.synthesis.method]).parameters.values()
    return {p.name: p.default for p in found if p.kind is p.KEYWORD_ONLY} | content.synthesis.options


def described(content: params.Params) -> str:
    """The protocol as scores name it."""
    labels = content.softlabels
    return protocols.describe(content.evaluation, {**labels.augmentation.model_dump(), "mix": labels.mix})


def class_count(dataset: str) -> int:
    counts = {"svhn": 10, "cifar10": 10, "cifar100": 100, "tiny-imagenet": 200, "imagenet-10": 10, "imagenet-1k": 1000}
    return counts[dataset]
