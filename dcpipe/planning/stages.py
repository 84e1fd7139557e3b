"""The stages and their quantities, as pure functions of params.yaml and of the numbers of images and classes.

Passes, steps, files, and the bytes of arrays are counted exactly as the stages make them; bytes of encoded images and
peaks of memory are rough.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

from dcpipe import selection, store, teacher
from dcpipe.compression.packing import block_rows
from dcpipe.config import budget
from dcpipe.config.params import Params
from dcpipe.images import PART_ROWS
from dcpipe.images.reading import MIXED_PARTS
from dcpipe.planning.counts import Counts, png_bytes
from dcpipe.planning.figures import Figures, Look, figures
from dcpipe.planning.work import Kind, Remedy, Stage, Work, batches
from dcpipe.types import LabelShape, require

BASE = 700_000_000  # bytes of a process that has imported what a stage needs
_INDEX_ROW = 110  # bytes of the place and the hash of an image
_NOTES = 150  # bytes that are remembered of each image while images are read
_WRITERS = 2  # parts of images and of features, and shards of labels, in work at a time
READ_GROWTH = 2.7  # memory that reading a set takes, relative to its pixels
# A pack is read into memory, and whether its numbers are finite takes half as much again in fp16.
PACK_GROWTH = 1.5


def manifest(files: int) -> int:
    """Bytes of the manifest of an artifact of so many files, about: lineage, and a digest of each."""
    return 1000 + 150 * files


@dataclass(frozen=True)
class Setting:
    """What quantities are functions of: the parameters, the counts, and figures of networks."""

    params: Params
    counts: Counts
    look: Look = field(default=figures)

    def network(self, key: str) -> tuple[str, int]:
        """Name and input size of a teacher."""
        block = self.params.teacher.networks[key]
        return block.network, block.input_size or self.params.images.size

    def figures(self, name: str, size: int) -> Figures:
        """The figures of a network with as many classes as the images have."""
        return self.look(name, self.counts.classes, size)

    @cached_property
    def stored(self) -> int:
        """Condensed images, as they are stored."""
        return self.params.selection.ipc * self.counts.classes

    @cached_property
    def shape(self) -> LabelShape:
        """The shape of the soft labels."""
        return budget.label_shape(self.params, self.counts.classes)

    @cached_property
    def random_shape(self) -> LabelShape:
        """The shape of the soft labels of random images, which are no grids."""
        return LabelShape(self.stored, self.params.softlabels.views, self.counts.classes)

    @cached_property
    def soft(self) -> bool:
        """Whether labels are soft."""
        return self.params.softlabels.method != "none"

    @cached_property
    def taught(self) -> bool:
        """Whether teachers give the labels."""
        return self.params.softlabels.method == "stored"

    @cached_property
    def pack_bytes(self) -> int:
        """Bytes of the packed labels; 0 for hard ones."""
        planned = budget.planned(self.params, self.counts.classes)
        return 0 if planned is None else planned.n_bytes

    @cached_property
    def set_bytes(self) -> int:
        """Bytes of the condensed images as PNG."""
        return self.stored * png_bytes(self.params.images.size)

    @cached_property
    def pixels(self) -> int:
        """Bytes of the condensed images in memory, u8."""
        return 3 * self.stored * self.params.images.size**2

    def decoded(self, images: int) -> int:
        """Bytes of decoded images."""
        return 3 * images * self.params.images.size**2

    @property
    def table_bytes(self) -> int:
        """Bytes of all encoded images, wherever they are."""
        return self.counts.all * self.counts.image_bytes

    @property
    def images_bytes(self) -> int:
        """Bytes of data/images, which has the encoded images, or an index of them."""
        return self.table_bytes if self.params.images.copies else self.counts.all * _INDEX_ROW

    def decode(self, images: int, units: int = 1) -> Work:
        """The work of decoding some images of the table."""
        return Work("decode", images, units, size=self.params.images.size)

    def encode(self, images: int) -> Work:
        """The work of encoding some condensed images."""
        return Work("encode", images, size=self.params.images.size)

    def label(self, shape: LabelShape) -> list[Work]:
        """The work of labelling all views of some images."""
        shards = batches(shape.images, store.shard_rows((shape.images, shape.views, shape.classes), 2))
        size = self.params.softlabels.batch_size
        return [
            Work("forward", shape.images * shape.views, shards, name=name, size=side, batch=size)
            for name, side in map(self.network, self.params.softlabels.teachers)
        ]

    def pack(self, shape: LabelShape) -> Work:
        """The work of packing the labels of some images."""
        blocks = batches(shape.images, block_rows(shape))
        return Work("pack", shape.images * shape.views, blocks, name=self.params.compression.codec, size=shape.classes)


def images(setting: Setting) -> Stage:
    """Reads, decodes and checks every image."""
    counts, size = setting.counts, setting.params.images.size
    parts = sum(batches(n, PART_ROWS) for n in counts.splits.values())
    part = PART_ROWS * (3 * counts.image_bytes + 3 * size**2)
    return Stage(
        "images",
        (setting.decode(counts.all, parts), Work("read", setting.table_bytes + setting.images_bytes, parts)),
        n_bytes=setting.images_bytes + manifest(parts + 2),
        files=parts + 2,
        scratch=_NOTES * counts.all,
        host=BASE + _WRITERS * part + 2 * _NOTES * counts.all,
        spread="parts",
        remedy=Remedy(
            disk="images.copy (false reads the images from their source), or fewer classes in images.options"
        ),
    )


def teachers(setting: Setting) -> list[Stage]:
    """One stage for each teacher."""
    return [_teacher(setting, key) for key in setting.params.teacher.networks]


def streams(setting: Setting) -> bool:
    """Whether train images are read anew in every epoch of `teacher.training`, because they do not fit in memory or are
    cropped from whole ones."""
    crops, decoded = setting.params.teacher.training.crops, setting.decoded(setting.counts.train)
    return decoded > teacher.MEMORY_BYTES or crops == "full"


def _teacher(setting: Setting, key: str) -> Stage:
    counts, block = setting.counts, setting.params.teacher.training
    name, size = setting.network(key)
    found, decoded = setting.figures(name, size), setting.decoded(counts.train)
    streamed = streams(setting)
    tested = counts.minival + counts.test or counts.train
    linear = setting.params.teacher.networks[key].head == "linear"
    samples, steps = block.epochs * counts.train, block.epochs * batches(counts.train, block.batch_size)
    dealt = block.batch_size if samples else 1  # over the processes of a torchrun
    work = [
        setting.decode(tested),
        setting.decode(samples if streamed else counts.train, dealt),
        Work("read", setting.table_bytes + found.weights),
        Work("forward", tested, name=name, size=size, batch=block.batch_size),
    ]
    device = found.inference(block.batch_size)
    if samples:
        kind: Kind = "forward" if linear else "train"
        taught = Work(kind, samples, dealt, steps, name, size, block.batch_size, shared=True, precision=block.precision)
        work.append(taught)
        device = device if linear else found.training(block.batch_size)
    part = setting.decoded(PART_ROWS)
    held = 0 if streamed else decoded
    return Stage(
        f"teacher@{key}",
        tuple(work),
        n_bytes=found.weights + 120 * block.epochs + manifest(3) + 40 * counts.classes,
        files=3,
        scratch=4 * found.weights if samples else 0,
        host=BASE + (MIXED_PARTS + 3) * part + held,
        device=device + held,
        spread="batches" if samples else "",
        remedy=Remedy(device="teacher.training.batch_size", host="images.size"),
    )


def features(setting: Setting) -> Stage:
    """Vectors, logits and R_C of every train image."""
    counts, block = setting.counts, setting.params.features
    name, size = setting.network(block.teacher)
    found, n, rate = setting.figures(name, size), counts.train, block.label_rate
    listed = 0 if rate.shortlist is None else rate.shortlist.per_class * counts.classes
    parts = batches(n, PART_ROWS)
    arrays = [
        store.array_size(shape, dtype, PART_ROWS)
        for shape, dtype in (((n, found.features), "float32"), ((n, counts.classes), "float32"), ((n,), "float64"))
    ]
    views = rate.views * (listed or n)
    n_bytes = sum(size for size, _ in arrays) + 16 * n + (8 * n if listed else 0)
    files = sum(count for _, count in arrays) + 2
    return Stage(
        "features",
        (
            setting.decode(n + listed, parts),
            Work("forward", n, parts, name=name, size=size, batch=block.batch_size, precision=block.precision),
            Work("forward", views, parts, name=name, size=size, batch=block.batch_size),  # R_C is always in float32
            Work("read", setting.table_bytes + n_bytes, parts),
        ),
        n_bytes=n_bytes + manifest(files) + 40 * counts.classes,
        files=files,
        scratch=4 * n * found.features if listed else 0,
        host=BASE + _WRITERS * (2 * setting.decoded(PART_ROWS) + 8 * PART_ROWS * (counts.classes + found.features)),
        device=found.inference(block.batch_size) + 12 * setting.decoded(block.batch_size),
        spread="parts",
        remedy=Remedy(
            disk="features.teacher (one with shorter vectors)", host="images.size", device="features.batch_size"
        ),
    )


def select(setting: Setting) -> Stage:
    """Picks the images; features are sorted by class before."""
    counts, block = setting.counts, setting.params.selection
    most = counts.train // counts.classes
    require(
        block.ipc <= most or block.takes_all,
        f"selection.ipc is {block.ipc}, but a class has {most:,} train images on average; lower ipc",
    )
    d = setting.figures(*setting.network(setting.params.features.teacher)).features
    columns = d + (counts.classes if selection.uses_logits(block.method) else 0)
    sorted_bytes, picks = 4 * counts.train * columns, setting.stored
    compared = 0 if block.method == "random" else counts.train * block.ipc
    return Stage(
        "selection",
        (Work("read", 3 * sorted_bytes), Work("select", compared, name=block.method, size=d)),
        n_bytes=24 * picks + manifest(2),
        files=2,
        scratch=sorted_bytes + 24 * picks,
        host=BASE + 2**28 + 40 * counts.train + 8 * most * columns * 3,
        remedy=Remedy(disk="features.teacher (one with shorter vectors)", host="selection.method"),
    )


def softlabels(setting: Setting) -> Stage:
    """The teachers' logits of all views."""
    block, shape = setting.params.softlabels, setting.shape
    if not setting.soft:
        return Stage("softlabels", (), manifest(1), 1, BASE)
    n_bytes, files = store.array_size((shape.images, shape.views, shape.classes), "float16")
    shard = n_bytes // max(1, files - 1)
    if not setting.taught:
        size = n_bytes + 8 * shape.images + manifest(files + 2) + 40 * shape.classes
        return Stage("softlabels", (Work("read", setting.set_bytes + n_bytes),), size, files + 2, BASE)
    found = [setting.figures(*setting.network(key)) for key in block.teachers]
    return Stage(
        "softlabels",
        (*setting.label(shape), Work("read", setting.set_bytes + n_bytes, files - 1)),
        n_bytes=n_bytes + 8 * shape.images + manifest(files + 2) + 40 * shape.classes,
        files=files + 2,
        host=BASE + int(READ_GROWTH * setting.pixels) + 3 * _WRITERS * shard,
        device=setting.decoded(shape.images)
        + sum(one.weights for one in found)
        + max(one.inference(block.batch_size) for one in found)
        + 12 * setting.decoded(block.batch_size),
        spread="shards",
        remedy=Remedy(disk="softlabels.views", host="selection.ipc", device="softlabels.batch_size"),
    )


