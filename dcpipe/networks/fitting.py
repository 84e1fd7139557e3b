"""Check before any work whether a network takes images of a size, by building it on torch's meta device and, if
building does not decide it, running it there; and whether a teacher's weights are those of the network it names.

Tensors on this device have shapes but no numbers, so a large network takes a tenth of a second and no memory. Weights
are not read.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from dcpipe import networks
from dcpipe.types import DataError, Teacher, require

_CLASSES = 2  # any number: whether a size fits does not depend on it
# Their `build` refuses every size that their networks cannot take, if there is one. They are not run, because the
# first run on the meta device imports torch's compiler: two seconds, at the start of every stage.
REFUSE_SIZES_WHEN_BUILT = ("convnet-dN-wN", "resnetN-wN", "resnet10-ap", "wrn-D-K", "efficientnet_lite0")

# Beyond any network of the field. Names may come from a stranger's release, and even an empty network takes time.
MAX_NUMBER = 100_000
MAX_DEPTH = 1000
_DEPTHS = re.compile(r"(?:wrn-|convnet-d)(\d+)")


class _NothingToFill(TorchFunctionMode):
    """Skips the initialisation of weights. Tensors without numbers need none, and the first call of such a function on
    the meta device imports torch's compiler."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func in (torch.Tensor.uniform_, torch.Tensor.normal_):
            return args[0]
        return func(*args, **(kwargs or {}))


@contextmanager
def without_numbers() -> Iterator[None]:
    """Networks that are built here have shapes, but no weights."""
    with torch.device("meta"), _NothingToFill(), torch.no_grad():
        yield


@cache
def check_size(name: str, size: int) -> None:
    """Raises `DataError` for an unknown network, and for one that does not take RGB images of side `size`.

    Some networks need numbers while they are built or run, for example to choose between paths. They are not refused;
    only their name is checked.
    """
    try:
        with without_numbers():
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


def structure(name: str, n_classes: int, size: int) -> nn.Module:
    """A network to look at, whose tensors have no numbers unless it needs some while it is built. Raises `DataError` as
    `networks.build` does."""
    try:
        with without_numbers():
            return networks.build(name, n_classes, size)
    except DataError:
        raise
    except Exception:  # as some networks of libraries do; these are of fixed sizes
        return networks.build(name, n_classes, size)


def check_weights(teacher: Teacher) -> None:
    """Raises `DataError` for an unknown network, and unless the teacher's weights have the names and shapes of the
    network's, which is built without numbers: its name may ask for more memory than there is."""
    name, where = teacher.network, f"teacher {teacher.network!r}"
    deep = _DEPTHS.match(name)
    require(
        all(len(digits) < 7 and int(digits) <= MAX_NUMBER for digits in re.findall(r"\d+", name))
        and (deep is None or int(deep[1]) <= MAX_DEPTH),
        f"{where} is larger than any network; numbers in its name may be at most {MAX_NUMBER:,}, depths {MAX_DEPTH:,}",
    )
    wanted = structure(name, len(teacher.classes), teacher.network_size).state_dict()
    shapes = {key: list(tensor.shape) for key, tensor in wanted.items()}
    found = {key: list(tensor.shape) for key, tensor in teacher.weights.items()}
    wrong = [key for key in sorted(shapes.keys() | found.keys()) if shapes.get(key) != found.get(key)]
    if wrong:
        key = wrong[0]
        raise DataError(
            f"{where}: its weights are of another network: {key!r} has shape {found.get(key, 'none')}, expected "
            f"{shapes.get(key, 'none')} ({len(wrong)} such tensors); get the teacher again"
        )
