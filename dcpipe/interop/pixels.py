"""The pixels of tensors as bytes: normalisation is undone, values are clamped to [0, 1] and rounded, and what that
changed is counted.

Whether a tensor is normalised cannot be read from it, so it is stated, and values can refute the statement:

* Normalised images have values below -1.5 or so, and raw ones stay near [0, 1]. So values that all lie close to [0, 1]
  are not normalised, and if `WRONG` of the values leave [0, 1], the stated constants are not those of the images.
* If nothing is stated, images with at most `RAW` of their values outside [0, 1] are taken as raw, and others are asked
  for. Constants are never guessed: those of two data sets differ too little for any check.

Synthetic images leave [0, 1] by a few percent of their values even with the right constants, those of MTT by more than
those of DC. They are clamped, because a picture has no other values; they are never rescaled.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dcpipe.types import Colour, DataError, require

WRONG, RAW = 0.25, 0.05
MARGIN = 0.1  # how far beyond [0, 1] the values of raw images may be if all are raw
_BLOCK_BYTES = 64 * 2**20  # of values that are converted at a time
Values = npt.NDArray[Any]

# The constants of projects, by the data set that they are used with (utils.py of DatasetCondensation). Others use a
# larger std of CIFAR-10 (.2470 .2435 .2616), or the constants of CIFAR-10 for CIFAR-100.
CONSTANTS: dict[str, tuple[Colour, Colour]] = {
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "cifar100": ((0.5071, 0.4866, 0.4409), (0.2673, 0.2564, 0.2762)),
    "svhn": ((0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970)),
    "mnist": ((0.1307,) * 3, (0.3081,) * 3),
    "fashionmnist": ((0.2861,) * 3, (0.3530,) * 3),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "tinyimagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}
NONE = "none"


@dataclass(frozen=True)
class Scale:
    """What is stated of the values of a file: `normalised`, a name in `CONSTANTS`, "none", or None for nothing; and
    `mean`, `std`, if given. Constants without `normalised` are those that the file was normalised with."""

    normalised: str | None = None
    mean: Colour | None = None
    std: Colour | None = None

    def __post_init__(self) -> None:
        names = (*CONSTANTS, NONE)
        require(
            self.normalised is None or self.normalised in names,
            f"--normalised is {self.normalised!r}; choose one of {', '.join(names)}, or give --mean and --std",
        )
        require((self.mean is None) == (self.std is None), "--mean and --std belong together; give both or none")
        require(
            self.mean is None or self.normalised in (None, NONE),
            f"--normalised {self.normalised} has its own mean and std; leave out either it or --mean and --std",
        )
        require(self.std is None or min(self.std) > 0, f"--std is {self.std}; give numbers above 0, in units of [0, 1]")

    @property
    def constants(self) -> tuple[Colour, Colour] | None:
        """The mean and std that are stated, for undoing normalisation or for students; None if there are none."""
        if self.mean is not None and self.std is not None:
            return self.mean, self.std
        return CONSTANTS.get(self.normalised or "")

    @property
    def undone(self) -> tuple[Colour, Colour] | None:
        """The constants that the file's values were normalised with; None if they are raw or if nothing is stated."""
        return None if self.normalised == NONE else self.constants


@dataclass(frozen=True, eq=False)
class Rounded:
    """Pixels u8 [n, s, s, 3]; `clamped`, the share of values that were outside [0, 1]; `note`, what was done."""

    pixels: npt.NDArray[np.uint8]
    clamped: float
    note: str


