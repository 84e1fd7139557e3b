"""Features: what selection needs to know about every candidate image, computed by a teacher.

`extract` computes the feature vector and the logits of each whole image, and `label_rates` computes R_C of its soft
labels over a few random views. The soft labels of these views are not stored; only the scalar R_C is. Where R_C of all
images takes too long, `shortlist` chooses the images that it is measured for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from dcpipe import networks, store, views
from dcpipe.coding_rate import Objective, greedy
from dcpipe.coding_rate.label_rate import label_rate
from dcpipe.precision import autocast
from dcpipe.types import FloatArray, IntArray, Precision, Sliceable, Teacher, ViewPolicy, require

Float32 = npt.NDArray[np.float32]


def extract(
    network: nn.Module,
    teacher: Teacher,
    images: npt.NDArray[np.uint8],
    *,
    batch_size: int,
    device: torch.device,
    precision: Precision = "auto",
) -> tuple[Float32, Float32]:
    """Vectors f32 [n, d] and logits f32 [n, c] of whole images u8 [n, s, s, 3]."""
    vectors, logits = [], []
    for start in range(0, len(images), batch_size):
        pixels = views.send(images[start : start + batch_size], device).permute(0, 3, 1, 2).float() / 255.0
        with autocast(precision, device):
            vector, logit = networks.forward(network, views.normalise(pixels, teacher.mean, teacher.std))
        vectors.append(vector.float().cpu().numpy())
        logits.append(logit.float().cpu().numpy())
    return np.concatenate(vectors), np.concatenate(logits)


def label_rates(
    network: nn.Module,
    teacher: Teacher,
    images: npt.NDArray[np.uint8],
    ids: IntArray,
    *,
    policy: ViewPolicy,
    n_views: int,
    rate_options: dict[str, Any],
    batch_size: int,
    device: torch.device,
) -> FloatArray:
    """R_C f64 [n] of images u8 [n, s, s, 3], each over `n_views` views; `rate_options` are passed to `label_rate`.

    Each batch holds `batch_size` views of a few images, so memory depends neither on n nor on the number of views.
    """
    rates = np.empty(len(images), dtype=np.float64)
    step = max(1, batch_size // n_views)
    for start in range(0, len(images), step):
        rows = np.arange(start, min(start + step, len(images)))
        block = views.send(images[start : start + len(rows)], device)
        local = np.repeat(np.arange(len(rows)), n_views)
        drawn = views.draw(policy, ids[rows][local], np.tile(np.arange(n_views), len(rows)), len(rows))
        logits = []
        for piece in range(0, len(local), batch_size):
            span = slice(piece, piece + batch_size)
            inputs = views.crop(views.take(block, local[span]), drawn[span], teacher.size)
            logits.append(networks.mean_logits([network], [teacher], inputs))
        labels = torch.cat(logits).reshape(len(rows), n_views, -1)
        rates[rows] = label_rate(labels, **rate_options).cpu().numpy()
    return rates


def describe_rates(rates: FloatArray) -> str:
    """Mean and spread of R_C f64 [n] in one sentence, which shows whether the beta of `score` can have an effect."""
    return (
        f"R_C of {len(rates):,} images: mean {rates.mean():.4g}, standard deviation {rates.std():.2g} nats; selection "
        f"subtracts beta times R_C, so a beta of 0.1 shifts gains by about {0.1 * rates.std():.1g} nats"
    )


def check_shortlist(per_class: int, labels: IntArray, classes: Sequence[str]) -> None:
    """Raises `DataError` for a shortlist longer than a class, naming the smallest one."""
    sizes = np.bincount(labels, minlength=len(classes))
    smallest = int(sizes.argmin())
    require(
        per_class <= sizes[smallest],
        f"features.label_rate.shortlist.per_class is {per_class} but class {classes[smallest]!r} has "
        f"{int(sizes[smallest])} images; lower it, or leave the shortlist out",
    )


def shortlist(
    vectors: Sliceable,
    labels: IntArray,
    n_classes: int,
    *,
    per_class: int,
    alpha: float,
    eps2: float,
    device: torch.device,
    folder: Path,
    earlier: Mapping[str, npt.NDArray[Any]] | None = None,
    report: Callable[[IntArray, FloatArray], None] = lambda rows, gains: None,
) -> IntArray:
    """Place of each image in its class's shortlist, i64 [n] from 0, -1 for none: the order in which the greedy choice
    by R_I - alpha R_D takes the first `per_class` of every class.

    `vectors` f32 [n, d] are sorted by class into a file in `folder`. `report` gets the rows and gains chosen so far,
    after every choice; a killed run continues from them, which it gets as `earlier`.
    """
    order, offsets = store.by_label(labels, n_classes)
    total = per_class * n_classes
    rows, _ = greedy(
        store.sorted_rows(vectors, order, folder / "vectors.npy"),
        offsets,
        np.zeros(len(order)),
        total,
        Objective(alpha, 0.0, eps2, device=str(device)),
        earlier=None if earlier is None else (earlier["rows"], earlier["gains"]),
        report=report,
    )
    rank = np.full(len(order), -1, dtype=np.int64)
    rank[order[rows]] = np.arange(total) // n_classes
    return rank
