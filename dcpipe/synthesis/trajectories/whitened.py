"""Trajectory matching in ZCA-whitened space, in which most published numbers of MTT, and all of DATM, were made.

The transform (`dcpipe.views.whitening`) is fitted to all real train images in [0, 1], once for all runs with the same
images. It takes the place of mean and std: experts are trained on whitened images, under augmentation that acts on
them, and the condensed images move in the same space. MTT's code stores whitened floats and, for pictures only, images
whose whitening is undone. Here those are the set: u8 images as always, beside the transform, which loaders apply. What
rounding and clipping change is measured (`losses`): in whitened space, errors are at most eps^(-1/2) times as large.
"""

from __future__ import annotations

from typing import Any

import torch

from dcpipe.store import tensors
from dcpipe.synthesis.base import Progress
from dcpipe.synthesis.gradients.real import RealImages
from dcpipe.synthesis.trajectories.collection import images_digest
from dcpipe.types import ImageSet, check_whitened_size, require
from dcpipe.views.whitening import Whitener, fit


def check(size: int, progress: Progress) -> None:
    """Raises `DataError`, before any work, for too large images, and where the transform would be lost."""
    check_whitened_size(size)
    require(
        progress.whiten is not None,
        "whitening: only the stage synthesis keeps the transform that students of the images need; leave whitening out "
        "of these options",
    )


def whiten(real: RealImages, eps: float, progress: Progress) -> None:
    """Let the real images be seen whitened, and store the transform. It is fitted once for all runs with the same
    images, because eigenvectors of large images take minutes. Raises `DataError` where `fit` does."""
    path = progress.shared / f"whitening-{images_digest(real)[:16]}-{eps!r}.safetensors"
    if not path.exists():
        made = fit(real.pixels, eps).to(torch.device("cpu"), torch.float32)
        assert made.inverse is not None
        arrays = {"mean": made.mean, "matrix": made.matrix, "inverse": made.inverse}
        tensors.write(path, {name: array.numpy() for name, array in arrays.items()}, {})
    found, _ = tensors.read(path)
    mean, matrix, inverse = (torch.from_numpy(found[name]) for name in ("mean", "matrix", "inverse"))
    real.whitening = Whitener(mean, matrix, inverse, eps).to(real.pixels.device, torch.float32)
    assert progress.whiten is not None
    progress.whiten(real.whitening.stored())


def losses(whitener: Whitener, inputs: torch.Tensor, stored: ImageSet) -> dict[str, Any]:
    """What storing whitened images [n, 3, s, s] as u8 loses, for the record: the share of values that clipping
    changes by more than rounding can; root mean squares, in pixel values of 0..255, of what clipping and what rounding
    change; then, in whitened space, of what both change and, beside it, of the images themselves."""
    pixels = whitener.undo(inputs)
    clipped = pixels.clamp(0, 1)
    kept = torch.from_numpy(stored.images).to(inputs.device).permute(0, 3, 1, 2).float() / 255
    return {
        "eps": whitener.eps,
        "clipped": float(((pixels - clipped).abs() > 0.5 / 255).double().mean()),
        "clipping": 255 * _rms(clipped - pixels),
        "rounding": 255 * _rms(kept - clipped),
        "whitened error": _rms(whitener(kept) - inputs),
        "whitened": _rms(inputs),
    }


def _rms(values: torch.Tensor) -> float:
    return float(values.double().square().mean().sqrt())
