"""The candidates of a greedy choice: one class is read at a time, and products with picks are kept."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from dcpipe.types import IntArray, Sliceable, require

# Kept products take at most this many bytes. Those of 1.28 million candidates with 50 picks of their class fit.
BUDGET = 2**28
# Shorter or longer vectors are scaled before they are multiplied, because products in float32 would lose digits.
_PLAIN = 1e-18, 1e18


class Pool:
    """Loads candidates on demand: one class as it is, and some rows at unit length and on the device."""

    def __init__(self, vectors: Sliceable, offsets: IntArray, device: torch.device) -> None:
        self.vectors, self.offsets, self.device = vectors, offsets, device
        self.norms = np.ones(int(offsets[-1]))
        self.nonzero = np.zeros(int(offsets[-1]), dtype=np.float32)
        self.measured: set[int] = set()
        self.loaded = -1
        self.block: npt.NDArray[np.floating] = np.zeros((0, 0))
        self.inverse = self.squares = torch.empty(0)

    def rows(self, label: int) -> slice:
        return slice(int(self.offsets[label]), int(self.offsets[label + 1]))

    def load(self, label: int) -> None:
        """Read a class, unless it is the one that was read last."""
        if self.loaded == label:
            return
        rows = self.rows(label)
        block = np.asarray(self.vectors[rows])
        if label not in self.measured:
            self._measure(label, block)
        norms = self.norms[rows]
        if norms.min(initial=1.0) < _PLAIN[0] or norms.max(initial=1.0) > _PLAIN[1]:
            block, norms = block / norms[:, None], np.ones(len(norms))
        self.loaded, self.block = label, block.astype(np.float32, copy=False)
        self.inverse = torch.from_numpy((1.0 / norms).astype(np.float32)).to(self.device)
        self.squares = torch.from_numpy(self.nonzero[rows]).to(self.device)

    def lengths(self, label: int) -> torch.Tensor:
        """The squared lengths of the vectors of a class, f32 [N]: 1, or 0 for a row of zeros."""
        self.load(label)
        return self.squares

    def some(self, label: int, places: IntArray | None) -> torch.Tensor:
        """Some vectors of a class at unit length, or all, f32 [m, d]."""
        self.load(label)
        if places is None:
            return torch.from_numpy(self.block.copy()).to(self.device).mul_(self.inverse[:, None])
        inverse = self.inverse[torch.from_numpy(places).to(self.device)]
        return torch.from_numpy(self.block[places]).to(self.device).mul_(inverse[:, None])

    def products(self, label: int, picks: torch.Tensor) -> torch.Tensor:
        """The products of a class with picks f64 [n, d]: f32 [N, n]."""
        self.load(label)
        if self.device.type != "cpu":
            return self.some(label, None) @ picks.float().T
        raw = self.block @ picks.float().numpy().T  # NumPy, because torch warns of arrays that cannot be written
        return torch.from_numpy(raw).mul_(self.inverse[:, None])

    def exact(self, rows: IntArray) -> torch.Tensor:
        """Some rows, f64 [m, d], of classes that have been loaded before."""
        block = np.asarray(self.vectors[rows], dtype=np.float64)
        return torch.from_numpy(block / self.norms[rows, None]).to(self.device)

    def _measure(self, label: int, block: npt.NDArray[np.floating]) -> None:
        norms = np.sqrt(np.einsum("nd,nd->n", block, block, dtype=np.float64))
        require(
            bool(np.isfinite(norms).all()),
            f"candidates: vectors of class {label} contain NaN or infinity; extract the features again",
        )
        self.norms[self.rows(label)] = np.where(norms > 0, norms, 1.0)  # rows of zeros stay zero
        self.nonzero[self.rows(label)] = norms > 0
        self.measured.add(label)


class Products:
    """The products of the candidates of each class with a growing list of picks, f32.

    The products of a class are kept as long as all that is kept fits `budget` bytes; then a new pick costs one
    matrix-vector product. The others are computed each time.
    """

    def __init__(self, pool: Pool, budget: int) -> None:
        self.pool, self.left = pool, budget
        self.kept: dict[int, torch.Tensor] = {}
        self.done: dict[int, int] = {}

    def of(self, label: int, picks: torch.Tensor, places: list[int] | slice, n: int, most: int) -> torch.Tensor:
        """Products f32 [N, n] of the candidates of a class with the n rows `places` of `picks` f64 [total, d].

        There will be `most` places, and those of the last call for this class must be the first of these.
        """
        done = self.done.get(label, 0)
        if label not in self.kept:
            rows = self.pool.rows(label)
            shape = rows.stop - rows.start, most
            if 4 * shape[0] * shape[1] > self.left:
                return self.pool.products(label, picks[places])
            self.left -= 4 * shape[0] * shape[1]
            self.kept[label] = torch.empty(shape, device=picks.device)
        if done < n:
            new = slice(done, n) if isinstance(places, slice) else places[done:]
            self.kept[label][:, done:n] = self.pool.products(label, picks[new])
            self.done[label] = n
        return self.kept[label][:, :n]

    def clear(self) -> None:
        """Forget all products, and keep no more."""
        self.kept.clear()
        self.left = 0
