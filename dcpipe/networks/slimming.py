"""Network slimming (Liu et al., ICCV 2017): remove the channels whose batch norms have the smallest scales.

Idea. A batch norm scales every channel by its weight gamma. If gamma is close to 0, the channel hardly matters, and if
training adds an L1 penalty on all gammas, many become small. The channels with the smallest |gamma| of the whole
network are removed for good, so that it has fewer parameters and takes fewer operations.

Formula. Of the |gamma| of all n channels that can be removed, in ascending order g_0 <= g_1 <= ..., the threshold at a
ratio r is t = g_k with k = floor(n r), and the channels with |gamma| <= t go. Two rules are ours: ratio 0 removes
nothing (literally it would remove one channel), and the largest channel of a batch norm always stays, because a layer
without channels would cut the network in two.

Which channels can be removed. Those of a batch norm behind a convolution, if everything that uses them is a convolution
or a linear layer behind channelwise operations that map 0 to 0. This holds for all channels of a VGG, and for those
within the blocks of a ResNet, and of its stem if only convolutions use it; the widths that residual sums share stay, as
in the official code for pre-activation ResNets. Batch norms beside grouped or depthwise convolutions keep theirs, as do
those before a linear layer that does not take all channels and pixels of an image in one row, and those of layers whose
parameters are used elsewhere too.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import fx, nn
from torch.utils.flop_counter import FlopCounterMode

from dcpipe.types import DataError, NotApplicableError, require

Mask = torch.Tensor  # bool [channels], on the CPU: which of them stay
# Operations on each channel alone that map 0 to 0, so that a channel of zeros stays one.
_CHANNELWISE = (
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.SiLU, nn.GELU, nn.Hardswish, nn.Identity, nn.Dropout, nn.Dropout2d),
    *(nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d),
)
_FUNCTIONS = (
    *(torch.relu, F.relu, F.relu6, F.silu, F.gelu, F.dropout),
    *(F.avg_pool2d, F.max_pool2d, F.adaptive_avg_pool2d),
)


@dataclass(frozen=True)
class Group:
    """A batch norm whose channels can be removed: its name, that of the convolution before it, and those of the layers
    that use its channels."""

    norm: str
    producer: str
    consumers: tuple[str, ...]


@dataclass(frozen=True)
class Size:
    """What a network takes: its parameters, and the multiplications and additions of one image, in pairs (MACs) of
    convolutions and linear layers."""

    parameters: int
    macs: int


def groups_of(network: nn.Module) -> list[Group]:
    """The batch norms of a network whose channels can be removed, in the order of their computation.

    Raises `NotApplicableError` if there are none, and for a network that cannot be traced.
    """
    try:
        graph = fx.Tracer().trace(network)
    except Exception as error:  # of whatever kind, the network branches on values
        raise NotApplicableError(f"slimming cannot follow what the network computes: {error}") from error
    modules = dict(network.named_modules())
    found = []
    for node in graph.nodes:
        if node.op != "call_module" or not isinstance(modules[node.target], nn.BatchNorm2d):
            continue
        before = node.all_input_nodes[0]
        producer = modules.get(str(before.target)) if before.op == "call_module" else None
        if not isinstance(producer, nn.Conv2d) or producer.groups != 1 or len(before.users) != 1:
            continue
        consumers = _consumers(node, modules)
        if consumers and modules[node.target].affine:
            found.append(Group(str(node.target), str(before.target), tuple(consumers)))
    names = [name for group in found for name in (group.norm, group.producer, *group.consumers)]
    calls = [str(node.target) for node in graph.nodes if node.op == "call_module"]
    read = {str(node.target).rpartition(".")[0] for node in graph.nodes if node.op == "get_attr"}
    shared = read | {name for name in names if calls.count(name) > 1}
    found = [group for group in found if not shared & {group.norm, group.producer, *group.consumers}]
    if not found:
        raise NotApplicableError(
            "the network has no batch norm whose channels can be removed: take one with batch norms between "
            "convolutions, such as a VGG or a ResNet"
        )
    return found


def _consumers(norm: fx.Node, modules: Mapping[str, nn.Module]) -> list[str]:
    """The layers that use the channels of a batch norm; empty if something else uses them too."""
    found: list[str] = []
    waiting = [(node, False) for node in norm.users]  # with whether channels and pixels are in one row
    while waiting:
        node, flat = waiting.pop(0)
        module = modules.get(str(node.target)) if node.op == "call_module" else None
        if isinstance(module, nn.Linear if flat else nn.Conv2d) and getattr(module, "groups", 1) == 1:
            found.append(str(node.target))
        elif isinstance(module, _CHANNELWISE) or (node.op == "call_function" and node.target in _FUNCTIONS):
            waiting += [(user, flat) for user in node.users]
        elif _flattens_images(node, module):
            waiting += [(user, True) for user in node.users]
        else:
            return []
    return found


def _flattens_images(node: fx.Node, module: nn.Module | None) -> bool:
    """Whether an operation makes one row of each image [c, h, w], channel after channel."""
    if isinstance(module, nn.Flatten):
        return (module.start_dim, module.end_dim) == (1, -1)
    if node.op != "call_function" or node.target is not torch.flatten:
        return False
    given = dict(zip(("start_dim", "end_dim"), node.args[1:], strict=False)) | node.kwargs
    return (given.get("start_dim", 0), given.get("end_dim", -1)) == (1, -1)


def scales(network: nn.Module, groups: list[Group]) -> dict[str, torch.Tensor]:
    """|gamma| of the channels of each group, f32 on the CPU, by the name of the batch norm."""
    return {group.norm: network.get_parameter(f"{group.norm}.weight").detach().abs().cpu() for group in groups}


def penalty(network: nn.Module, groups: list[Group]) -> torch.Tensor:
    """The sum of |gamma| of all channels that can be removed, with its gradient, sign(gamma) (0 at 0)."""
    return torch.stack([network.get_parameter(f"{group.norm}.weight").abs().sum() for group in groups]).sum()


def masks_of(network: nn.Module, groups: list[Group], ratio: float) -> dict[str, Mask]:
    """Which channels of each group stay at a ratio: the global threshold of the formula above.

    Raises `DataError` for a ratio outside of [0, 1).
    """
    require(0 <= ratio < 1, f"a pruning ratio is {ratio}; give a share of channels from 0 to below 1")
    found = scales(network, groups)
    whole = torch.cat(list(found.values())).sort().values
    masks = {}
    for name, scale in found.items():
        mask = scale > whole[int(len(whole) * ratio)] if ratio > 0 else torch.ones(len(scale), dtype=torch.bool)
        mask[scale.argmax()] = True
        masks[name] = mask
    return masks


def masked(network: nn.Module, groups: list[Group], masks: Mapping[str, Mask]) -> nn.Module:
    """A copy of the network in which the channels that go give zeros: what `pruned` computes, at full size."""
    result = copy.deepcopy(network)
    with torch.no_grad():
        for group in groups:
            norm = result.get_submodule(group.norm)
            for parameter in (norm.weight, norm.bias):
                assert isinstance(parameter, nn.Parameter)
                parameter[~masks[group.norm].to(parameter.device)] = 0.0
    return result


def pruned(network: nn.Module, groups: list[Group], masks: Mapping[str, Mask]) -> nn.Module:
    """A copy of the network without the channels that go: it computes what `masked` does, in training too.

    Raises `DataError` if a layer would have no channels.
    """
    result = copy.deepcopy(network)
    for group in groups:
        stay = masks[group.norm]
        require(bool(stay.any()), f"all channels of {group.norm} would go; lower the pruning ratio")
        producer, norm = result.get_submodule(group.producer), result.get_submodule(group.norm)
        assert isinstance(producer, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)
        for name in ("weight", "bias"):
            _keep(producer, name, stay, 0)
        producer.out_channels = norm.num_features = int(stay.sum())
        for name in ("weight", "bias", "running_mean", "running_var"):
            _keep(norm, name, stay, 0)
        for consumer in group.consumers:
            layer = result.get_submodule(consumer)
            assert isinstance(layer, nn.Conv2d | nn.Linear)
            # A linear layer behind a flattened map has several columns for each channel, one beside the other.
            columns = stay.repeat_interleave(layer.weight.shape[1] // len(stay))
            _keep(layer, "weight", columns, 1)
            setattr(layer, "in_channels" if isinstance(layer, nn.Conv2d) else "in_features", int(columns.sum()))
    return result


def _keep(module: nn.Module, name: str, stay: Mask, axis: int) -> None:
    """Keep these rows (axis 0) or columns (axis 1) of a parameter or buffer, if there is one."""
    old = getattr(module, name)
    if old is not None:
        new = old.detach().index_select(axis, stay.nonzero().flatten().to(old.device)).clone()
        setattr(module, name, nn.Parameter(new) if isinstance(old, nn.Parameter) else new)


def size_of(network: nn.Module, pixels: int) -> Size:
    """The size of a network for images of `pixels` a side; PyTorch's counter counts its operations."""
    twin = copy.deepcopy(network).to("meta").eval()
    counter, dtype = FlopCounterMode(display=False), next(twin.parameters()).dtype
    with counter, torch.no_grad():
        twin(torch.empty(1, 3, pixels, pixels, device="meta", dtype=dtype))
    return Size(sum(parameter.numel() for parameter in network.parameters()), counter.get_total_flops() // 2)


@torch.no_grad()
def recalibrate(network: nn.Module, batches: Iterable[torch.Tensor]) -> nn.Module:
    """Replace the running statistics of all batch norms by their means over these batches of inputs, in place; weights
    stay as they are. A batch counts by its number of images. Dropout is off.

    A last batch of one image is left out, because its channels may have one value each, which has no variance.
    """
    norms = [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    network.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.train()
    count = 0
    for inputs in batches:
        if len(inputs) == 1 and count:
            continue
        count += len(inputs)
        for norm in norms:
            norm.momentum = len(inputs) / count
        network(inputs)
    if not count:
        raise DataError("slimming: there are no images to take the statistics of")
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return network.eval()
