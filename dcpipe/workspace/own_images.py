"""The params.yaml of a set of one's own: `dcpipe init my-images --data PATH` looks at the images and chooses.

Each choice has a comment that says why, and is one that the presets make for sets of this size. Images are listed, and
the headers of a few are read; nothing is trained or decoded.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dcpipe.config import budget
from dcpipe.config.changes import changed
from dcpipe.config.params import parse
from dcpipe.config.presets.composing import Preset, compose
from dcpipe.config.presets.writing import write
from dcpipe.images import SOURCES, split_minival
from dcpipe.images.places import Place, Remote
from dcpipe.types import IntArray, require
from dcpipe.workspace.recognising import DATA, Recognised, recognise

NAME = "my-images"
SIZES = (28, 32, 64, 96, 128, 224)  # the usual sides of training images
IPC = 10
MINIVAL = 0.1
_SAMPLE = 200  # images whose headers are read
_PASSES = 500_000  # of images through the teacher while it is trained
_EPOCHS = (10, 60)  # the fewest and the most
# Where the images are not here yet: side in pixels and number of train images of some sets of torchvision.
_KNOWN = {
    **dict.fromkeys(("MNIST", "FashionMNIST", "KMNIST", "QMNIST", "EMNIST"), (28, 60_000)),
    **dict.fromkeys(("CIFAR10", "CIFAR100", "SVHN", "GTSRB"), (32, 50_000)),
    "USPS": (16, 7291),
    "EuroSAT": (64, 21_600),
    "STL10": (96, 5000),
}


@dataclass(frozen=True)
class Seen:
    """What is known of the images: train images of each class after minival is cut off, i64 [c], or None where they are
    not here yet; the median of the shorter sides in pixels; whether all are squares of this side; how many were looked
    at."""

    counts: IntArray | None
    side: int
    same: bool
    sample: int
    images: int


def text(data: str, root: Path, ipc: int | None = None) -> str:
    """The text of params.yaml for the images at `data`, a path, a URL or the name of a set of torchvision, in the
    workspace `root`.

    Raises `DataError` for a place where no images are recognised, and for images that the source refuses.
    """
    require(ipc is None or ipc >= 1, f"--ipc is {ipc}; give at least 1")
    found = recognise(data)
    options = found.options_at(lambda there: _written(there, root))
    seen = _seen(found)
    chosen, comments = _choices(found, options, seen, ipc, data, root)
    preset = compose(NAME)
    filled = replace(
        preset,
        params=changed(preset.params, chosen),
        comments={**preset.comments, **comments},
        notes={
            **preset.notes,
            "source": f"your own images, with soft labels as in SCORE (arXiv 2503.13935); {found.why}",
        },
    )
    return write(_affordable(filled, seen.counts))


def _written(there: Place, root: Path) -> str:
    """A place as params.yaml names it: relative to the workspace, unless they have nothing but the root in common."""
    if isinstance(there, Remote):
        return there.url
    target, base = there.resolve(), root.resolve()
    common = Path(os.path.commonpath([target, base]))
    return str(target) if common == Path(common.anchor) else os.path.relpath(target, base)


def _seen(found: Recognised) -> Seen:
    """What the source says of its train images, and what their headers say."""
    if found.source == "torchvision":
        side, images = _KNOWN.get(found.options["name"], (224, 50_000))
        return Seen(None, side, side < SIZES[-1], 0, images)
    train = SOURCES[found.source](**found.options_at(lambda there: str(there)))["train"]
    rows = np.unique(np.linspace(0, len(train.labels) - 1, _SAMPLE).astype(np.int64))
    sizes = [size for data, _ in train.read(rows) if (size := _size(data)) is not None]
    require(bool(sizes), f"{found.place}: none of {len(rows)} images that were looked at can be read; correct --data")
    kept, _ = split_minival(train.labels, MINIVAL, 0)
    counts = np.bincount(train.labels[kept], minlength=len(train.classes))
    side = int(np.median([min(size) for size in sizes]))
    same = all(size == (side, side) for size in sizes)
    return Seen(counts, side, same, len(sizes), int(counts.sum()))


def _size(data: bytes) -> tuple[int, int] | None:
    """(width, height) from the header of an image; None if it has none."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            return image.size
    except Exception:  # the stage `images` tells what is wrong with it
        return None