def rounded(values: Values, scale: Scale, where: str, hint: str = "", force: bool = False) -> Rounded:
    """Values [n, 3 or 1, s, s] of a tensor, floats or bytes, as pixels. Grey images get three equal channels.

    `hint` is a name that says which data set it may be, for the message that asks. Raises `DataError` for NaN and
    infinity, naming the image, and for values that refute what is stated, unless `force`.
    """
    if values.dtype.kind == "u":
        require(scale.undone is None, f"{where} holds bytes 0..255, which are not normalised; give --normalised none")
        return Rounded(_three_channels(values), 0.0, "the file holds bytes, which are kept")
    low, high, outside = _range(values, where)
    span = f"values span {low:.3g} to {high:.3g}"
    require(
        low < 0 or high <= 20,
        f"{where}: {span}, in units of bytes; convert the images to torch.uint8, and save them again",
    )
    constants = scale.undone
    if constants is None:
        known = scale.normalised == NONE
        limit = WRONG if known else RAW
        require(
            outside <= limit or (known and force),
            f"{where}: {span}, {100 * outside:.1f} % outside [0, 1], so they are normalised; say with which constants "
            f"by --normalised {_guess(hint)} or by --mean and --std" + (", or use --force" if known else ""),
        )
        pixels, clamped = _bytes_of(values, (0.0,) * 3, (1.0,) * 3)
        taken = "as --normalised none says" if known else f"because {100 * outside:.1f} % are outside [0, 1]"
        return Rounded(pixels, clamped, f"{span} and are taken as not normalised, {taken}")
    require(
        force or low < -MARGIN or high > 1 + MARGIN,
        f"{where}: {span}, as of images that are not normalised; give --normalised none, or --force to undo it anyway",
    )
    pixels, clamped = _bytes_of(values, *constants)
    require(
        force or clamped <= WRONG,
        f"{where}: with mean {list(constants[0])} and std {list(constants[1])} undone, {100 * clamped:.1f} % of values "
        "are outside [0, 1], so these are not its constants; give others, or --force",
    )
    return Rounded(pixels, clamped, f"{span}; mean {list(constants[0])} and std {list(constants[1])} were undone")


def _guess(hint: str) -> str:
    """The name of a data set that occurs in the name of a file, or all names."""
    plain = "".join(sign for sign in hint.lower() if sign.isalnum())
    found = [name for name in sorted(CONSTANTS, key=len, reverse=True) if name in plain]
    return found[0] if found else ", ".join(CONSTANTS)


def _blocks(values: Values) -> Iterator[tuple[int, npt.NDArray[np.float64]]]:
    """Rows of images and their first row, a few at a time, as f64."""
    step = max(1, _BLOCK_BYTES // (8 * int(np.prod(values.shape[1:], dtype=np.int64))))
    for start in range(0, len(values), step):
        yield start, values[start : start + step].astype(np.float64)


def _range(values: Values, where: str) -> tuple[float, float, float]:
    """Least and largest value, and the share of values outside [0, 1]."""
    low, high, outside = np.inf, -np.inf, 0
    for start, block in _blocks(values):
        finite = np.isfinite(block).all(axis=(1, 2, 3))
        if not finite.all():
            raise DataError(f"{where}: image {start + int(np.argmin(finite))} contains NaN or infinity; make it again")
        low, high = min(low, float(block.min())), max(high, float(block.max()))
        outside += int(((block < 0) | (block > 1)).sum())
    return low, high, outside / values.size


def _bytes_of(values: Values, mean: Colour, std: Colour) -> tuple[npt.NDArray[np.uint8], float]:
    """Pixels u8 [n, s, s, 3] of values * std + mean, rounded half up, and the share that was clamped."""
    n, channels, height, width = values.shape
    pixels, outside = np.empty((n, height, width, 3), dtype=np.uint8), 0
    scale, shift = (np.array(numbers[:channels])[:, None, None] for numbers in (std, mean))
    for start, block in _blocks(values):
        raw = block * scale + shift
        # Less than half a level beyond rounds to the end of the range: such a value is not changed by the clamp.
        outside += int(((raw < -0.5 / 255) | (raw > 1 + 0.5 / 255)).sum())
        whole = np.floor(255 * raw.clip(0, 1) + 0.5).astype(np.uint8)
        pixels[start : start + len(block)] = _three_channels(whole)
    return pixels, outside / values.size


def _three_channels(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Images [n, 3 or 1, s, s] as [n, s, s, 3]."""
    n, _, height, width = images.shape
    return np.ascontiguousarray(np.broadcast_to(images, (n, 3, height, width)).transpose(0, 2, 3, 1))
