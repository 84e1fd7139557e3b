"""Classifiers of torchvision by their names, and classifiers of timm as `timm/NAME`."""

from __future__ import annotations

import difflib
from typing import Any

from torch import nn

from dcpipe.types import DataError


def build_torchvision(name: str, n_classes: int, size: int) -> nn.Module | None:
    """The network, or None if torchvision has none with this name."""
    from torchvision import models

    if name not in models.list_models(module=models):
        return None
    extra = {"aux_logits": False, "init_weights": True} if name in ("googlenet", "inception_v3") else {}
    network: nn.Module = models.get_model(name, weights=None, num_classes=n_classes, **extra)
    return network


def build_timm(name: str, n_classes: int, size: int) -> nn.Module | None:
    """The network, or None if `name` has another form; raises `DataError` if timm is not installed or lacks it."""
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
    config = timm.get_pretrained_cfg(short)
    # Networks of a fixed size, such as vision transformers, are made for the size that they will see.
    fixed = config is not None and config.fixed_input_size and config.input_size[-1] != size
    sized: dict[str, Any] = {"img_size": size} if fixed else {}
    try:
        network: nn.Module = timm.create_model(short, pretrained=False, num_classes=n_classes, **sized)
    except (AssertionError, TypeError, ValueError, RuntimeError, ZeroDivisionError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(
            f"network {name!r} does not take images of {size} pixels ({reason}); choose another network or images.size"
        ) from error
    return network
