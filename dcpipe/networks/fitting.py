"""Check before any work whether a network takes images of a size, by building it on torch's meta device and, if
building does not decide it, running it there.

Tensors on this device have shapes but no numbers, so a large network takes a tenth of a second and no memory. Weights
are not read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from dcpipe import networks
from dcpipe.types import DataError

_CLASSES = 2  # any number: whether a size fits does not depend on it
# Their `build` refuses every size that their networks cannot take. They are not run, because the first run on the meta
# device imports torch's compiler: two seconds, at the start of every stage.
REFUSE_SIZES_WHEN_BUILT = ("convnet-dN-wN", "resnetN-wN", "resnet10-ap", "wrn-D-K")


class _NothingToFill(TorchFunctionMode):
    """Skips the initialisation of weights. Tensors without numbers need none, and the first call of such a function on
    the meta device imports torch's compiler."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func in (torch.Tensor.uniform_, torch.Tensor.normal_):
            return args[0]
        return func(*args, **(kwargs or {}))


@cache
def check_size(name: str, size: int) -> None:
    """Raises `DataError` for an unknown network, and for one that does not take RGB images of side `size`.

    Some networks need numbers while they are built or run, for example to choose between paths. They are not refused;
    only their name is checked.
    """
    try:
        with torch.device("meta"), _NothingToFill(), torch.no_grad():
            if any(networks.BUILDERS[form](name, _CLASSES, size) for form in REFUSE_SIZES_WHEN_BUILT):
                return
            networks.construct(name, _CLASSES, size).eval()(torch.empty(2, 3, size, size))
    except DataError:
        raise
    except Exception as error:  # layers raise many kinds of errors for a wrong size
        reason = " ".join(str(error).split()).rstrip(".")
        if "meta" in reason.lower():
            return
        raise DataError(
            f"network {name!r} does not take images of {size} pixels ({reason}); choose another network or images.size"
        ) from error
