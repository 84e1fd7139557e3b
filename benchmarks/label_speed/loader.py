"""A student's epoch fed by `CondensedLoader` from a pack, by random tensors, and by files in the layout of the field.

* Against random tensors of the same sizes, already on the device: what the loader costs a student. Stored labels are
  those of clean views, mixed in training (`cutmix_labels`), so a mixed view takes two crops and two decoded labels.
* Against a loader that replays `epoch_*/batch_*.tar`: each file holds, by torch.save, [coords, flip, mix_index,
  mix_lam, mix_bbox, logits fp16, dataset index] of one batch, images are JPEG files in an ImageFolder. A worker reads
  the file, opens the images, cuts and flips them with PIL at the stored coordinates, and pastes the stored box
  (SRe2L's way, `cutmix_images`, as here our loader too). SRe2L starts its workers anew in every epoch (it spawns them;
  here they are forked, which is quicker); beside it the fastest that such a loader can be, whose workers live on from
  epoch to epoch. In both the box is pasted and colours are normalised for whole batches, and batches are sent whole.

Our loader and the steps of the student share the device; on a CPU the workers share it too. Times are those of whole
epochs. Labels are made up, which neither way notices.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler
from torchvision.datasets import ImageFolder
from torchvision.transforms import functional as transforms

from dcpipe import networks, training, views
from dcpipe.dataset import CondensedDataset, CondensedLoader
from dcpipe.random import permutation
from dcpipe.training import Recipe
from dcpipe.types import DataError, ImageSet, LabelPack, ViewPolicy
from label_speed import (
    RATIO,
    Photographs,
    Setting,
    interleaved,
    made_labels,
    median_ratio,
    packed,
    photographs,
    soft_labels,
)

CODECS = ("lowrank_int8", "field", "rpca", "svd")
OTHERS = ("cur", "prune", "prune_topk", "rsvd", "topk", "zipf")
MEAN, STD, TEMPERATURE = (0.48, 0.45, 0.40), (0.28, 0.27, 0.28), 20.0
WORKERS, EPOCHS = 2, 4  # of the loader of files, and in the store
Batch = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class Case:
    """A student and what it trains on: n images of `size` pixels, K views of them, batches of `batch`."""

    student: str
    images: int
    views: int
    classes: int
    size: int
    batch: int
    rounds: int


def write_store(root: Path, case: Case, policy: ViewPolicy, epochs: int) -> None:
    """A store in the layout of SRe2L and those after it, with made-up logits; shuffled, the last batch full as well."""
    for epoch in range(epochs):
        folder = root / f"epoch_{epoch}"
        folder.mkdir(parents=True)
        order = permutation(0, epoch, case.images)
        for number in range(case.images // case.batch):
            index = order[number * case.batch : (number + 1) * case.batch]
            drawn = views.draw(policy, index, np.full(len(index), epoch), case.images)
            left, top, width, height = drawn.box.T
            coords = torch.from_numpy(np.stack([top, left, height, width], axis=1).astype(np.float32))
            x0, y0, x1, y1 = drawn.pixels(case.size)[0].tolist()  # one box a batch
            record = [
                coords,
                torch.from_numpy(drawn.flip),
                torch.from_numpy(permutation(1, number, len(index))),
                float(drawn.unmixed_share(case.size)[0]),
                [x0, y0, x1, y1],
                torch.randn(len(index), case.classes).to(torch.float16),
                torch.from_numpy(index),
            ]
            torch.save(record, folder / f"batch_{number}.tar")


def write_images(root: Path, photos: Photographs) -> None:
    """An ImageFolder of the JPEG files; two folders, since which class an image has is in its label."""
    for row, data in enumerate(photos.files):
        folder = root / f"class_{2 * row // len(photos.files)}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{row:06d}.jpeg").write_bytes(data)


class StoredBatches(Dataset[Batch]):
    """One item is one file of a store: views f32 [m, 3, s, s], normalised, and logits f16 [m, c]."""

    def __init__(self, images: Path, size: int) -> None:
        self.images, self.size = ImageFolder(str(images)), size

    def __getitem__(self, path: Path) -> Batch:
        coords, flip, mix_index, _, (x1, y1, x2, y2), logits, index = torch.load(path, weights_only=True)
        seen = torch.stack([self._view(*item) for item in zip(index.tolist(), coords.tolist(), flip, strict=True)])
        seen[:, :, x1:x2, y1:y2] = seen[mix_index][:, :, x1:x2, y1:y2]
        return transforms.normalize(seen, MEAN, STD, inplace=True), logits

    def _view(self, index: int, coords: list[float], flip: bool) -> torch.Tensor:
        image, _ = self.images[index]
        top, left, height, width = coords
        box = (
            round(top * image.height),
            round(left * image.width),
            max(1, round(height * image.height)),
            max(1, round(width * image.width)),
        )
        cut = transforms.resized_crop(image, *box, [self.size, self.size])
        return transforms.to_tensor(transforms.hflip(cut) if flip else cut)


class Files(Sampler[Path]):
    """The files of one epoch after the other, whichever is asked for next."""

    def __init__(self, root: Path, epochs: int) -> None:
        self.root, self.epochs, self.epoch = root, epochs, -1

    def __iter__(self) -> Iterator[Path]:
        self.epoch = (self.epoch + 1) % self.epochs
        return iter(sorted((self.root / f"epoch_{self.epoch}").iterdir()))


class Tars:
    """The loader of a store, giving what `CondensedLoader` gives."""

    def __init__(self, root: Path, case: Case, epochs: int, device: torch.device, *, keep_workers: bool) -> None:
        self.device = device
        self.loader: DataLoader[Batch] = DataLoader(
            StoredBatches(root / "images", case.size),
            batch_size=None,
            sampler=Files(root / "labels", epochs),
            num_workers=WORKERS,
            persistent_workers=keep_workers,
            pin_memory=device.type == "cuda",
        )

    def __iter__(self) -> Iterator[Batch]:
        for inputs, logits in self.loader:
            logits = logits.to(self.device, non_blocking=True)
            yield inputs.to(self.device, non_blocking=True), training.soften(logits, TEMPERATURE)


class Ours:
    """`CondensedLoader` over a pack; every iteration is the next epoch."""

    def __init__(self, images: ImageSet, pack: LabelPack, case: Case, device: torch.device) -> None:
        dataset = CondensedDataset.from_pack(images, pack, temperature=TEMPERATURE, device=device)
        self.loader = CondensedLoader(dataset, case.batch, finish=partial(views.normalise, mean=MEAN, std=STD))
        self.epoch = -1

    def __iter__(self) -> Iterator[Batch]:
        self.epoch += 1
        return iter(self.loader.batches(self.epoch))


class Ready:
    """Random batches that are on the device already."""

    def __init__(self, case: Case, device: torch.device) -> None:
        inputs = torch.randn(case.batch, 3, case.size, case.size, device=device)
        targets = torch.softmax(torch.randn(case.batch, case.classes, device=device), dim=1)
        self.batches = [(inputs, targets)] * (case.images // case.batch)

    def __iter__(self) -> Iterator[Batch]:
        return iter(self.batches)


def drained(batches: Iterable[Batch]) -> None:
    """The loader alone."""
    for _ in batches:
        pass


def epoch_of(case: Case, device: torch.device) -> Callable[[Iterable[Batch]], None]:
    """One epoch of a student's training on some batches; the same student goes on and on."""
    torch.manual_seed(0)
    network = networks.build(case.student, case.classes, case.size)
    loss, recipe = training.divergence(TEMPERATURE), Recipe(epochs=1)

    def train(batches: Iterable[Batch]) -> None:
        training.fit(network, lambda _: batches, loss, recipe, seed=0, device=device)

    return train