def _choices(
    found: Recognised, options: dict[str, Any], seen: Seen, ipc: int | None, data: str, root: Path
) -> tuple[dict[str, Any], dict[str, str]]:
    """The parameters that depend on the images, and a comment on each."""
    size, about_size = _chosen_size(seen)
    network, about_network = _network(size)
    epochs = int(np.clip(round(_PASSES / max(1, seen.images)), *_EPOCHS))
    per_class, about_ipc = _ipc(seen, ipc)
    small = seen.counts is not None and per_class > seen.counts.min()
    n_classes = 10 if seen.counts is None else len(seen.counts)
    tiny = size < 32
    views = {"scale_min": 0.6 if tiny else 0.4, **({"flip": 0.0} if tiny else {})}
    key = "convnet" if network.startswith("convnet") else "resnet"
    params = {
        "images": {"source": found.source, "options": options, "size": size, "minival": MINIVAL},
        "teacher": {
            "networks": {"resnet": None, key: {"network": network}},
            "training": {"epochs": epochs, "batch_size": 64 if seen.images < 10_000 else 128, "augmentation": views},
        },
        "features": {"teacher": key, "augmentation": views},
        "selection": {"ipc": per_class, **({"small_classes": "take_all"} if small else {})},
        "softlabels": {"teachers": [key], "augmentation": views, "mix": "none" if tiny else "cutmix_labels"},
        "evaluation": {"student": network, "batch_size": int(np.clip(per_class * n_classes // 10, 10, 64))},
        "release": {"name": _release(data, root)},
    }
    flip = (
        "Small images are often of signs, which mean something else when mirrored: nothing is flipped (flip: 0.5 does)."
        if tiny
        else "Set flip: 0.0 in all three places where a mirrored image means something else, as text does."
    )
    count = f"{seen.images:,}" + (", as is assumed before it is here" if seen.counts is None else "")
    comments = {
        "images.source": "; ".join([f"Recognised: {found.why}", *found.notes]) + ".",
        "images.size": about_size,
        "images.minival": "A tenth of train, for choices between settings; test is for reporting only.",
        "teacher.networks": about_network,
        "teacher.training.epochs": f"About {_PASSES:,} passes of images (train has {count}), between "
        f"{_EPOCHS[0]} and {_EPOCHS[1]} epochs.",
        "teacher.training.augmentation": flip,
        "selection.ipc": about_ipc,
        "softlabels.views": "One for every epoch of the students.",
        "softlabels.mix": "Pasting one image of so few pixels into another hides both."
        if tiny
        else "Students see one image pasted into another, and the mean of their labels.",
    }
    return params, comments


def _chosen_size(seen: Seen) -> tuple[int, str]:
    """The side to which images are decoded, and why: that of the images if all have it, else the largest usual one that
    enlarges less than half of them."""
    of = f"of {seen.sample} images looked at" if seen.sample else "as this set usually has"
    if seen.same and 4 <= seen.side <= SIZES[2]:
        return seen.side, f"The size of the images ({of})."
    fitting = [size for size in SIZES if size <= seen.side]
    size = fitting[-1] if fitting else max(4, seen.side)
    if size == SIZES[-1] and not _has_gpu():
        return SIZES[-2], (
            f"The median of the shorter sides is {seen.side} ({of}). {SIZES[-1]} is usual on a GPU; there is none "
            f"here, and {SIZES[-2]} takes a third of the time."
        )
    return size, f"The largest usual size that is not above the median of the shorter sides, {seen.side} ({of})."


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def _network(size: int) -> tuple[str, str]:
    """A network for teacher and students, and why."""
    if size < 16:
        return "convnet-d2-w64", "For images of under 16 pixels, as in the preset digits."
    if size < 48:
        return "convnet-d3-w64", "For images of about 32 pixels, as in the preset cifar10-small."
    return (
        "resnet18-w32",
        "A ResNet of half the width, as in the preset tiny-imagenet-50-small; on a GPU, "
        f"{'resnet18-small' if size < 128 else 'resnet18'} is usual.",
    )


def _ipc(seen: Seen, asked: int | None) -> tuple[int, str]:
    """Images per class, and why."""
    if seen.counts is None:
        return asked or IPC, "Images per class."
    most, ipc = int(seen.counts.max()), asked or IPC
    require(
        asked is None or asked <= most, f"--ipc is {asked}, but no class has more than {most} train images; lower it"
    )
    why = "Images per class" + (", as asked" if asked else "")
    told = f"the classes have {int(seen.counts.min()):,} to {most:,} train images"
    if ipc > most:
        return most, f"{why}: no more, because {told}."
    small = int((seen.counts < ipc).sum())
    if small:
        return ipc, f"{why}; {told}, and {small:,} of them, which have fewer, give all (small_classes)."
    return ipc, f"{why}; {told}."


def _release(data: str, root: Path) -> str:
    """The name of the release: that of the workspace's folder, or of the data."""
    last = root.resolve().name or data.rstrip("/").rpartition("/")[2]
    plain = re.sub(r"[^a-z0-9]+", "-", last.lower()).strip("-")
    return plain or NAME


def _affordable(preset: Preset, counts: IntArray | None) -> Preset:
    """The preset with the highest ratio of those that are usual which its codec reaches, or without compression."""
    if counts is None:
        return preset
    classes = len(counts), counts.tolist()
    for ratio in (10, 5, 4, 3, 2):
        tried = _with(preset, {"compression": {"codec": "rpca", "ratio": ratio}})
        if budget.is_reached(parse(tried.params), *classes):
            return _commented(tried, "The highest of 10, 5, 4, 3 and 2 that the codec reaches for these labels.")
    tried = _with(preset, {"compression": {"codec": "none", "ratio": None}})
    shape = budget.label_shape(parse(preset.params), *classes)
    return _commented(tried, f"The labels of {shape.images:,} images are too few to be packed.")


def _with(preset: Preset, changes: Mapping[str, Any]) -> Preset:
    return replace(preset, params=changed(preset.params, changes))


def _commented(preset: Preset, why: str) -> Preset:
    return replace(preset, comments={**preset.comments, "compression.codec": why})


def missing_data() -> str:
    """What to say where `--data` is missing."""
    return f"init {NAME} needs --data; {DATA}"
