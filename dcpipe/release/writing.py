"""Write the files of a release. Equal arguments give equal bytes: no time, machine or user name is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dcpipe import store
from dcpipe.release.card import card
from dcpipe.store.images import IMAGES, smaller_sizes
from dcpipe.store.labels import LABELS
from dcpipe.store.scores import SCORES
from dcpipe.store.whitening import WHITENING
from dcpipe.types import (
    Colour,
    ImageSet,
    LabelPack,
    Score,
    StoredViews,
    Teacher,
    ViewPolicy,
    ViewSource,
    Whitening,
    check_same_classes,
    require,
)

TEACHER, CARD = "teacher.safetensors", "README.md"


def assemble(
    folder: Path,
    *,
    name: str,
    images: ImageSet,
    pack: LabelPack | None,
    teacher: Teacher,
    with_teacher: bool,
    scores: Sequence[Score],
    params: Mapping[str, Any],
    lineage: Mapping[str, Any],
    licence: str,
    leakage: str = "",
    source: Sequence[str] = (),
    stored: Path | None = None,
    whitening: Whitening | None = None,
) -> dict[str, Any]:
    """Write a release's files into the existing `folder` and return the metadata to publish it with.

    Args:
        folder: where the files are written; the caller publishes it as a `release` artifact with the returned metadata.
        name: lowercase letters, digits and dashes; the first part of the tags.
        images: the condensed images, as they are stored.
        pack: their compressed soft labels (those of the decoded images if images are grids), or None for hard labels.
        teacher: the (first) network that labelled; its normalisation is recorded for students.
        with_teacher: whether its weights are included.
        scores: the rows of the evaluation.
        params: the parameters of the workspace as a mapping (`Params.content()`).
        lineage: of the release artifact; the card lists its `versions`. The manifest keeps the lineage apart from the
            metadata, so that the digest of the release depends only on its content.
        licence: of the source images, as the owner of the workspace states it.
        leakage: a clause for the card about test images that are also train images; empty without any.
        source: the lines of the report of the source images, for the card.
        stored: the file of the artifact `synthesis`, whose encoded images are taken as they are.
        whitening: the ZCA transform that students see images through, instead of the teacher's normalisation.

    Raises `DataError` if the pack or the teacher belongs to other images or to another class order.
    """
    if pack is not None:
        same = np.array_equal(pack.ids, images.decoded_ids) and pack.shape.classes == len(images.classes)
        require(same, f"release {name}: the label pack is of other images; run `dvc repro compression`")
    check_same_classes(teacher.classes, images.classes, f"release {name}: teacher and images")
    shipped = store.save_teacher(folder, teacher, TEACHER) if with_teacher else None
    by_teachers = pack is not None and params["softlabels"].get("method") != "learned"
    labellers = params["softlabels"]["teachers"] if by_teachers else []
    teachers = [params["teacher"]["networks"][key]["network"] for key in labellers]
    origin = Origin(teacher.mean, teacher.std, licence, params, teachers, shipped, leakage, source, whitening)
    return write_release(folder, name, images, pack, scores, origin, lineage.get("versions", {}), stored)


@dataclass(frozen=True)
class Origin:
    """Where a release comes from: the mean and std that students normalise with, the licence of the images, the
    parameters as a mapping, the network names of the known teachers, the metadata of the included one, a clause about
    test images that are also train images, the lines of the report of the source images, and the ZCA transform that
    takes the place of mean and std, if there is one."""

    mean: Colour
    std: Colour
    licence: str
    params: Mapping[str, Any]
    teachers: Sequence[str] = ()
    shipped: Mapping[str, Any] | None = None
    leakage: str = ""
    source: Sequence[str] = ()
    whitening: Whitening | None = None


def write_release(
    folder: Path,
    name: str,
    images: ImageSet,
    pack: LabelPack | None,
    scores: Sequence[Score],
    origin: Origin,
    versions: Mapping[str, str],
    stored: Path | None = None,
) -> dict[str, Any]:
    """Write everything but the teacher, and the card, which lists `versions`. Returns the metadata. For `stored`, see
    `store.save_set`."""
    store.save_set(folder, images, stored)
    if pack is not None:
        store.save_pack(folder / LABELS, pack)
    store.save_scores(folder, scores)
    if origin.whitening is not None:
        store.save_whitening(folder, origin.whitening)
    present = (folder / file for file in (IMAGES, LABELS, TEACHER, WHITENING, SCORES))
    law = _law(pack, origin.params)
    meta = {
        "name": name,
        "classes": list(images.classes),
        **_per_class(images, origin.params),
        "images": len(images),
        "grid": images.grid,
        **smaller_sizes(images),
        "size": int(images.images.shape[1]),
        "mean": list(origin.mean),
        "std": list(origin.std),
        "views": store.describe_views(law),
        "labels": None if pack is None else {"codec": pack.codec, **asdict(pack.shape)},
        "teachers": list(origin.teachers),
        "teacher": None if origin.shipped is None else dict(origin.shipped),
        "licence": origin.licence,
        "params": dict(origin.params),
        "bytes": {path.name: path.stat().st_size for path in present if path.is_file()},
    }
    if origin.whitening is not None:
        meta["whitening"] = origin.whitening.eps
    if isinstance(law, StoredViews):
        meta["view_bytes"] = law.n_bytes
    (folder / CARD).write_text(card(meta, scores, versions, origin.leakage, origin.source), encoding="utf-8")
    return meta


def _per_class(images: ImageSet, params: Mapping[str, Any]) -> dict[str, Any]:
    """The number of images per class; where small classes gave all that they had, the most, and that of each."""
    counts = images.per_class
    if params.get("selection", {}).get("small_classes") == "take_all" and counts.min() < counts.max():
        return {"ipc": images.most_per_class, "per_class": counts.tolist()}
    return {"ipc": int(counts.min())}


def _law(pack: LabelPack | None, params: Mapping[str, Any]) -> ViewSource:
    """The views of the pack; for hard labels, the policy that the parameters describe."""
    if pack is not None:
        return pack.policy
    block = params["softlabels"]
    return ViewPolicy(**block["augmentation"], mix=block["mix"], seed=block["seed"])
