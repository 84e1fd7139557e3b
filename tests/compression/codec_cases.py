"""What the tests of codecs share: labels to encode, every kind of codec, and packs through the store."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from dcpipe import compression, store, views
from dcpipe.compression import CODECS, Codec
from dcpipe.compression.base import Array
from dcpipe.compression.pool import Pool
from dcpipe.compression.prune import Prune
from dcpipe.random import permutation
from dcpipe.types import LabelPack, LabelShape, ViewPolicy

POLICY = ViewPolicy()
KINDS = {
    "none": {},
    "mean_label": {},
    "svd": {},
    "rpca": {},
    "rpca-dense": {"sparse_share": 0.0, "precision": "float64"},
    "rpca-pursuit": {"parts": "pursuit"},
    "prune": {},
    "prune-batch": {"granularity": "batch", "batch_size": 2, "seed": 5},
    "rsvd": {"oversampling": 2},
    "cur": {},
    "cur-leverage": {"pick": "leverage"},
    "cur-drawn": {"pick": "leverage", "sampling": "column_select", "seed": 3},
    "topk": {},
    "topk-8": {"bits": 8},
    "topk-hard": {"kind": "hard"},
    "topk-smoothing": {"kind": "smoothing"},
    "topk-marginal": {"kind": "marginal_smoothing", "temperature": 4.0},
    "topk-minimum": {"kind": "minimum"},
    "prune_topk": {},
    "prune_topk-minimum": {"prune": 2, "kind": "minimum"},
    "prune_topk-batch": {"prune": 1.5, "granularity": "batch", "batch_size": 2, "seed": 5, "bits": 8},
    "zipf": {},
    "zipf-fitted": {"exponent": "fitted"},
    "lowrank_int8": {},
    "lowrank_int8-exact": {"bits": 6, "exact_share": 0.4, "temperature": 0.0},
    "field": {},
    "field-fresh": {"fresh": True},
}
# Students see softmax(logits / T), which a shift does not change: these codecs keep differences of logits, those only
# their ranking.
SHIFTED = {
    "topk-8",
    "topk-smoothing",
    "topk-marginal",
    "topk-minimum",
    "prune_topk-batch",
    "prune_topk-minimum",
    "zipf-fitted",
}
RANKED = {"topk-hard", "zipf"}


def name_of(kind: str) -> str:
    return kind.split("-")[0]


def labels(shape: LabelShape, seed: int = 0) -> torch.Tensor:
    """Logits f32 [n, K, c], exactly representable in fp16: rank 2, some noise, a few outliers."""
    rng = np.random.default_rng(seed)
    n, k, c = shape.images, shape.views, shape.classes
    low = 3 * rng.normal(size=(n, k, 2)) @ rng.normal(size=(n, 2, c))
    odd = 8 * rng.normal(size=(n, k, c)) * (rng.random((n, k, c)) < 0.05)
    return torch.from_numpy((low + odd + 0.1 * rng.normal(size=(n, k, c))).astype(np.float16)).float()


def budget_of(kind: str, shape: LabelShape, ratio: float = 2.0) -> int:
    """Bytes of arrays for a ratio, which `none` cannot choose."""
    return shape.reference_bytes if kind == "none" else int(shape.reference_bytes / ratio)


def make(kind: str, shape: LabelShape, ratio: float = 2.0) -> Codec:
    return CODECS[name_of(kind)].plan(shape, budget_of(kind, shape, ratio), **KINDS[kind])


def drawn(shape: LabelShape, rows: np.ndarray, stored: np.ndarray) -> views.Views:
    return views.draw(POLICY, rows, stored, shape.images)


def encode(codec: Codec, logits: torch.Tensor, rows: np.ndarray, shape: LabelShape) -> dict[str, Array]:
    k = shape.views
    return codec.encode(logits, rows, shape, drawn(shape, np.repeat(rows, k), np.tile(np.arange(k), len(rows))))


def decode(codec: Codec, arrays: dict, rows: np.ndarray, stored: np.ndarray, shape: LabelShape) -> torch.Tensor:
    tensors = {name: torch.from_numpy(np.asarray(array)) for name, array in arrays.items()}
    return codec.decode(tensors, rows, stored, shape, drawn(shape, rows, stored))


def held_pairs(codec: Codec, shape: LabelShape) -> tuple[np.ndarray, np.ndarray]:
    """Every (row, stored view) that decodes, image by image."""
    rows = np.repeat(np.arange(shape.images), shape.views)
    stored = np.tile(np.arange(shape.views), shape.images)
    held = codec.holds(rows, stored, shape)
    return rows[held], stored[held]


def header(kind: str, codec: Codec, shape: LabelShape) -> int:
    metadata = store.pack_metadata(name_of(kind), codec.settings, shape, POLICY)
    return len(store.header_bytes(codec.specs(shape), metadata))


def plan_file(kind: str, shape: LabelShape, budget: int) -> Codec:
    """The codec whose whole file stays within the budget."""
    return compression.plan(CODECS[name_of(kind)], shape, budget, KINDS[kind], lambda c: header(kind, c, shape))


def save(path: Path, kind: str, codec: Codec, arrays: dict, shape: LabelShape) -> int:
    ids = np.arange(shape.images)
    return store.save_pack(path, LabelPack(name_of(kind), codec.settings, arrays, shape, POLICY, ids))


def most_of(bits: float) -> int:
    return 1 if bits == 1.6 else 2 ** (int(bits) - 1) - 1


def rounded_slowly(row: np.ndarray, bits: float) -> np.ndarray:
    """The best of six peaks, or eight of three levels, each least-squares for its codes, in float64."""
    most, best = most_of(bits), np.zeros_like(row)
    largest = np.abs(row).max()
    if bits == 8 or largest == 0:
        return np.round(row * most / largest) * largest / most if largest > 0 else best
    for clip in (1.0, 0.9, 0.8, 0.7, 0.6, 0.5) + ((0.4, 0.3) if bits == 1.6 else ()):
        codes = np.clip(np.round(row * most / (clip * largest)), -most, most)
        found = codes * (codes @ row) / (codes @ codes)
        if ((found - row) ** 2).sum() < ((best - row) ** 2).sum():
            best = found
    return best


def kept_slowly(pool: Pool | Prune, shape: LabelShape) -> set[tuple[int, int]]:
    """The kept (image, view) pairs: walk through the list of batches, view after view, as the paper does."""
    if pool.granularity == "epoch":
        return {(row, view) for row in range(shape.images) for view in range(pool.kept)}
    kept, left = set(), pool.kept
    for view in range(shape.views):
        order = permutation(pool.seed, view, shape.images).tolist()
        for start in range(0, shape.images - pool.batch_size + 1, pool.batch_size):
            if left > 0:
                kept |= {(row, view) for row in order[start : start + pool.batch_size]}
                left -= 1
    return kept


def features_slowly(view: views.Views, mixed: bool) -> np.ndarray:
    """All features of one view, by their definition."""
    left, top, width, height = view.box[0]
    b, t, x, r = (5 * m - 0.6 for m in (1 - top - height, top, left, 1 - left - width))
    f = 1.0 if view.flip[0] else -1.0
    x0, y0, x1, y1 = view.mix_box[0]
    u = 3 * (x1 - x0) * (y1 - y0) - 0.7
    first = [1.0, u, u * u] if mixed else [1.0]
    pairs = [b * b, t * t, x * x, r * r, f * x, f * r, x * t, r * b, r * t, x * b, f * b, f * t, t * b, x * r]
    return np.array([*first, b, t, x, r, f, *pairs])
