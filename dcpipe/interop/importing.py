"""`import-labels`: turn the label store of another program into a release that `dcpipe.load` opens.

1. Scan: every batch is read once and checked; see `scan`.
2. Labels: the label store, fp16 [image, view, class], is filled shard by shard. A batch contains images of all shards,
   so each pass over the files fills as many shards as fit in `GROUP_BYTES`.
3. Pack: the codec encodes the label store block by block, as the stage `compression` does.
4. Release: images, pack, and what is known about their origin; the teachers are not known.

All of this happens in a staging folder, so an interrupted import resumes there and ends with the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from dcpipe import store
from dcpipe.compression import CODECS, packing
from dcpipe.compression.budget import Budget
from dcpipe.config.options import check_options
from dcpipe.images.base import Source
from dcpipe.images.folder import imagefolder
from dcpipe.interop import releases, scan
from dcpipe.interop.pictures import squares
from dcpipe.interop.records import read_record
from dcpipe.interop.scan import Batches, Scan
from dcpipe.release.writing import Origin
from dcpipe.store.blocks import need_zarr
from dcpipe.store.labels import LABELS
from dcpipe.types import Colour, ImageSet, IntArray, LabelShape, SoftLabels, require
from dcpipe.types.paths import local_path

GROUP_BYTES = 2**30
AGREEMENT = 1.5  # times chance: labels that agree with the classes of their images no more often are refused
# SRe2L, LPLD, G-VBSM and EDC normalise ImageNet with these, and EDC also Tiny-ImageNet.
IMAGENET_MEAN: Colour = (0.485, 0.456, 0.406)
IMAGENET_STD: Colour = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Imported:
    """Facts about an import. `agreed` is the share of labels whose largest logit is the class of their image."""

    layout: str
    files: int
    shape: LabelShape
    mix: str
    left_over: int
    agreed: float
    store_bytes: int
    pack_bytes: int
    view_bytes: int
    digest: str

    def lines(self) -> list[str]:
        """A description of the import, line by line."""
        n, k, c = self.shape.images, self.shape.views, self.shape.classes
        rest = f"; {self.left_over:,} labels beyond view {k} of their image were left out" if self.left_over else ""
        return [
            f"Read {self.files:,} files of layout {self.layout}, {self.store_bytes:,} bytes on disk.",
            f"{n:,} images, {k} views of each, {c} classes, mix {self.mix}{rest}.",
            f"Labels agree with their image's class in {100 * self.agreed:.1f} % of views; chance is {100 / c:.1f} %.",
            f"fp16 logits {self.shape.reference_bytes:,} bytes; pack {self.pack_bytes:,} bytes on disk, of which the "
            f"views' parameters take {self.view_bytes:,}.",
        ]


class Progress:
    """Counts finished steps and the steps known so far, and calls `report(done, total)` at each change."""

    def __init__(self, report: Callable[[int, int], None]) -> None:
        self.report, self.done, self.total = report, 0, 0

    def expect(self, steps: int) -> None:
        """Add to the number of known steps."""
        self.total += steps
        self.report(self.done, self.total)

    def step(self) -> None:
        """Count one step as done."""
        self.done += 1
        self.report(self.done, self.total)


def import_labels(
    label_store: Path,
    images_folder: Path,
    out: Path,
    *,
    budget: Budget | None = None,
    layout: str = "auto",
    seed: int = 42,
    size: int | None = None,
    temperature: float = 20.0,
    mean: Colour = IMAGENET_MEAN,
    std: Colour = IMAGENET_STD,
    licence: str = "unstated",
    force: bool = False,
    device: torch.device | None = None,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> Imported:
    """Make the release `out` from the labels in `label_store` and the images of an ImageFolder.

    Args:
        label_store: the folder of `epoch_*/batch_*.tar`.
        images_folder: the folder with class folders. Sorted folders and sorted files in them define the dataset index.
            All images must be square and have the same size.
        out: a folder that does not exist yet.
        budget: codec and bytes; by default the fp16 logits are stored without compression.
        layout: how to find the images of a batch, see `layouts`; `auto` detects it from the store.
        seed: of the sampler, for the layout that re-creates it.
        size: side in pixels of a view as the teacher saw it; by default that of the images.
        temperature: default temperature of students.
        mean, std: in [0, 1], with which students normalise.
        licence: of the images.
        force: import labels although they do not agree with the classes of the images.
        device: where codecs encode.
        report: called with (steps done, steps known so far).

    Raises `DataError` if the labels and images do not fit together; then nothing is written at `out`.
    """
    budget = budget or Budget()
    check_options(CODECS, budget.codec, budget.options)
    label_store = local_path(label_store, "the label store")
    images_folder, out = local_path(images_folder, "the folder of images"), releases.new_folder(out)
    need_zarr()  # for the labels as they are found, before hours of reading them
    batches = scan.find_batches(label_store)
    parent, folder = str(images_folder.absolute().parent), images_folder.name
    source = imagefolder(path=parent, train=folder, test=folder)["train"]
    images, names = read_images(source)
    side = images.images.shape[1]
    require(
        side <= (size or side),
        f"images have {side} pixels but views {size}: the teacher's views were shrunk with antialiasing, which dcpipe "
        "does not do; give images of the size of the views",
    )
    versions = releases.versions()
    lineage = {
        "import": {"layout": layout, "seed": seed, "size": size, "store": batches.digest},
        "budget": [budget.codec, dict(budget.options), budget.ratio, budget.bytes_per_image],
        "images": store.digest_of([names, images.labels.tolist(), images.images.shape]),
        "student": [temperature, *mean, *std, licence],
        "versions": versions,
    }
    progress = Progress(report)
    with store.staging_dir(out, lineage) as staging:
        scanned = scan.load(staging)
        if scanned is None:
            progress.expect(len(batches))
            scanned = scan.scan(
                batches, names, images.labels, len(images.classes), size or side, layout, seed, progress.step
            )
            scan.save(staging, scanned)
        shape = LabelShape(*scanned.shape)
        _check_agreement(scanned.agreed, shape.classes, force)
        codec = budget.plan(shape, scanned.views)
        store.need_space(shape.reference_bytes, f"soft labels {list(scanned.shape)} in fp16")
        blocks = write_labels(staging.notes, batches, scanned, progress)
        labels = SoftLabels(blocks.array, scanned.views, images.ids, images.classes, ())
        encoded = staging.notes / "encoded"
        encoded.mkdir(exist_ok=True)

        def each(encode: packing.Encode, starts: Sequence[int]) -> None:
            progress.expect(len(starts))
            for start in starts:
                encode(start)
                progress.step()

        pack = packing.pack(budget.codec, codec, labels, encoded, device or torch.device("cpu"), each)
        origin = Origin(mean, std, licence, params=_params(scanned, batches, seed, temperature))
        artifact = releases.publish(staging, images, pack, origin, versions)
    return Imported(
        scanned.layout,
        len(batches),
        shape,
        scanned.views.mix,
        scanned.left_over,
        scanned.agreed,
        sum(batches.sizes),
        artifact.meta["bytes"][LABELS],
        scanned.views.n_bytes,
        artifact.digest,
    )


def _check_agreement(agreed: float, n_classes: int, force: bool) -> None:
    """Raises `DataError` unless labels agree with the classes of their images clearly more often than by chance."""
    chance = 1 / n_classes
    require(
        force or agreed > AGREEMENT * chance,
        f"labels agree with their image's class in {100 * agreed:.1f} % of views, and chance is {100 * chance:.1f} %: "
        "each label seems to be on another image; check the folder, the order of its classes, --layout and --seed, or "
        "use --force to import them all the same",
    )


def read_images(source: Source) -> tuple[ImageSet, list[str]]:
    """The images of an ImageFolder at their original size, and the names of their files; ids are dataset indices.

    Raises `DataError`, which names an image, if images are not square or not all of one size.
    """
    files = source.read(np.arange(len(source.labels)))
    pixels = squares(files, "label stores of this kind only have crops of square images")
    ids = np.arange(len(files), dtype=np.int64)
    return ImageSet(pixels, source.labels, ids, source.classes), [name for _, name in files]


def write_labels(notes: Path, batches: Batches, scanned: Scan, progress: Progress) -> store.Blocks:
    """Fill the missing shards of `labels.zarr` in `notes`, several at a time."""
    n, k, c = scanned.shape
    labels = store.create_blocks(notes / "labels.zarr", (n, k, c), "float16")
    missing = labels.missing()
    each = max(1, GROUP_BYTES // (2 * k * c * labels.rows))
    groups = [missing[start : start + each] for start in range(0, len(missing), each)]
    progress.expect(len(groups) * len(batches))
    for group in groups:
        rows = np.concatenate([np.arange(span.start, span.stop) for span in map(labels.span, group)])
        values = _gather(batches, scanned, rows, progress)
        for shard in group:
            span = labels.span(shard)
            start = int(np.searchsorted(rows, span.start))
            labels.write(shard, values[start : start + span.stop - span.start])
    return labels


def _gather(batches: Batches, scanned: Scan, rows: IntArray, progress: Progress) -> npt.NDArray[np.float16]:
    """Logits f16 [len(rows), K, C] of some images, collected from all files."""
    n, k, c = scanned.shape
    place = np.full(n, -1, dtype=np.int64)
    place[rows] = np.arange(len(rows))
    values = np.zeros((len(rows), k, c), dtype=np.float16)
    for path, start, stop in zip(batches.files, scanned.starts[:-1], scanned.starts[1:], strict=True):
        to, number = place[scanned.image[start:stop]], scanned.number[start:stop]
        wanted = (to >= 0) & (number < k)
        if wanted.any():
            record = read_record(path)
            require(len(record) == stop - start, f"{path} has changed since it was scanned; import it again")
            values[to[wanted], number[wanted]] = record.logits[wanted]
        progress.step()
    return values


def _params(scanned: Scan, batches: Batches, seed: int, temperature: float) -> dict[str, Any]:
    """The content of the card that replaces the parameters of a workspace."""
    made = {
        "layout": scanned.layout,
        "files": len(batches),
        "bytes": sum(batches.sizes),
        "left_over": scanned.left_over,
        "agreement_with_classes": round(scanned.agreed, 4),
    }
    if scanned.layout == "sre2l":
        made["sampler_seed"] = seed
    return {"import": made, "evaluation": {"temperature": temperature}}
