"""DD-Ranking's form: two files of one tensor each, as its evaluators take them (`torch.load` of images.pt, labels.pt).

* `images.pt` f32 [n, 3, h, w]: normalised with the release's mean and std, as they go to a student; sorted by class,
  as many of each, for its evaluators name hard labels by position: ipc zeros, ipc ones, and so on.
* `labels.pt`: f32 [n, c] logits, one row an image (`soft_label_mode: S`); its losses soften both sides themselves. An
  image here has labels of K views and there of one: we give the mean of its logits over the views that the pack holds.
  Without soft labels, i64 [n], the classes.

DD-Ranking normalises its test images with constants of its own for each dataset; where a release's differ, students
are tested on pixels of another scale. It augments in its own way: stored views are not replayed. A third file, `lr.pt`,
is a learning rate, which a release does not hold; without it the evaluators search for one.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from dcpipe.dataset.targets import PackLabels, rows_of
from dcpipe.release.reading import Release
from dcpipe.types import IntArray, LabelPack, require
from dcpipe.views import normalise, views_of


def write_ddranking(release: Release, folder: Path, pack: LabelPack | None) -> None:
    """Write the pair; raises `DataError` for classes of unequal size and for an image of which no label is held."""
    images = release.images
    counts = np.bincount(images.labels, minlength=len(images.classes))
    require(
        bool((counts == counts[0]).all()),
        f"release {release.name} has {counts.min()} to {counts.max()} images a class, DD-Ranking wants as many of "
        f"each; export --ipc {counts.min()}",
    )
    order = np.argsort(images.labels, kind="stable")
    pixels = torch.from_numpy(images.images[order]).permute(0, 3, 1, 2).float() / 255
    torch.save(normalise(pixels, *release.normalisation).contiguous(), folder / "images.pt")
    hard = torch.from_numpy(images.labels[order])
    torch.save(hard if pack is None else mean_logits(pack, rows_of(pack, images)[order]), folder / "labels.pt")


def mean_logits(pack: LabelPack, rows: IntArray) -> torch.Tensor:
    """The mean of each image's logits over the views whose labels the pack holds: f32 [len(rows), c]."""
    labels = PackLabels(pack, torch.device("cpu"))
    total = torch.zeros(len(rows), pack.shape.classes)
    count = torch.zeros(len(rows), 1)
    taken = views_of(pack.policy.labelling, pack.ids)
    for view in range(pack.shape.views):
        numbers = np.full(len(rows), view, dtype=np.int64)
        held = labels.codec.holds(rows, numbers, pack.shape)
        if held.any():
            some = rows[held], numbers[held]
            total[held] += labels.codec.decode(labels.arrays, *some, pack.shape, taken.parameters(*some))
            count[held] += 1
    none = rows[(count[:, 0] == 0).numpy()]
    require(
        len(none) == 0,
        f"codec {pack.codec!r} keeps no label of {len(none)} of {len(rows)} images; export with --images-only",
    )
    return total / count
