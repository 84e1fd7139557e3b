"""Whether a network takes images of a size, asked before any work: it is built and run on torch's meta device.

There tensors have shapes and no numbers, so that a large network takes a tenth of a second and no memory. Weights are
not read.
"""

from __future__ import annotations

from functools import cache

import torch

from dcpipe import networks
from dcpipe.types import DataError

_CLASSES = 2  # heads are not what a size can break


@cache
def check_size(name: str, size: int) -> None:
    """Raises `DataError` for an unknown network, and for one that does not take RGB images of `size` pixels a side.

    A network that needs numbers while it is built or run, as some do to choose among paths, is not refused: only its
    name is checked.
    """
    try:
        with torch.device("meta"), torch.no_grad():
            networks.build(name, _CLASSES, size).eval()(torch.empty(2, 3, size, size))
    except DataError:
        raise
    except Exception as error:  # layers complain in many ways
        reason = " ".join(str(error).split()).rstrip(".")
        if "meta" in reason.lower():
            return
        raise DataError(
            f"network {name!r} does not take images of {size} pixels ({reason}); choose another network or images.size"
        ) from error
