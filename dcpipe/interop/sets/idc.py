"""`idc`: the sets of IDC, DREAM and MDC, `data.pt` or `data{step}.pt`: a list [images f32 [n, channels, s, s], labels
i64 [n]], class by class, in units of about [0, 1] and not clamped.

Each stored image is a grid of f x f training images (multi-formation), which the file does not say and no check can
find out, so `--factor` is asked for; 1 is IDC-I. The first images of a class are the smaller set of MDC, whose code
takes the first n f^2 cells (`--by cells`); the paper, the first n images. `regularizer_*.pkl` beside them is a pickle,
which is never read.
"""

from __future__ import annotations

import torch

from dcpipe.interop.sets.base import Format, Found, Options, Source, images_of, labels_of
from dcpipe.types import DataError
from dcpipe.views import multiformation


def owns(source: Source) -> bool:
    """A list of two tensors."""
    content = source.content
    return (
        isinstance(content, list | tuple)
        and len(content) == 2
        and all(isinstance(entry, torch.Tensor) for entry in content)
    )


def read(source: Source, options: Options) -> Found:
    """The stored images, as grids."""
    path, (first, second) = source.path, source.content
    images = images_of(first, f"{path}: images")
    labels = labels_of(second, f"{path}: labels", len(images))
    factor = options.factor
    if factor is None:
        raise DataError(
            f"{path} does not say whether its images are grids; give --factor 2 or 3 as they were made, or 1 if not"
        )
    multiformation.cell_side(images.shape[-1], factor)
    by = options.by or "images"
    notes = (f"a smaller set is its first {by}; --by changes that",) if factor > 1 and options.by is None else ()
    return Found(images, labels, (path,), notes=notes, grid=factor, by=by)


FORMAT = Format("data….pt: IDC, DREAM, MDC", lambda source: source.named("data*.pt"), owns, read)
