"""ZCA whitening of images, as the literature of trajectory matching uses it.

Images in [0, 1] are vectors x of d = 3 s^2 numbers (channel, row, column). With their mean m, their covariance
Sigma = sum (x - m)(x - m)^T / (N - 1) over all N train images, and its eigendecomposition U S U^T,

    x' = (x - m) W,    W = U (S + eps)^(-1/2) U^T,    x = x' W^-1 + m,    W^-1 = U (S + eps)^(1/2) U^T.

eps is inside the root, as in kornia's `ZCAWhitening`, which MTT, TESLA and DATM call with eps = 0.1 on images without
any other normalisation. At 0.1 most eigenvalues of natural images are far smaller than eps: their directions are scaled
by about 3.2, and whitened pixels do not have unit variance.

Sigma is summed in float64, block by block, so that the images are never in float64 as a whole. Cost: N d^2
multiplications for Sigma and about 10 d^3 for its eigenvectors; 8 d^2 bytes for each of a few matrices (CIFAR:
d = 3,072, 75 MB; 64 pixels: d = 12,288, 1.2 GB).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from dcpipe.types import Whitening, check_whitened_size, require

_BLOCK = 2**23  # numbers of a block in float64


@dataclass(frozen=True, eq=False)
class Whitener:
    """The transform on a device: `mean` [d], `matrix` and `inverse` [d, d] of one dtype. `inverse` is None if the
    transform was read from a set, which does not need it."""

    mean: torch.Tensor
    matrix: torch.Tensor
    inverse: torch.Tensor | None
    eps: float

    @classmethod
    def of(cls, whitening: Whitening, device: torch.device | str) -> Whitener:
        """A stored transform on a device, f32."""
        mean, matrix = (torch.from_numpy(array).to(device) for array in (whitening.mean, whitening.matrix))
        return cls(mean, matrix, None, whitening.eps)

    def to(self, device: torch.device, dtype: torch.dtype) -> Whitener:
        """The same on another device, in another dtype."""
        moved = [None if x is None else x.to(device, dtype) for x in (self.mean, self.matrix, self.inverse)]
        mean, matrix, inverse = moved
        assert mean is not None and matrix is not None
        return Whitener(mean, matrix, inverse, self.eps)

    def stored(self) -> Whitening:
        """The transform in the form in which it is stored."""
        return Whitening(self.mean.float().cpu().numpy(), self.matrix.float().cpu().numpy(), self.eps)

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        """Whitened images of those in [0, 1]: [m, 3, s, s] each; differentiable."""
        return ((pixels.flatten(1) - self.mean) @ self.matrix).view(pixels.shape)

    def undo(self, inputs: torch.Tensor) -> torch.Tensor:
        """The images [m, 3, s, s] of whitened ones. They may leave [0, 1]."""
        assert self.inverse is not None, "only a transform that was fitted can be undone"
        return (inputs.flatten(1) @ self.inverse + self.mean).view(inputs.shape)


def fit(images: torch.Tensor, eps: float, block: int | None = None) -> Whitener:
    """The transform of images u8 [n, s, s, 3], in float64 on their device (on the host if that has no float64).

    `block`: images whose products are summed at once. Raises `DataError` for one image, for too large ones, and for an
    `eps` that is too small for a covariance without full rank.
    """
    (n, size), device = images.shape[:2], images.device if images.device.type != "mps" else torch.device("cpu")
    require(n > 1, f"whitening: {n} image has no covariance; give more train images, or leave whitening out")
    check_whitened_size(size)
    d = 3 * size**2
    parts = torch.split(images, block or max(1, _BLOCK // d))

    def rows(part: torch.Tensor) -> torch.Tensor:
        return part.to(device).permute(0, 3, 1, 2).flatten(1).double() / 255

    total = torch.zeros(d, dtype=torch.float64, device=device)
    for part in parts:
        total += rows(part).sum(0)
    mean = total / n
    sigma = torch.zeros(d, d, dtype=torch.float64, device=device)
    for part in parts:
        centred = rows(part) - mean
        sigma.addmm_(centred.T, centred)
    values, vectors = torch.linalg.eigh(sigma / (n - 1))
    values = values.clamp(min=0)
    negligible = d * torch.finfo(torch.float64).eps * float(values[-1])
    rank = int((values > negligible).sum())
    require(
        float(values[0]) + eps > negligible,
        f"whitening: eps {eps:g} is too small, because {n:,} images of {d:,} numbers have a covariance of rank {rank:,}"
        "; set whitening: 0.1, or leave it out",
    )
    roots = (values + eps).sqrt()
    return Whitener(mean, _symmetric(vectors, 1 / roots), _symmetric(vectors, roots), eps)


def _symmetric(vectors: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """U diag(values) U^T, exactly symmetric."""
    product = (vectors * values) @ vectors.T
    return (product + product.T) / 2