def packs_of(case: Case, photos: Photographs, names: Iterable[str], device: torch.device) -> dict[str, LabelPack]:
    """The same labels through several codecs; those that cannot say why."""
    logits = made_labels(case.images, case.views, case.classes, 0.3, seed=0)
    labels = soft_labels(logits, ViewPolicy(mix="cutmix_labels"), photos.images.ids)
    packs = {}
    for name in names:
        try:
            packs[name] = packed(name, labels, device)
        except DataError as error:
            print(f"  {name}: {error}")
    return packs


def report(setting: Setting, case: Case, codecs: tuple[str, ...]) -> None:
    """All lines of one student."""
    photos = photographs(case.images, case.size)
    print(
        f" {case.student}, {case.images} {photos.source} in batches of {case.batch}, {case.size} pixels, "
        f"{case.classes} classes, K = {case.views}, {RATIO}x",
        flush=True,
    )
    packs = packs_of(case, photos, codecs, setting.device)
    against_ready(setting, case, photos, packs)
    with tempfile.TemporaryDirectory() as folder:
        write_images(Path(folder) / "images", photos)
        write_store(Path(folder) / "labels", case, ViewPolicy(mix="cutmix_images"), EPOCHS)
        against_files(setting, case, photos, packs, Path(folder))


def against_ready(setting: Setting, case: Case, photos: Photographs, packs: dict[str, LabelPack]) -> None:
    """A line for each codec of `CODECS`: the speed of a student's epoch."""
    train = epoch_of(case, setting.device)
    works = {
        name: partial(train, Ours(photos.images, pack, case, setting.device))
        for name, pack in packs.items()
        if name in CODECS
    }
    ready = partial(train, Ready(case, setting.device))
    times = interleaved({"ready": ready, **works}, case.rounds, setting.device)
    for name in works:
        print(
            f"  student's epoch from {name:12s} {statistics.median(times[name]):6.3f} s, "
            f"ready tensors {statistics.median(times['ready']):6.3f}; "
            f"speed {median_ratio(times['ready'], times[name]):.1%} of theirs",
            flush=True,
        )


