"""Load pretrained weights: safetensors, checkpoints of training scripts, packages that contain weights, and the weights
enums of torchvision.

Training scripts wrap the tensors of a network in many ways: below a key (`state_dict`, `model`, `net`, ...) next to an
epoch and an accuracy, with `module.` (DataParallel) or `_orig_mod.` (torch.compile) before every name, in files with
the suffix `.pth`, `.pt`, `.pth.tar`, `.ckpt` or `.bin`. All of these contain the same tensors and are read in the same
way.

Weights are accepted only if every tensor of the file and of the network has a counterpart with the same shape. Without
this rule, the tensors of ResNet-34, which include all of ResNet-18, would load into ResNet-18, which would then score
at chance.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn

from dcpipe.config import packages
from dcpipe.store.torch_files import load_plain
from dcpipe.types import DataError, require
from dcpipe.types.paths import local_path

WEIGHT_FILES = (".safetensors", ".pth", ".pt", ".pth.tar", ".ckpt", ".bin")
# Keys below which scripts store the tensors; the first one with a mapping is used.
WRAPPINGS = ("state_dict", "model_state_dict", "model_state", "model", "net", "network", "module")
PREFIXES = ("module.", "_orig_mod.")
_DEPTH = 4  # wrappings inside wrappings
# Tensors that may be missing or left over: the counters of batch norm (which old files lack) and of profilers, and the
# auxiliary classifiers of Inception and GoogLeNet, which are used only in training.
_COUNTERS = ("num_batches_tracked", "total_ops", "total_params")
_AUXILIARY = ("aux1.", "aux2.", "AuxLogits.", "aux_logits.")

Tensors = dict[str, torch.Tensor]


def expected_pixels(weights: str | None) -> tuple[list[float], list[float]] | None:
    """Mean and std of the pixels that a package or a torchvision enum was trained on; None for files and no weights."""
    if weights is None or weights.endswith(WEIGHT_FILES):
        return None
    if weights in packages.PACKAGES:
        return list(packages.PACKAGES[weights].mean), list(packages.PACKAGES[weights].std)
    from torchvision import models

    try:
        transforms = models.get_weight(weights).transforms()
    except (ValueError, KeyError):
        return None  # not an enum, which `load_weights` reports
    return list(transforms.mean), list(transforms.std)


def load_weights(network: nn.Module, name: str, weights: str, *, new: nn.Module | None = None) -> None:
    """Load pretrained weights into `network`: a file (see `WEIGHT_FILES`), an installed package (a name in
    `dcpipe.config.packages.PACKAGES`), or a torchvision enum such as `ResNet18_Weights.IMAGENET1K_V1` (downloaded by
    torchvision once).

    The module `new` of the network, usually its classifier, keeps the weights that it has, and those of the file may
    have any shape.

    Raises `DataError` if the file or package is missing or damaged, contains no tensors, or contains those of another
    network: some are missing, left over, or have another shape. Also if numbers in it are not finite, or are integers
    where the network has none (a quantised network). The network is then unchanged.
    """
    file = local_path(weights, "the file of a teacher's weights")
    if weights.endswith(WEIGHT_FILES):
        state = _read_file(file)
    elif weights in packages.PACKAGES:
        state = _read_file(packages.verified(weights))
    else:
        state = _torchvision_state(name, weights)
    wanted = network.state_dict()
    state = _without_prefixes(state, wanted)
    if new is not None:
        path = next(path for path, module in network.named_modules() if module is new)
        state |= {key: value for key, value in wanted.items() if key.startswith(f"{path}.")}
    missing = [key for key in wanted if key not in state and not key.endswith(_COUNTERS)]
    reshaped = [key for key in wanted if key in state and state[key].shape != wanted[key].shape]
    if wrong := [key for key in wanted if key in missing or key in reshaped]:
        key = wrong[0]
        shape = list(state[key].shape) if key in state else "nothing"
        raise DataError(
            f"teacher weights {weights!r} do not fit {name!r}: {key!r} needs {list(wanted[key].shape)}, found {shape} "
            f"({len(wrong)} such tensors); check the network's name; for other classes, set head to linear or finetune"
        )
    left = [
        key for key in state if key not in wanted and not key.endswith(_COUNTERS) and not key.startswith(_AUXILIARY)
    ]
    require(
        not left,
        f"teacher weights {weights!r} are of another network than {name!r}, which has no tensor {(left or [''])[0]!r} "
        f"({len(left)} such tensors); give the network's name that they were trained with",
    )
    strange = [key for key in wanted if key in state and not _loadable(state[key], wanted[key])]
    require(
        not strange,
        f"teacher weights {weights!r}: tensor {(strange or [''])[0]!r} is not made of finite floating-point numbers "
        f"({len(strange)} such tensors); save the state_dict of a network that is neither quantised nor diverged",
    )
    network.load_state_dict({key: state.get(key, value) for key, value in wanted.items()})


def _loadable(found: torch.Tensor, wanted: torch.Tensor) -> bool:
    """Whether a tensor has values that copying does not change but for their precision."""
    floating = found.is_floating_point() or not wanted.is_floating_point()
    stored = found.layout == torch.strided and not found.is_meta
    return floating and stored and bool(torch.isfinite(found).all())


def _read_file(path: Path) -> Tensors:
    """The tensors of a weights file by name, without the wrappings that training scripts add."""
    require(path.is_file(), f"teacher weights {str(path)!r} not found; give an existing file")
    try:
        content: Any = load_file(path) if path.suffix == ".safetensors" else load_plain(path)
    except Exception as error:  # both readers raise many kinds of errors for a damaged file
        raise DataError(
            f"teacher weights '{path}' cannot be read ({type(error).__name__}); "
            "give a .safetensors file, or a .pth file of tensors only"
        ) from error
    state = _unwrapped(content)
    require(
        bool(state),
        f"teacher weights '{path}' contain no tensors by name, neither at the top nor below one of "
        f"{', '.join(WRAPPINGS)}; save the network's state_dict",
    )
    return state


def _unwrapped(content: Any) -> Tensors:
    """The mapping of names to tensors inside a checkpoint; empty if there is none."""
    for _ in range(_DEPTH):
        if not isinstance(content, Mapping):
            return {}
        inner = next((content[key] for key in WRAPPINGS if isinstance(content.get(key), Mapping)), None)
        if inner is None:
            return {str(key): value for key, value in content.items() if isinstance(value, torch.Tensor)}
        content = inner
    return {}


def _without_prefixes(state: Tensors, wanted: Mapping[str, torch.Tensor]) -> Tensors:
    """The tensors by the names of the network: a prefix of all names in the file is removed if the network has none."""
    for _ in range(_DEPTH):
        for prefix in PREFIXES:
            if state and all(key.startswith(prefix) for key in state) and not any(k.startswith(prefix) for k in wanted):
                state = {key.removeprefix(prefix): value for key, value in state.items()}
    return state


def _torchvision_state(name: str, weights: str) -> Tensors:
    from torchvision import models

    try:
        enum = models.get_weight(weights)
    except (ValueError, KeyError) as error:
        raise DataError(
            f"teacher weights {weights!r} are neither a file ({', '.join(WEIGHT_FILES)}) nor a package "
            f"({', '.join(packages.PACKAGES)}) nor a torchvision weights enum for {name!r}"
        ) from error
    state: Tensors = enum.get_state_dict(progress=False, check_hash=True)
    return state
