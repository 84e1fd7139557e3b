"""`torchvision`: any classification data set of torchvision by its class name, losslessly re-encoded as PNG."""

from __future__ import annotations

import difflib
import inspect
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dcpipe.config.options import validated
from dcpipe.config.values import LocalPath, Seed, Share
from dcpipe.images.base import Source, check_ascending, checked, counts_classes, divided, reads_files
from dcpipe.types import DataError, IntArray, require

Arguments = dict[str, str | bool | int]

# The arguments that select train and test, for sets whose splits are not called "train" and "test".
_SPLITS: dict[str, tuple[Arguments, Arguments]] = {
    "FGVCAircraft": ({"split": "trainval"}, {"split": "test"}),
    "ImageNet": ({"split": "train"}, {"split": "val"}),
    "Imagenette": ({"split": "train"}, {"split": "val"}),
    "INaturalist": ({"version": "2021_train"}, {"version": "2021_valid"}),
    "OxfordIIITPet": ({"split": "trainval"}, {"split": "test"}),
    "Places365": ({"split": "train-standard"}, {"split": "val"}),
}
# Arguments of torchvision's classes that are not the user's to choose: dcpipe reads the files itself, as they are.
_OURS = {
    *("self", "root", "download", "train", "args", "kwargs"),
    *("transform", "target_transform", "loader", "is_valid_file", "allow_empty"),
}
# Number of classes of well-known sets; the classes of other sets are counted when the sets are read.
_COUNTS = {
    "CIFAR10": 10,
    "CIFAR100": 100,
    "DTD": 47,
    "EuroSAT": 10,
    "FashionMNIST": 10,
    "Flowers102": 102,
    "Food101": 101,
    "GTSRB": 43,
    "ImageNet": 1000,
    "Imagenette": 10,
    "KMNIST": 10,
    "MNIST": 10,
    "OxfordIIITPet": 37,
    "Places365": 365,
    "STL10": 10,
    "SUN397": 397,
    "SVHN": 10,
    "StanfordCars": 196,
}
_EMNIST = {"byclass": 62, "bymerge": 47, "balanced": 47, "letters": 26, "digits": 10, "mnist": 10}
_LABELS = ("targets", "labels", "_labels")
_PNG_MODES = frozenset({"1", "L", "LA", "P", "RGB", "RGBA", "I;16"})


@dataclass(frozen=True, eq=False)
class VisionSplit:
    """One split of a torchvision set. Its images are encoded when they are read."""

    classes: tuple[str, ...]
    labels: IntArray
    images: Any
    name: str

    def read(self, rows: IntArray) -> list[tuple[bytes, str]]:
        check_ascending(rows, len(self.labels), self.name)
        return [(_png(self.images[int(row)][0]), f"{self.name}-{row:08d}.png") for row in rows]


def _paths(*, root: str, download: bool = False, **others: Any) -> list[Path]:
    """No paths if torchvision downloads the set, because it does so once and verifies checksums."""
    return [] if download else [Path(root)]


def _count(*, name: str, arguments: Arguments | None = None, **others: Any) -> int | None:
    """The number of classes of a well-known set."""
    return _EMNIST.get(str((arguments or {}).get("split"))) if name == "EMNIST" else _COUNTS.get(name)


@reads_files(_paths)
@counts_classes(_count)
@validated("image source 'torchvision'")
def torchvision(
    *,
    name: str,
    root: LocalPath,
    download: bool = False,
    arguments: Arguments | None = None,
    test_share: Share = 0.2,
    seed: Seed = 0,
) -> dict[str, Source]:
    """The set `name` (CIFAR10, SVHN, Flowers102, Food101, GTSRB, …) below `root`; `download` downloads it there.

    `arguments` are other arguments of torchvision's class, such as `{split: letters}` for EMNIST, `{small: true}` for
    Places365 or `{size: 160px}` for Imagenette. One that selects the split, such as `{split: train-challenge}` for
    Places365, replaces that of train. For sets that come in one piece (EuroSAT, Caltech101, …), `seed` draws a
    stratified `test_share` for the split test.

    Labels are taken from the list of labels of the set or, if it has none, by one pass over its images. Class names are
    `.classes`, or else the indices as text. Raises `DataError` for an unknown name or argument, for an argument that is
    missing, and for a set that torchvision cannot load.
    """
    train_arguments, test_arguments = _arguments(name, arguments or {})
    train_set = _load(name, root, download, train_arguments)
    if train_arguments == test_arguments:
        whole = _split(train_set, name, None)
        return divided(whole, test_share, seed, f"torchvision {name}")
    first = _split(train_set, f"{name}-train", None)
    # Class names are those of train: for sets without names, counting the labels of test could give another number.
    second = _split(_load(name, root, download, test_arguments), f"{name}-test", first.classes)
    return checked(first, second, f"torchvision {name}")


