"""`import-images`: turn the images of another project into a release that `dcpipe.load` opens.

1. Read: the format is recognised, and images and labels are read as they are stored (`sets`).
2. Pixels: normalisation is undone, and values are clamped and rounded to bytes (`pixels`).
3. Classes: names come from the file, from `--classes` or from the teacher, which also checks their order
   (`class_order`).
4. Release: images, in rounds of one per class; soft labels, if the file has them, as one label per image that holds for
   all of its views (codec `mean_label`); and what is known about their origin.

What the file does not say is stated by an option, or assumed where a check can refute it; every assumption is a line of
`ImportedImages.lines` and is recorded in the release. What is judged afterwards are the bytes of the release; the
record of the source has its own.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from dcpipe import store
from dcpipe.compression import CODECS
from dcpipe.config.protocols.row import PLAIN_VIEWS
from dcpipe.interop import class_order, releases
from dcpipe.interop.class_names import ClassNames, read_class_names
from dcpipe.interop.labelled import Labelled, labelled, logits_of
from dcpipe.interop.pixels import Scale, rounded
from dcpipe.interop.sets import Found, Options, read_set
from dcpipe.release import load
from dcpipe.release.writing import Origin
from dcpipe.store.artifact import SCHEMA
from dcpipe.store.hashing import sha256_all
from dcpipe.store.images import IMAGES
from dcpipe.store.labels import LABELS
from dcpipe.store.manifest import MANIFEST, read_manifest
from dcpipe.training.losses import check_temperature
from dcpipe.types import (
    Colour,
    DataError,
    ImageSet,
    LabelPack,
    LabelShape,
    Teacher,
    ViewPolicy,
    check_logits,
    require,
)
from dcpipe.types.paths import local_path
from dcpipe.views import draw, multiformation

CODEC = "mean_label"
# A file says nothing of augmentation, so students see whole images; a protocol may have other views.
_MIX, _SEED = "none", 0
_WHOLE = {key: value for key, value in PLAIN_VIEWS.items() if key != "mix"} | {"scale_min": 1.0, "flip": 0.0}
_NAMED = 4  # files whose names are recorded


@dataclass(frozen=True)
class ImportedImages:
    """Facts about an import. `clamped`: the share of values that were outside [0, 1]; `notes`: what was stated, assumed
    and found."""

    form: str
    images: int
    side: int
    grid: int
    classes: int
    soft: bool
    files: int
    source_bytes: int
    image_bytes: int
    label_bytes: int
    clamped: float
    notes: tuple[str, ...]
    digest: str

    def lines(self) -> list[str]:
        """A description of the import, line by line."""
        files = f"{self.files:,} file" + ("" if self.files == 1 else "s")
        cells = f", each a grid of {self.grid} x {self.grid}" if self.grid > 1 else ""
        labels = "soft labels, one per image" if self.soft else "hard labels"
        return [
            f"Read {files} of format {self.form}, {self.source_bytes:,} bytes on disk.",
            f"{self.images:,} images of {self.side}x{self.side}{cells}, {self.classes} classes, {labels}.",
            *(f"{note[:1].upper()}{note[1:]}." for note in self.notes),
            f"Clamped: {100 * self.clamped:.2f} % of values; pixels are rounded to 8 bits.",
            f"Release: images {self.image_bytes:,} bytes, labels {self.label_bytes:,} bytes.",
        ]


def import_images(
    source: Path,
    out: Path,
    *,
    form: str = "auto",
    options: Options | None = None,
    scale: Scale | None = None,
    classes: Path | None = None,
    teacher: Path | None = None,
    reorder: bool = False,
    temperature: float = 1.0,
    licence: str = "unstated",
    force: bool = False,
    device: torch.device | None = None,
) -> ImportedImages:
    """Make the release `out` from the images that another project stored at `source`.

    Args:
        source: a file or folder in one of the formats of `sets.FORMATS`.
        out: a folder that does not exist yet.
        form: the format, or "auto" to recognise it by content.
        options: what the format cannot say; its `classes` are those of the argument `classes`.
        scale: whether values are normalised, and with which constants; or the constants of students for raw images.
        classes: where the class names are, in the order of the labels; see `class_names`.
        teacher: a folder of a teacher, or of a release with one, that checks the order of classes.
        reorder: apply the order that the teacher found.
        temperature: default temperature of students; 1 for labels that are probabilities.
        licence: of the images.
        force: import although values speak against what was stated of them.
        device: where the teacher runs.

    Raises `DataError` for what cannot be read or does not fit; then nothing is written at `out`.
    """
    scale = scale or Scale()
    check_temperature(temperature)
    source, out = local_path(source, "the set"), releases.new_folder(out)
    require(not reorder or teacher is not None, "--reorder applies the order that a teacher found; give --teacher too")
    named = None if classes is None else read_class_names(local_path(classes, "the list of classes"))
    judge = None if teacher is None else _teacher_of(local_path(teacher, "the folder of the teacher"))
    options = replace(options or Options(), classes=None if named is None else named.names)
    form, found = read_set(source, form, options)
    pixels, clamped, note = _pixels(found, scale, source, force)
    notes = [*found.notes, *note, *([named.note] if named is not None and named.note else [])]
    named_set = labelled(found, options.classes, None if judge is None else judge.classes, source)
    if judge is not None:
        stated = options.classes is not None or found.classes is not None
        named_set, told = _in_order(named_set, pixels, found, judge, stated, reorder, device or torch.device("cpu"))
        notes.append(told)
    images, soft = named_set.in_rounds(pixels, found)
    mean, std, whence = _constants(scale, judge, named, images)
    notes.append(f"students normalise with {whence}: mean {_written(mean)}, std {_written(std)}")
    pack = None
    if soft is not None:
        logits, told = logits_of(soft)
        pack = _pack(logits, images)
        notes.append(told)
    versions = releases.versions()
    record = _record(form, found, clamped, notes)
    views = {"augmentation": _WHOLE, "mix": _MIX, "seed": _SEED}
    labels = {"method": "none" if pack is None else "stored", **views}
    params = {"import": record, "softlabels": labels, "evaluation": {"temperature": temperature}}
    lineage = {**params, "student": [*mean, *std, licence], "versions": versions}
    with store.staging_dir(out, lineage) as staging:
        artifact = releases.publish(staging, images, pack, Origin(mean, std, licence, params), versions)
    return ImportedImages(
        form=form,
        images=len(images),
        side=int(images.images.shape[1]),
        grid=images.grid,
        classes=len(images.classes),
        soft=pack is not None,
        files=len(found.files),
        source_bytes=found.n_bytes,
        image_bytes=artifact.meta["bytes"][IMAGES],
        label_bytes=artifact.meta["bytes"].get(LABELS, 0),
        clamped=clamped,
        notes=tuple(notes),
        digest=artifact.digest,
    )


def _teacher_of(path: Path) -> Teacher:
    """The teacher of a folder: an artifact `teacher`, a folder with one below it, or a release that ships one."""
    require(path.is_dir(), f"teacher {path} is no folder; give data/teacher, or a release with a teacher")
    if not (path / MANIFEST).is_file():
        inside = sorted(folder for folder in path.iterdir() if (folder / MANIFEST).is_file())
        require(len(inside) == 1, f"{path} has {len(inside)} teachers directly below it; give the folder of one")
        path = inside[0]
    if read_manifest(path, SCHEMA).noun == "teacher":
        return store.load_teacher(path)
    shipped = load(path).teacher
    if shipped is None:
        raise DataError(f"release {path} ships no teacher; give data/teacher, or a release with one")
    return shipped


def _pixels(
    found: Found, scale: Scale, source: Path, force: bool
) -> tuple[npt.NDArray[np.uint8], float, tuple[str, ...]]:
    """Pixels u8 [n, s, s, 3], the share of values that was clamped, and notes."""
    if not found.finished:
        result = rounded(found.images, scale, str(source), source.name, force)
        return result.pixels, result.clamped, (result.note,)
    require(
        scale.normalised in (None, "none"),
        f"{source} holds pictures, which are not normalised; leave out --normalised {scale.normalised}",
    )
    return found.images, 0.0, ()


def _in_order(
    given: Labelled,
    pixels: npt.NDArray[np.uint8],
    found: Found,
    judge: Teacher,
    stated: bool,
    reorder: bool,
    device: torch.device,
) -> tuple[Labelled, str]:
    """Labels in the class order of the teacher, after it has checked what they mean, and a note on what it found.

    Raises `DataError` if it found another order, unless `reorder`; and if it cannot tell although nothing else names
    the classes.
    """
    ours = given.aligned(judge.classes, "--teacher")
    rows = np.arange(len(pixels), dtype=np.int64)
    whole = multiformation.decoded(ImageSet(pixels, ours.labels, rows, ours.names, found.grid))
    predictions = class_order.predict(judge, whole, device)
    checked = class_order.find_order(whole.labels, predictions, len(ours.names))
    line = checked.line(ours.names)
    if checked.order is None:
        require(stated, f"{line}; state it by --classes")
        return ours, line
    if checked.confirmed:
        return ours, line
    require(reorder, f"{line}; give --reorder to apply it, or the right --classes")
    return ours.renumbered(checked.order, ours.names), f"{line}; this order was applied"


def _constants(
    scale: Scale, judge: Teacher | None, named: ClassNames | None, images: ImageSet
) -> tuple[Colour, Colour, str]:
    """The mean and std with which students normalise, and whose they are."""
    if scale.constants is not None:
        return (*scale.constants, "the constants that were given")
    if judge is not None:
        return judge.mean, judge.std, "the constants of the teacher"
    if named is not None and named.constants is not None:
        return (*named.constants, "the constants of the images that --classes names")
    values = images.images.reshape(-1, 3) / 255
    red, green, blue = (float(value) for value in values.mean(0).round(6))
    std = (max(float(value), 1 / 255) for value in values.std(0).round(6))
    return (red, green, blue), (next(std), next(std), next(std)), "mean and std of these images"


def _pack(logits: npt.NDArray[np.float32], images: ImageSet) -> LabelPack:
    """The labels as a pack of one label per image, which holds for all of its views."""
    check_logits(logits[:, None], images.ids, np.arange(len(images)))
    shape = LabelShape(len(images), 1, len(images.classes))
    policy = ViewPolicy(**_WHOLE, mix="none", seed=_SEED)
    codec = CODECS[CODEC].plan(shape, shape.reference_bytes)
    rows = np.arange(len(images))
    views = draw(policy, images.ids, np.zeros(len(images), dtype=np.int64), len(images))
    arrays = codec.encode(torch.from_numpy(logits)[:, None], rows, shape, views)
    return LabelPack(CODEC, codec.settings, dict(arrays), shape, policy, images.ids)


def _record(form: str, found: Found, clamped: float, notes: Sequence[str]) -> dict[str, Any]:
    """What the release says of its source: names, bytes and a digest of the files, and all that was assumed."""
    names = [os.fsencode(path.name).decode("utf-8", "backslashreplace") for path in found.files]
    digests = sha256_all(list(found.files), again=True)
    return {
        "format": form,
        "files": len(found.files),
        **({"names": names} if len(names) <= _NAMED else {}),
        "bytes": found.n_bytes,
        "sha256": store.digest_of(list(zip(names, digests, strict=True))),
        "clamped": round(clamped, 6),
        "notes": list(notes),
    }


def _written(colour: Colour) -> str:
    return " ".join(f"{value:.4g}" for value in colour)
