"""`pair`: images and labels in two files, each one tensor.

MTT writes `images_{step}.pt` and `labels_{step}.pt` (and `..._best.pt`), DATM the same with soft labels, and users of
DD-Ranking `images.pt` and `labels.pt`. Images are f32 [n, 3, s, s], normalised and not clamped, class by class; labels
are i64 [n] or soft, f32 [n, classes]. With ZCA whitening, MTT writes whitened images, and beside them
`images_zca_{step}.pt`, in which the whitening is undone: only these are pictures, so the whitened ones are refused.
"""

from __future__ import annotations

from pathlib import Path

import torch

from dcpipe.interop.sets.base import (
    Format,
    Found,
    Options,
    Source,
    classes_of_soft,
    images_of,
    labels_of,
    soft_labels_of,
)
from dcpipe.store.torch_files import read_plain
from dcpipe.types import require

_ZCA = "images_zca"


def files(source: Source) -> list[Path]:
    """Files of images in a folder, without whitened ones whose whitening is undone in another file."""
    found = source.named("images*.pt")
    return [path for path in found if path.name.startswith(_ZCA) or not _unwhitened(path).is_file()]


def _unwhitened(path: Path) -> Path:
    return path.with_name(path.name.replace("images", _ZCA, 1))


def owns(source: Source) -> bool:
    """A tensor of four dimensions."""
    return isinstance(source.content, torch.Tensor) and source.content.dim() == 4


def read(source: Source, options: Options) -> Found:
    """The images of a file, and the labels of the file beside it whose name says `labels`."""
    path = source.path
    require(
        path.name.startswith("images"),
        f"{path} is a tensor of images, whose labels are looked for by its name; call them images….pt and labels….pt",
    )
    require(
        path.name.startswith(_ZCA) or not _unwhitened(path).is_file(),
        f"{path} is ZCA-whitened, as {_unwhitened(path).name} beside it shows, and no picture; give that file",
    )
    beside = _labels_beside(path)
    images = images_of(source.content, str(path))
    stored = read_plain(beside, "save the labels as one tensor")
    notes = ["whitening was undone by the project that wrote it"] if path.name.startswith(_ZCA) else []
    if not isinstance(stored, torch.Tensor) or stored.dim() != 2:
        return Found(images, labels_of(stored, str(beside), len(images)), (path, beside), notes=tuple(notes))
    soft = soft_labels_of(stored, str(beside), len(images))
    labels, how = classes_of_soft(soft, options.classes_from, str(beside))
    return Found(images, labels, (path, beside), soft, notes=(*notes, how))


def _labels_beside(path: Path) -> Path:
    prefix = _ZCA if path.name.startswith(_ZCA) else "images"
    beside = path.with_name("labels" + path.name.removeprefix(prefix))
    require(beside.is_file(), f"{path} has no {beside.name} beside it; put the labels of these images there")
    return beside


FORMAT = Format("images….pt and labels….pt: MTT, DATM, DD-Ranking", files, owns, read)