def _arguments(name: str, given: Arguments) -> tuple[Arguments, Arguments]:
    """The arguments for the train and the test split of a set; equal if it has no splits."""
    parameters = _parameters(_class(name))
    valid = sorted(parameters.keys() - _OURS)
    for argument in given:
        require(
            argument in valid,
            f"torchvision {name} has no argument {argument!r} to choose; images.options.arguments may have "
            f"{', '.join(valid) or 'none'}",
        )
    train: Arguments = {}
    test: Arguments = {}
    if "train" in parameters:
        train, test = {"train": True}, {"train": False}
    elif name in _SPLITS or "split" in parameters:
        train, test = _SPLITS.get(name, ({"split": "train"}, {"split": "test"}))
    needed = [key for key in valid if parameters[key].default is inspect.Parameter.empty]
    missing = [key for key in needed if key not in {**train, **given}]
    require(
        not missing,
        f"torchvision {name} needs the argument {(missing or [''])[0]!r}; give images.options.arguments, such as "
        "{split: balanced} for EMNIST",
    )
    return {**train, **given}, {**given, **test}


def _parameters(make: Any) -> dict[str, inspect.Parameter]:
    """The parameters of a class by name, with those of its base classes if it passes others on, as EMNIST does."""
    found: dict[str, inspect.Parameter] = {}
    for base in make.__mro__:
        own = inspect.signature(base.__init__).parameters if "__init__" in vars(base) else {}
        found = {**own, **found}
        if own and "kwargs" not in own:
            break
    return found


def _class(name: str) -> Any:
    from torchvision import datasets

    known = [entry for entry in datasets.__all__ if "root" in inspect.signature(getattr(datasets, entry)).parameters]
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.4) or known
    require(name in known, f"torchvision has no set {name!r}; did you mean {', '.join(close)}?")
    return getattr(datasets, name)


def _load(name: str, root: str, download: bool, arguments: Arguments) -> Any:
    make = _class(name)
    extra = {"download": download} if "download" in _parameters(make) else {}
    try:
        return make(root, **arguments, **extra)
    except (RuntimeError, ValueError, TypeError, OSError) as error:
        reason = " ".join(str(error).split()).rstrip(".")
        remedy = "correct images.options.arguments" if isinstance(error, ValueError) else ""
        remedy = remedy or ("set download: true or correct root" if "download" in extra else "correct root")
        raise DataError(f"torchvision {name} cannot be loaded from {root} ({reason}); {remedy}") from error


def _split(images: Any, name: str, classes: tuple[str, ...] | None) -> VisionSplit:
    labels = _labels(images, name)
    named, places = getattr(images, "classes", None), getattr(images, "class_to_idx", None)
    if named is not None and isinstance(places, dict) and places.keys() == set(named):
        named = sorted(places, key=places.__getitem__)  # Places365 sorts `classes` by name
    if named and named[0] == "N/A" and labels.min(initial=1) > 0:
        named, labels = named[1:], labels - 1  # EMNIST counts its letters from 1
    if classes is None:
        named = named or range(int(labels.max(initial=-1)) + 1)
        # ImageNet's names are tuples of synonyms.
        names = [", ".join(entry) if isinstance(entry, tuple) else str(entry) for entry in named]
        classes = _distinct(names, getattr(images, "wnids", None))
    return VisionSplit(classes, labels, images, name)


def _distinct(names: Sequence[str], identifiers: Sequence[str] | None) -> tuple[str, ...]:
    """Class names of which none repeats: those that do get their WordNet id, or else their index, in brackets.

    ImageNet has two classes "crane", a bird (n02012849) and a machine (n03126707).
    """
    marks = identifiers if identifiers is not None and len(identifiers) == len(names) else range(len(names))
    return tuple(f"{name} ({mark})" if names.count(name) > 1 else name for name, mark in zip(names, marks, strict=True))


def _labels(images: Any, name: str) -> IntArray:
    lists = (getattr(images, attribute, None) for attribute in _LABELS)
    values = next((listed for listed in lists if listed is not None and len(listed) == len(images)), None)
    try:
        if values is None:
            values = [int(images[row][1]) for row in range(len(images))]
        return np.asarray(values).astype(np.int64)
    except (TypeError, ValueError) as error:
        raise DataError(f"{name} has no class index for each image ({error}); choose a classification set") from error


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    (image if image.mode in _PNG_MODES else image.convert("RGB")).save(buffer, format="PNG")
    return buffer.getvalue()