def compression(setting: Setting) -> Stage:
    """The packed labels."""
    if not setting.soft:
        return Stage("compression", (), manifest(1), 1, BASE)
    shape, n_bytes = setting.shape, setting.pack_bytes
    copied = setting.params.compression.codec == "none"
    block = 4 * block_rows(shape) * shape.views * shape.classes
    labels = Work("read", shape.reference_bytes + n_bytes)
    return Stage(
        "compression",
        (labels,) if copied else (setting.pack(shape), labels),
        n_bytes=n_bytes + manifest(2),
        files=2,
        scratch=0 if copied else n_bytes,  # encoded blocks
        host=BASE + 4 * block + (0 if copied else 2 * n_bytes),
        device=0 if copied else 6 * block,
        spread="" if copied else "blocks",
        remedy=Remedy(disk="compression.ratio", host="compression.ratio", device="softlabels.views"),
    )


def release(setting: Setting) -> Stage:
    """Images, labels, scores and card in one folder."""
    block, first = setting.params.release, setting.params.softlabels.teachers[0]
    weights = setting.figures(*setting.network(first)).weights if block.teacher else 0
    n_bytes = setting.set_bytes + setting.pack_bytes + weights
    return Stage(
        "release",
        (Work("read", 2 * n_bytes),),
        n_bytes=n_bytes + 20_000 + 40 * setting.counts.classes,
        files=4 + setting.soft + block.teacher,
        host=BASE + int(READ_GROWTH * setting.pixels) + int(PACK_GROWTH * setting.pack_bytes),
        remedy=Remedy(disk="compression.ratio", host="compression.ratio"),
    )
