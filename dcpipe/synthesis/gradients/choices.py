"""The choices that define a method of gradient or feature matching."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Annotated, Any, Literal

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from dcpipe.config.values import Count, NotNegative, OptionsOf
from dcpipe.networks.fitting import structure
from dcpipe.synthesis.gradients.class_gradients import Parameters
from dcpipe.synthesis.gradients.forms import Bounds
from dcpipe.synthesis.gradients.subsets import Begin, Freeze, Metric, Rate, Rules
from dcpipe.synthesis.gradients.teaching import Teaching
from dcpipe.types import By, require
from dcpipe.views import multiformation


@dataclass(frozen=True)
class Nested:
    """MDC's choices: how subsets are chosen and frozen (`subsets.Rules`), the `weight` of the subset loss, the `metric`
    in `subsets.METRICS` by which a subset is chosen, and whether subsets are prefixes of stored images or of cells
    (`by`). For the metric `accuracy`: `epochs` of each training, and `judged`, the number of real images per class for
    evaluation. The fields are the options of `mdc` and of the option `subsets` of its base methods."""

    period: Count = 100
    rate: Rate = "absolute"
    begin: Begin = "paper"
    freeze: Freeze = "paper"
    class_wise: bool = False
    weight: NotNegative = 1.0
    metric: Metric = "feature"
    by: By = "images"
    epochs: Count = 1000
    judged: Count = 100

    @classmethod
    def of(cls, options: Mapping[str, Any] | None) -> Nested | None:
        """From the value of a method's option `subsets`; None for None."""
        return None if options is None else cls(**options)

    def rules(self, ipc: int, n_classes: int) -> Rules:
        """The rules of a run; raises `DataError` for an ipc below 2."""
        return Rules(ipc, n_classes, self.period, self.rate, self.begin, self.freeze, self.class_wise)


Clip = Literal["end", "step"]
SubsetOptions = Annotated[dict[str, Any] | None, OptionsOf(lambda options: ("option 'subsets'", Nested))]


def check_subsets(subsets: Nested | None, match: Literal["gradients", "features"], kind: multiformation.Kind) -> None:
    """Raises `DataError` for subsets that are not possible for a method that matches `match` of grids of `kind`."""
    if subsets is None:
        return
    require(
        subsets.metric != "gradient" or match == "gradients",
        f"metric {subsets.metric!r} for subsets needs a method that matches gradients; set metric: feature",
    )
    require(
        subsets.by == "images" or kind == "single",
        f"subsets by cells need kind 'single', but kind is {kind!r}; set by: images",
    )


@dataclass(frozen=True)
class Choices:
    """The choices that define a method.

    `match`: weight gradients or mean features. `distance`: a name in `DISTANCES`, for the gradients of `parameters`.
    `outer`, `inner`: numbers of outer loops and of inner steps. `lr`, `momentum`: of the images, in pixels of [0, 1]
    or, if `space` is normalised, in units of their standard deviation. `sweeps`: emulate IDC's separate step for each
    class. `strategy`: of the augmentation that real and condensed images share. `real_batch`: real images per class;
    `cluster`: choose them as DREAM does, anew after this many steps (0: in random order). `learn`: how the network is
    trained after each inner step, on `real` images (`learn_images` of them) or on `condensed` ones (`learn_epochs`
    epochs); `early`: epochs on real images before. `initial`: `start` (the selection), `mix` (real images in the cells
    of a grid) or `noise`. `clip`: pixels are clipped to [0, 1] at the `end` (in the space `pixels` also before each
    outer loop, as IDC does), or after every `step`, so that what is matched can be stored. `factor`, `kind`, `bound`:
    multi-formation. `most`: if a class has more training images, this many random ones are matched in a step.
    `at_once`: number of classes in one pass, None for all (on a CPU, for as many as fit its caches); fewer need less
    memory and give the same result. A ConvNet-D3 of width 128 needs about 7 MiB per crop of 32 pixels, so 100 classes
    with 200 crops each do not fit a GPU at once.
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
    clip: Clip = "end"
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
        require(
            self.factor == 1 or self.initial != "start",
            f"synthesis: initial 'start' needs factor 1, but factor is {self.factor}; set initial: mix",
        )
        check_subsets(self.subsets, self.match, self.kind)

    @property
    def bounds(self) -> Bounds:
        """When pixels are clipped during matching."""
        return "step" if self.clip == "step" else "loop" if self.space == "pixels" else None


def check_alone(network: nn.Module, name: str) -> None:
    """Raises `DataError` for a network in which the features of an image depend on other images, or on chance."""
    for layer, module in network.named_modules():
        chance = isinstance(module, _DropoutNd) and module.p > 0
        kind, on = type(module).__name__, "chance" if chance else "its batch"
        require(
            not chance and not isinstance(module, _BatchNorm),
            f"layer {layer!r} of network {name!r} is a {kind}, by which an image's features depend on {on}; "
            "use a network with group norm such as convnet-d3-w128 or resnet10-ap",
        )


@cache
def check_network(name: str, size: int) -> None:
    """As `check_alone`, before any work, for the network of this name. Also raises `DataError` as `networks.build`
    does."""
    check_alone(structure(name, 2, size), name)
