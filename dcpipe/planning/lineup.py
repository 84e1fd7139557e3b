"""The stage `evaluation`: students on the condensed set and on its baselines, which are made and labelled here."""

from __future__ import annotations

from dataclasses import dataclass

from dcpipe import store
from dcpipe.dataset import stored_labels
from dcpipe.evaluation.students import protocol_of
from dcpipe.images import kept
from dcpipe.planning.counts import png_bytes
from dcpipe.planning.stages import BASE, PACK_GROWTH, READ_GROWTH, Setting, manifest, streams
from dcpipe.planning.work import Remedy, Stage, Work, batches

TEST_BATCH = 512
_GRID_IMAGES = 100  # in the picture of the set
_FILES = 8  # scores, manifest, metrics, a picture and four tables
_CURVE = 20  # bytes of a number in a table


@dataclass(frozen=True)
class Row:
    """A row of the table of scores: its kind, and the training images of an epoch."""

    kind: str
    images: int


def rows(setting: Setting) -> list[Row]:
    """All rows, in their order."""
    params, block = setting.params, setting.params.evaluation
    sizes = [params.selection.ipc, *sorted(size for size in block.sizes if size < params.selection.ipc)]
    per_class, classes = setting.shape.images // setting.stored, setting.counts.classes
    found = [Row("own" if setting.soft else "hard", size * classes * per_class) for size in sizes]
    if setting.soft:
        possible = ("uncompressed", "online", "hard") if setting.taught else ("hard",)
        kinds = (kind for kind in possible if kind in block.baselines)
        found += [Row(kind, setting.shape.images) for kind in kinds]
    if "random" in block.baselines:
        found += [Row("random", size * classes) for size in sizes]
    if "equal_bytes" in block.baselines:
        image = png_bytes(params.images.size)
        budget = setting.stored * image + (setting.pack_bytes if setting.soft else 0)
        found.append(Row("equal_bytes", min(setting.counts.train, budget // image // classes * classes)))
    return found


def evaluation(setting: Setting) -> Stage:
    """All students, and what their images and labels take."""
    params, block, counts = setting.params, setting.params.evaluation, setting.counts
    lineup, seeds, size = rows(setting), len(block.seeds), params.images.size
    found = setting.figures(block.student, size)
    students = len(lineup) * seeds
    tests = students * len(protocol_of(block.at_rate(1.0)).all_test_epochs)
    samples = seeds * block.epochs * sum(row.images for row in lineup)
    training = params.teacher.training
    steps = seeds * block.epochs * sum(batches(row.images, block.batch_size) for row in lineup)
    work = [
        Work("train", samples, students, steps, block.student, size, block.batch_size, precision=block.precision),
        Work("forward", tests * counts.test, students, name=block.student, size=size, batch=TEST_BATCH),
        setting.decode(counts.test),  # once in every process
    ]
    whole = 0
    if "all_images" in block.baselines:
        streamed = streams(setting)
        whole = 0 if streamed else setting.decoded(counts.train)
        seen, each = training.epochs * counts.train, batches(counts.train, training.batch_size)
        work += [
            setting.decode(seeds * (seen if streamed else counts.train), seeds),
            Work(
                "train",
                seeds * seen,
                seeds,
                seeds * training.epochs * each,
                block.student,
                size,
                training.batch_size,
                precision=training.precision,
            ),
            Work("forward", seeds * counts.test, seeds, name=block.student, size=size, batch=training.batch_size),
        ]
    kinds = {row.kind for row in lineup}
    teachers = [setting.network(key) for key in params.softlabels.teachers] if setting.taught else []
    online = seeds * block.epochs * sum(row.images for row in lineup if row.kind == "online")
    if online:
        work += [
            Work("forward", online, seeds, name=name, size=side, batch=block.batch_size) for name, side in teachers
        ]
    reference, pack = setting.shape.reference_bytes, setting.pack_bytes
    tested = setting.decoded(counts.test)
    in_memory = tested <= kept.MEMORY_BYTES
    scratch = 4 * found.weights + (0 if in_memory else tested)  # a checkpoint, and decoded test images
    if "equal_bytes" in kinds:
        more = setting.stored + next(row.images for row in lineup if row.kind == "equal_bytes")  # and a sample
        work += [setting.decode(more), setting.encode(more)]
        scratch += more * png_bytes(size)
    if "random" in kinds:
        work += [setting.decode(setting.stored), setting.encode(setting.stored)]
        scratch += setting.stored * png_bytes(size)
        if setting.taught:
            work += [*setting.label(setting.random_shape), setting.pack(setting.random_shape)]
            scratch += setting.random_shape.reference_bytes + 2 * pack  # labels, then encoded blocks and their pack
    host, device = 0, pack
    if "uncompressed" in kinds:
        chunk = store.chunk_views((setting.shape.images, setting.shape.views, setting.shape.classes), "float16")
        host, view = stored_labels.memory(setting.shape, chunk)
        device = max(view, pack)
        # How often a chunk is read for all its views.
        again = chunk // stored_labels.views_at_once(setting.shape, chunk)
        work.append(Work("read", seeds * block.epochs * view * again, seeds))
    read = setting.table_bytes + setting.set_bytes + (reference + pack if setting.soft else 0)
    teacher_bytes = sum(setting.figures(*one).weights for one in teachers) if online else 0
    return Stage(
        "evaluation",
        (*work, Work("read", read)),
        n_bytes=_CURVE * block.epochs * len(lineup)
        + min(_GRID_IMAGES, setting.stored) * png_bytes(size)
        + 400 * len(lineup)
        + 5_000
        + manifest(2),
        files=_FILES,
        scratch=scratch,
        host=BASE
        + (tested if in_memory else 0)
        + int(READ_GROWTH * setting.pixels)
        + int(PACK_GROWTH * pack)
        + host
        + whole,
        device=max(
            setting.decoded(setting.shape.images) + device + found.training(block.batch_size) + teacher_bytes,
            whole + found.training(training.batch_size) if "all_images" in block.baselines else 0,
        ),
        spread="students, shards, blocks",
        remedy=Remedy(
            disk="evaluation.baselines (leave `random` out)",
            host="selection.ipc or compression.ratio",
            device="compression.ratio or evaluation.batch_size",
        ),
    )
