"""Network names to constructors.

* `convnet-d3-w128`: the ConvNet of the condensation papers, any depth and width (`convnet.py`)
* `resnet10-wN`, `resnet18-wN`: ResNets of any width, for CPUs (`thin.py`)
* `resnet10-ap`: IDC's ResNet with average pooling for strides, group norm (`resnet_ap.py`); `resnet10-ap-wN` for CPUs
* `wrn-16-2`: wide ResNets of any depth 6n + 4 and widening factor (`wrn.py`)
* `resnet18-small`, `resnet50-small`, `resnet101-small`, `mobilenet_v2-small`, `mobilenet_v2_x0_5-small`,
  `shufflenet_v2_x0_5-small`, `efficientnet_b0-small`, `densenet121-small`, `densenet121-k12-small`, `alexnet-small`:
  stems for small images (`small.py`)
* any torchvision classifier: `resnet18`, `swin_t`, …
* any timm classifier: `timm/NAME` (extra `timm`)

To add one: a file with `build(name, n_classes, size) -> nn.Module | None` and a line in `BUILDERS`.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable

import torch
from torch import nn

from dcpipe import views
from dcpipe.networks import convnet, resnet_ap, small, thin, wrn
from dcpipe.networks.weights import expected_pixels, load_weights
from dcpipe.types import DataError, Teacher, check_same_classes, require

__all__ = [
    "BUILDERS",
    "build",
    "check_teachers",
    "embed",
    "expected_pixels",
    "forward",
    "from_teacher",
    "head",
    "load_weights",
    "mean_logits",
]


def _torchvision(name: str, n_classes: int, size: int) -> nn.Module | None:
    from torchvision import models

    if name not in models.list_models(module=models):
        return None
    extra = {"aux_logits": False, "init_weights": True} if name in ("googlenet", "inception_v3") else {}
    network: nn.Module = models.get_model(name, weights=None, num_classes=n_classes, **extra)
    return network


def _timm(name: str, n_classes: int, size: int) -> nn.Module | None:
    if not name.startswith("timm/"):
        return None
    try:
        import timm
    except ImportError as error:
        raise DataError(f"network {name!r} needs the timm package; install dcpipe[timm]") from error
    short = name.removeprefix("timm/")
    if short not in timm.list_models():
        close = ", ".join(difflib.get_close_matches(short, timm.list_models(), n=5)) or "see timm.list_models()"
        raise DataError(f"network {name!r}: timm has no model {short!r}; close names: {close}")
    network: nn.Module = timm.create_model(short, pretrained=False, num_classes=n_classes)
    return network


BUILDERS: dict[str, Callable[[str, int, int], nn.Module | None]] = {
    "convnet-dN-wN": convnet.build,
    "resnetN-wN": thin.build,
    "resnet10-ap": resnet_ap.build,
    "wrn-D-K": wrn.build,
    "NAME-small": small.build,
    "torchvision's NAME": _torchvision,
    "timm/NAME": _timm,
}


def build(name: str, n_classes: int, size: int) -> nn.Module:
    """A freshly initialised network for `size`-pixel RGB images; initial weights follow torch's global seed.

    Raises `DataError` for an unknown name, with the legal forms and close torchvision names.
    """
    for builder in BUILDERS.values():
        network = builder(name, n_classes, size)
        if network is not None:
            return network
    from torchvision import models

    close = difflib.get_close_matches(name, [*small.SMALL, *models.list_models(module=models)], n=4)
    hint = f"; close names: {', '.join(close)}" if close else ""
    raise DataError(
        f"unknown network {name!r}; use one of convnet-dN-wN, resnet10-wN, resnet18-wN, resnet10-ap, wrn-D-K, "
        f"{', '.join(small.SMALL)}, a torchvision model name, or timm/NAME{hint}"
    )


def head(network: nn.Module) -> nn.Linear:
    """The classifier: the last linear layer, in the order modules were registered."""
    linears = [module for module in network.modules() if isinstance(module, nn.Linear)]
    require(bool(linears), f"network {type(network).__name__} has no linear layer to read features from")
    return linears[-1]


def embed(network: nn.Module, inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Feature vectors [m, d] (input of the head) and logits [m, c] of a batch; differentiable."""
    caught: list[torch.Tensor] = []
    hook = head(network).register_forward_pre_hook(lambda _, arguments: caught.append(arguments[0]))
    try:
        logits = network(inputs)
    finally:
        hook.remove()
    return caught[-1].flatten(1), logits


@torch.no_grad()
def forward(network: nn.Module, inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """As `embed`, without gradients."""
    return embed(network, inputs)


def check_teachers(teachers: dict[str, Teacher], classes: tuple[str, ...], size: int) -> None:
    """Every teacher must know the images' classes in their order, and their size."""
    for name, teacher in teachers.items():
        check_same_classes(teacher.classes, classes, f"teacher {name!r} and images")
        require(
            teacher.size == size,
            f"teacher {name!r} was trained at {teacher.size} pixels, images have {size}; train it again",
        )


@torch.no_grad()
def mean_logits(networks: list[nn.Module], teachers: list[Teacher], inputs: torch.Tensor) -> torch.Tensor:
    """Mean logits f32 [m, c] of one or several teachers on inputs [m, 3, s, s] in [0, 1]; each normalises its own way.

    On a GPU: bfloat16 and channels-last.
    """
    total = torch.zeros((), device=inputs.device)
    for network, teacher in zip(networks, teachers, strict=True):
        seen = views.normalise(inputs, teacher.mean, teacher.std)
        if inputs.is_cuda:
            seen = seen.contiguous(memory_format=torch.channels_last)
        with torch.autocast(inputs.device.type, dtype=torch.bfloat16, enabled=inputs.is_cuda):
            logits = network(seen)
        total = total + logits.float()
    return total / len(networks)


def from_teacher(teacher: Teacher, device: torch.device) -> nn.Module:
    """The teacher's network in evaluation mode on `device` (channels-last on a GPU)."""
    network = build(teacher.network, len(teacher.classes), teacher.size)
    network.load_state_dict(teacher.weights)
    network = network.to(device).eval().requires_grad_(False)
    return network.to(memory_format=torch.channels_last) if device.type == "cuda" else network
