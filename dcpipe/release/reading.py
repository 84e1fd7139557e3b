"""Load a release from a folder or a tag, and make a dataset for training of it. The `pipeline` extra is not needed."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field

from dcpipe import store
from dcpipe.dataset import CondensedDataset
from dcpipe.dataset.targets import HardLabels, Labels, OnlineLabels, PackLabels, PrefixLabels, rows_of
from dcpipe.release import tags
from dcpipe.release.writing import TEACHER
from dcpipe.store.documents import Channels, Open, Pixels, Size, Text, checked, shown
from dcpipe.store.images import IMAGES, SetMeta, read_set
from dcpipe.store.labels import LABELS, read_policy
from dcpipe.store.manifest import MANIFEST
from dcpipe.store.scores import SCORES, read_scores
from dcpipe.store.teacher import TeacherMeta, read_teacher
from dcpipe.types import (
    By,
    Colour,
    DataError,
    ImageSet,
    LabelPack,
    Score,
    StoredViews,
    Teacher,
    ViewPolicy,
    ViewSource,
    check_same_classes,
    require,
)
from dcpipe.types.arguments import as_whole
from dcpipe.views import multiformation

REMEDY = "get the release again"
LabelKind = Literal["pack", "teacher", "hard"]


class _Evaluation(Open):
    temperature: float = Field(gt=0)


class _Params(Open):
    evaluation: _Evaluation


class _Labels(Open):
    codec: Text
    images: Size
    views: Size
    classes: Size


class ReleaseMeta(SetMeta):
    """What `release.writing` says of a release, as far as it is used."""

    name: str = Field(min_length=1, max_length=200)
    ipc: Size
    images: Size
    size: Pixels
    mean: Channels
    std: Channels
    views: dict[str, Any]
    labels: _Labels | None
    teachers: list[Text]
    teacher: TeacherMeta | None
    licence: str
    params: _Params
    bytes: dict[Text, Size]


@dataclass(frozen=True, eq=False)
class Release:
    """A verified release.

    `images` may be a smaller set (`ipc=`), but `pack` is always the whole pack. `manifest` is the metadata that
    `write_release` returns, and `digest` identifies the content of the folder.
    """

    path: Path
    digest: str
    images: ImageSet
    pack: LabelPack | None
    teacher: Teacher | None
    scores: tuple[Score, ...]
    manifest: dict[str, Any]

    @property
    def name(self) -> str:
        return str(self.manifest["name"])

    @property
    def classes(self) -> tuple[str, ...]:
        return self.images.classes

    @property
    def policy(self) -> ViewSource:
        """The policy that views are drawn from, or the stored views. Raises `DataError` for stored views of a smaller
        set if they paste images that may not be in it."""
        law = None if self.pack is None else self.pack.policy
        if self.pack is None or not isinstance(law, StoredViews):
            return ViewPolicy(**self.manifest["views"])
        if len(self.images.decoded_ids) == len(self.pack.ids):
            return law
        require(
            law.mix == "none",
            f"release {self.name}: its views paste images that a smaller set does not contain; load all of it",
        )
        return law.select(rows_of(self.pack, self.images))

    @property
    def normalisation(self) -> tuple[Colour, Colour]:
        """Mean and std per channel of the original training images in [0, 1], with which students normalise."""
        return tuple(self.manifest["mean"]), tuple(self.manifest["std"])

    def dataset(
        self,
        *,
        labels: LabelKind | None = None,
        temperature: float | None = None,
        size: int | None = None,
        device: torch.device | str = "cpu",
    ) -> CondensedDataset:
        """A torch dataset of (view f32 [3, s, s] in [0, 1], target f32 [c]).

        Args:
            labels: `pack` decodes the stored soft labels, `teacher` computes labels with the shipped teacher at every
                step, `hard` is one-hot; by default `pack`, or `hard` if there is no pack.
            temperature: of the targets; by default the one that the release was evaluated at.
            size: side of a view in pixels; by default that of the images.
            device: where images and labels are stored.

        Raises `DataError` if the release has no such labels.
        """
        kind: LabelKind = labels or ("hard" if self.pack is None else "pack")
        if temperature is None:
            temperature = float(self.manifest["params"]["evaluation"]["temperature"])
        source = self._labels(kind, torch.device(device))
        return CondensedDataset(self.images, source, self.policy, temperature=temperature, size=size, device=device)

    def _labels(self, kind: LabelKind, device: torch.device) -> Labels:
        if kind == "hard":
            return HardLabels(self.images.decoded_labels, len(self.classes), device)
        if kind == "teacher":
            if self.teacher is None:
                raise DataError(f"release {self.name} ships no teacher; use labels='pack' or 'hard'")
            return OnlineLabels([self.teacher], len(self.images.decoded_ids), device)
        require(kind == "pack", f"labels {kind!r} are unknown; choose one of pack, teacher, hard")
        if self.pack is None:
            raise DataError(f"release {self.name} has hard labels only; use labels='hard'")
        whole = PackLabels(self.pack, device)
        if len(self.images.decoded_ids) == self.pack.shape.images:
            return whole
        # The teacher saw these views with boxes of images that a smaller set does not contain.
        require(
            self.policy.mix != "cutmix_images",
            f"release {self.name}: labels of images mixed before labelling cannot be cut to a smaller ipc; "
            "load all of it, or use labels='teacher' or 'hard'",
        )
        return PrefixLabels(whole, rows_of(self.pack, self.images))


def load(
    where: str | Path,
    *,
    revision: str | None = None,
    repo: str | Path | None = None,
    ipc: int | None = None,
    by: By | None = None,
) -> Release:
    """Load a release and verify every byte of it.

    Args:
        where: the folder of a release, the tag `NAME@vX.Y.Z`, or NAME together with `revision`.
        revision: the version `vX.Y.Z` (or `X.Y.Z`) of NAME.
        repo: path or URL of the git repository that has the tag; by default the one around the current folder.
        ipc: load only the first `ipc` images of every class.
        by: how `ipc` counts if images are grids of f x f: `images` are the first stored images, `cells` the first
            ipc * f * f cells in the order of `multiformation.subset`; by default as the method of the set trained them.

    Raises `DataError` if the folder or tag does not exist, if a file is missing or changed, or if `ipc` is out of
    range.
    """
    folder = Path(where)
    if revision is not None:
        folder = tags.fetch(f"{where}@v{revision.removeprefix('v')}", repo)
    elif tags.TAG.fullmatch(str(where)) and not folder.exists():
        folder = tags.fetch(str(where), repo)
    require(folder.is_dir(), f"{str(where)!r} is neither a folder nor a tag NAME@vX.Y.Z; give one of the two")
    artifact = store.open_artifact(folder, "release", again=True)
    meta, manifest = artifact.meta, folder / MANIFEST
    checked(ReleaseMeta, meta, manifest, REMEDY, "in meta")
    images = read_set(artifact.file(IMAGES), meta)
    pack = None if meta["labels"] is None else store.read_pack(artifact.file(LABELS), images.decoded_ids)
    teacher = None if meta["teacher"] is None else read_teacher(artifact.file(TEACHER), meta["teacher"])
    scores = tuple(read_scores(artifact.file(SCORES)))
    _check_agreement(manifest, meta, images, pack, teacher)
    # The range of ipc is checked where the smallest class is known.
    images = images if ipc is None else multiformation.subset(images, as_whole(ipc, "ipc", -sys.maxsize), by)
    return Release(folder, artifact.digest, images, pack, teacher, scores, meta)


def _check_agreement(
    manifest: Path, meta: Mapping[str, Any], images: ImageSet, pack: LabelPack | None, teacher: Teacher | None
) -> None:
    """Raise `DataError` where the metadata of a release says something else than its files."""
    kept = pack is not None and isinstance(pack.policy, StoredViews)
    views = meta["views"] if kept else store.describe_views(read_policy(meta["views"], manifest))
    stated = {"images": meta["images"], "size": meta["size"], "views": views, "labels": meta["labels"]}
    found = {
        "images": len(images),
        "size": int(images.images.shape[1]),
        "views": views if pack is None else store.describe_views(pack.policy),
        "labels": None if pack is None else {"codec": pack.codec, **asdict(pack.shape)},
    }
    for key, value in stated.items():
        require(
            value == found[key],
            f"{manifest} says that {key} is {shown(value)}, but its files have {shown(found[key])}; {REMEDY}",
        )
    if pack is not None:
        n = pack.shape.classes
        require(n == len(images.classes), f"{manifest} has {len(images.classes)} classes, its labels {n}; {REMEDY}")
    if teacher is not None:
        check_same_classes(teacher.classes, images.classes, f"{manifest}: teacher and images")