def against_files(setting: Setting, case: Case, photos: Photographs, packs: dict[str, LabelPack], root: Path) -> None:
    """A line for each codec: the loaders alone; and one for a student's epoch."""
    device = setting.device
    ours = {
        name: Ours(photos.images, replace(pack, policy=ViewPolicy(mix="cutmix_images")), case, device)
        for name, pack in packs.items()
    }
    kept, anew = (Tars(root, case, EPOCHS, device, keep_workers=keep) for keep in (True, False))
    works = {"kept": partial(drained, kept), "anew": partial(drained, anew)}
    works |= {name: partial(drained, loader) for name, loader in ours.items()}
    times = interleaved(works, 2 * case.rounds, device)
    each = {name: 1e6 * statistics.median(values) / case.images for name, values in times.items()}
    print(f"  microseconds an image from batch_*.tar: {each['kept']:.0f}, with workers started anew {each['anew']:.0f}")
    for name in ours:
        print(
            f"  loader alone from {name:12s} {each[name]:6.0f} microseconds an image; "
            f"ratio {median_ratio(times['kept'], times[name]):.1f}, "
            f"with workers started anew {median_ratio(times['anew'], times[name]):.1f}",
            flush=True,
        )
    first, train = next(iter(ours)), epoch_of(case, device)
    trained = {"kept": partial(train, kept), "anew": partial(train, anew), "ours": partial(train, ours[first])}
    times = interleaved(trained, case.rounds, device)
    print(
        f"  student's epoch from {first} {statistics.median(times['ours']):.3f} s, batch_*.tar "
        f"{statistics.median(times['kept']):.3f}, with workers started anew {statistics.median(times['anew']):.3f}; "
        f"ratios {median_ratio(times['kept'], times['ours']):.2f} and {median_ratio(times['anew'], times['ours']):.2f}",
        flush=True,
    )


def section(setting: Setting) -> None:
    """Print all lines."""
    print("student epochs")
    if setting.quick:
        cases = [(Case("convnet-d2-w8", 20, 300, 50, 16, 10, rounds=1), CODECS)]
    else:
        cases = [
            (Case("resnet10-w16", 250, 300, 50, 64, 50, rounds=5), CODECS + OTHERS),
            (Case("resnet18-w64", 100, 300, 1000, 64, 50, rounds=3), CODECS),
        ]
    for case, codecs in cases:
        report(setting, case, codecs)
