"""The choices that make a method of gradient or feature matching."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, get_args

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from dcpipe.synthesis.gradients.class_gradients import Parameters
from dcpipe.synthesis.gradients.distances import DISTANCES
from dcpipe.synthesis.gradients.subsets import Metric, Rules
from dcpipe.synthesis.gradients.teaching import Teaching
from dcpipe.types import By, require
from dcpipe.views import multiformation


@dataclass(frozen=True)
class Nested:
    """MDC's part: the options of `subsets.Rules`, the `weight` of the subset loss, the `metric` of `subsets.METRICS` by
    which a subset is chosen, and whether its beginnings are counted in stored images or in cells (`by`). Of the metric
    `accuracy`: `epochs` of each training, `judged` real images of each class."""

    rules: Mapping[str, Any]
    weight: float = 1.0
    metric: Metric = "feature"
    by: By = "images"
    epochs: int = 1000
    judged: int = 100

    def __post_init__(self) -> None:
        require(self.weight >= 0, f"synthesis: weight of subsets must not be negative, got {self.weight}")
        for name in ("epochs", "judged"):
            require(getattr(self, name) >= 1, f"synthesis: {name} must be at least 1, got {getattr(self, name)}")
        for name, legal in (("metric", get_args(Metric)), ("by", get_args(By))):
            value = getattr(self, name)
            require(value in legal, f"synthesis: unknown {name} {value!r}; choose one of {', '.join(legal)}")

    @classmethod
    def of(cls, options: Mapping[str, Any] | None) -> Nested | None:
        """From the mapping that a method's option `subsets` is; None for none."""
        if options is None:
            return None
        rules = [rule.name for rule in fields(Rules) if rule.name not in ("ipc", "n_classes")]
        names = [own.name for own in fields(cls) if own.name != "rules"]
        legal = (*rules, *names)
        for key in options:
            require(key in legal, f"synthesis: subsets have no option {key!r}; legal ones are {', '.join(legal)}")
        own = {key: options[key] for key in names if key in options}
        return cls({key: value for key, value in options.items() if key not in own}, **own)


@dataclass(frozen=True)
class Choices:
    """The choices that make a method.

    `match`: weight gradients or mean features; `distance` a name in `DISTANCES`, of `parameters`. `outer`, `inner`:
    loops. `lr`, `momentum` of the images, in pixels of [0, 1] or, `space` normalised, in units of their standard
    deviation; `sweeps`: IDC's step a class. `strategy` of the augmentation that real and condensed images share.
    `real_batch`: images a class; `cluster`: DREAM's, chosen anew every so many steps (0: dealt in random order).
    `learn`: the network's steps after each inner one, on `real` images (`learn_images` of them) or on `condensed` ones
    (`learn_epochs` over them); `early`: epochs on real ones before. `initial`: `start` (the selection), `mix` (real
    images in the cells of a grid) or `noise`. `factor`, `kind`, `bound`: multi-formation; of more than `most` training
    images a class, a random `most` are matched in a step. `at_once`: so many classes by one pass, None for all
    (on a CPU, for what its caches like); fewer need less memory and do the same.
    """

    network: str
    outer: int
    inner: int
    lr: float
    momentum: float = 0.5
    match: Literal["gradients", "features"] = "gradients"
    distance: str = "mse"
    parameters: Parameters = "conv"
    sweeps: bool = False
    space: Literal["pixels", "normalised"] = "pixels"
    strategy: str = ""
    real_batch: int = 64
    cluster: int = 0
    learn: Literal["real", "condensed", "nothing"] = "real"
    learn_images: int = 2000
    learn_epochs: int = 1
    early: int = 0
    teaching: Teaching = field(default_factory=Teaching)
    initial: Literal["start", "mix", "noise"] = "start"
    factor: int = 1
    kind: multiformation.Kind = "single"
    bound: int | None = None
    most: int = 128
    at_once: int | None = None
    subsets: Nested | None = None

    def __post_init__(self) -> None:
        for name in ("outer", "inner", "real_batch", "factor", "most", "learn_epochs", "learn_images"):
            require(getattr(self, name) >= 1, f"synthesis: {name} must be at least 1, got {getattr(self, name)}")
        for name in ("cluster", "early"):
            require(getattr(self, name) >= 0, f"synthesis: {name} must not be negative, got {getattr(self, name)}")
        require(
            self.at_once is None or self.at_once >= 1,
            f"synthesis: at_once must be at least 1 class, got {self.at_once}; leave it out for all classes",
        )
        require(self.lr > 0, f"synthesis: lr must be above 0, got {self.lr}")
        require(0 <= self.momentum < 1, f"synthesis: momentum must be in [0, 1), got {self.momentum}")
        legal = {"distance": tuple(DISTANCES), "initial": ("start", "mix", "noise"), "space": ("pixels", "normalised")}
        for name, values in legal.items():
            value = getattr(self, name)
            require(value in values, f"synthesis: unknown {name} {value!r}; choose one of {', '.join(values)}")
        require(
            self.factor == 1 or self.initial != "start",
            f"synthesis: a picked image is one cell of a grid of factor {self.factor}; set initial: mix",
        )
        if self.subsets is not None:
            require(
                self.subsets.metric != "gradient" or self.match == "gradients",
                f"synthesis: metric {self.subsets.metric!r} of subsets needs a method that matches gradients; set "
                "metric: feature",
            )
            require(
                self.subsets.by == "images" or self.kind == "single",
                f"synthesis: subsets by cells need kind 'single', got {self.kind!r}; set by: images",
            )


def check_alone(network: nn.Module, name: str) -> None:
    """Raises `DataError` for a network in which an image's features depend on other images, or on chance."""
    for layer, module in network.named_modules():
        chance = isinstance(module, _DropoutNd) and module.p > 0
        kind, on = type(module).__name__, "chance" if chance else "its batch"
        require(
            not chance and not isinstance(module, _BatchNorm),
            f"synthesis: layer {layer!r} of network {name!r} is a {kind}, by which an image's features depend on {on}; "
            "use a network with group norm such as convnet-d3-w128 or resnet10-ap",
        )
