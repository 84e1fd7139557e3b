"""The format of DD-Ranking: two files with one tensor each, which its evaluators read with `torch.load`.

* `images.pt` f32 [n, 3, h, w]: images normalised with mean and std of the release, as students see them. They are
  sorted by class, with the same number per class, because the evaluators derive hard labels from positions: ipc zeros,
  ipc ones, and so on.
* `labels.pt` f32 [n, c]: logits, one row per image (`soft_label_mode: S`); the losses of DD-Ranking soften both sides
  themselves. DD-Ranking has one label per image, so a row is the mean of the logits over the views in the pack. Without
  soft labels, the file contains the classes, i64 [n].

DD-Ranking normalises its test images with its own constants for each dataset. If those of a release differ, students
are tested on pixels of another scale. It also has its own augmentation; stored views are not replayed. A third file,
`lr.pt`, would be a learning rate, which a release does not contain; without it, the evaluators search for one.
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
    """Write both files. Raises `DataError` for classes of unequal size, if an image has no label in the pack, and
    for ZCA-whitened releases."""
    images = release.images
    require(
        release.transform is None,
        f"release {release.name} is ZCA-whitened, but DD-Ranking tests students on normalised images; export it as "
        "folder or parquet",
    )
    counts = np.bincount(images.labels, minlength=len(images.classes))
    require(
        bool((counts == counts[0]).all()),
        f"release {release.name} has {counts.min()} to {counts.max()} images per class, but DD-Ranking needs the same "
        f"number in each; export --ipc {counts.min()}",
    )
    order = np.argsort(images.labels, kind="stable")
    pixels = torch.from_numpy(images.images[order]).permute(0, 3, 1, 2).float() / 255
    torch.save(normalise(pixels, *release.normalisation).contiguous(), folder / "images.pt")
    hard = torch.from_numpy(images.labels[order])
    torch.save(hard if pack is None else mean_logits(pack, rows_of(pack, images)[order]), folder / "labels.pt")


def mean_logits(pack: LabelPack, rows: IntArray) -> torch.Tensor:
    """The mean logits of each image over the views that have labels in the pack: f32 [len(rows), c]."""
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
        f"codec {pack.codec!r} stores no label of {len(none)} of {len(rows)} images; export with --images-only",
    )
    return total / count
