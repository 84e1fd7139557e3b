"""Check before any work whether a network takes images of a size, by building and running it on torch's meta device.

Tensors on this device have shapes but no numbers, so a large network takes a tenth of a second and no memory. Weights
are not read.
"""

from __future__ import annotations

from functools import cache

import torch

from dcpipe import networks
from dcpipe.types import DataError

_CLASSES = 2  # any number: whether a size fits does not depend on it


@cache
def check_size(name: str, size: int) -> None:
    """Raises `DataError` for an unknown network, and for one that does not take RGB images of side `size`.

    Some networks need numbers while they are built or run, for example to choose between paths. They are not refused;
    only their name is checked.
    """
    try:
        with torch.device("meta"), torch.no_grad():
            networks.build(name, _CLASSES, size).eval()(torch.empty(2, 3, size, size))
    except DataError:
        raise
    except Exception as error:  # layers raise many kinds of errors for a wrong size
        reason = " ".join(str(error).split()).rstrip(".")
        if "meta" in reason.lower():
            return
        raise DataError(
            f"network {name!r} does not take images of {size} pixels ({reason}); choose another network or images.size"
        ) from error
