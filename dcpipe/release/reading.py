"""Load a release from a folder, a URL or a tag, and make a dataset for training of it.

The `pipeline` extra is not needed.
"""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field

from dcpipe import store
from dcpipe.dataset import CondensedDataset
from dcpipe.dataset.targets import HardLabels, Labels, OnlineLabels, PackLabels, PrefixLabels, rows_of
from dcpipe.release import hub, tags
from dcpipe.release.remote import RemoteRelease, open_release
from dcpipe.release.writing import TEACHER
from dcpipe.store.documents import Channels, Open, Pixels, Size, Text, checked, shown
from dcpipe.store.images import IMAGES, SetMeta, read_set
from dcpipe.store.labels import LABELS, read_policy
from dcpipe.store.manifest import MANIFEST
from dcpipe.store.scores import SCORES, read_scores
from dcpipe.store.teacher import TeacherMeta, read_teacher
from dcpipe.store.whitening import WHITENING
from dcpipe.types import (
    By,
    Colour,
    DataError,
    ImageSet,
    IntArray,
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
from dcpipe.types.arguments import as_whole
from dcpipe.types.paths import is_url
from dcpipe.views import multiformation
from dcpipe.views.whitening import Whitener

REMEDY = "get the release again"
LabelKind = Literal["pack", "teacher", "hard"]
_STORED = "size"  # what the manifest says of stored views, and of no views that are drawn


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
    per_class: list[Size] | None = None
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
    whitening: float | None = Field(default=None, ge=0)


@dataclass(frozen=True, eq=False)
class Release:
    """A verified release.

    `images` may be a smaller set (`ipc=`), `ids` are those of the decoded images of the whole one. The labels and the
    teacher of a release at a URL are downloaded when they are first used.
    """

    source: store.Artifact | RemoteRelease
    images: ImageSet
    ids: IntArray
    scores: tuple[Score, ...]

    def __repr__(self) -> str:
        labels = self.manifest["labels"]
        kind = "hard labels" if labels is None else f"labels of codec {labels['codec']}"
        total = sum(self.manifest["bytes"].values())
        shown = f"{len(self.images):,} images of {len(self.classes)} classes, {kind}"
        return f"<Release {self.name}: {shown}, {total:,} bytes, digest {self.digest[:12]}>"

    @property
    def path(self) -> Path:
        """The folder with the files."""
        return self.source.path

    @property
    def digest(self) -> str:
        """What identifies the content."""
        return self.source.digest

    @property
    def manifest(self) -> dict[str, Any]:
        """The metadata that `write_release` returned."""
        return self.source.meta

    @property
    def name(self) -> str:
        return str(self.manifest["name"])

    @property
    def classes(self) -> tuple[str, ...]:
        return self.images.classes

    @cached_property
    def pack(self) -> LabelPack | None:
        """The soft labels of the whole set; None if labels are hard. Raises `DataError` if they are others than those
        that the manifest describes."""
        if self.manifest["labels"] is None:
            return None
        manifest, views = self.path / MANIFEST, self.manifest["views"]
        pack = store.read_pack(self.source.file(LABELS), self.ids)
        stated = views if _STORED in views else store.describe_views(read_policy(views, manifest))
        _agree(manifest, "views", stated, store.describe_views(pack.policy))
        _agree(manifest, "labels", self.manifest["labels"], {"codec": pack.codec, **asdict(pack.shape)})
        n = pack.shape.classes
        require(n == len(self.classes), f"{manifest} has {len(self.classes)} classes, its labels {n}; {REMEDY}")
        return pack

    @cached_property
    def teacher(self) -> Teacher | None:
        """The teacher; None if the release has none. Raises `DataError` if it has other classes than the images."""
        if self.manifest["teacher"] is None:
            return None
        teacher = read_teacher(self.source.file(TEACHER), self.manifest["teacher"])
        check_same_classes(teacher.classes, self.classes, f"{self.path / MANIFEST}: teacher and images")
        return teacher

    @property
    def policy(self) -> ViewSource:
        """The policy that views are drawn from, or the stored views. Raises `DataError` for stored views of a smaller
        set if they paste images that may not be in it."""
        if _STORED not in self.manifest["views"]:
            return ViewPolicy(**self.manifest["views"])
        pack = self.pack
        assert pack is not None and isinstance(pack.policy, StoredViews)
        if len(self.images.decoded_ids) == len(pack.ids):
            return pack.policy
        require(
            pack.policy.mix == "none",
            f"release {self.name}: its views paste images that a smaller set does not contain; load all of it",
        )
        return pack.policy.select(rows_of(pack, self.images))

    @cached_property
    def transform(self) -> Whitening | None:
        """The stored ZCA transform that students see images through; None if they are normalised. Raises `DataError`
        if it is for images of another size or eps."""
        if self.manifest.get("whitening") is None:
            return None
        found, manifest = store.read_whitening(self.source.file(WHITENING)), self.path / MANIFEST
        _agree(manifest, "whitening", self.manifest["whitening"], found.eps)
        _agree(manifest, "size", self.manifest["size"], found.size)
        return found

    @property
    def transform_file(self) -> Path | None:
        """The file of `transform`."""
        return None if self.transform is None else self.source.file(WHITENING)

    @property
    def whitening(self) -> Whitener | None:
        """The ZCA transform as a function from images f32 [m, 3, s, s] in [0, 1] to inputs of networks: for the images
        that students are tested on, because `dataset` gives whitened views. None if inputs are normalised."""
        return None if self.transform is None else Whitener.of(self.transform, "cpu")

    @property
    def normalisation(self) -> tuple[Colour, Colour]:
        """Mean and std per channel of the original training images in [0, 1], with which students normalise. Raises
        `DataError` if they whiten instead."""
        require(
            self.manifest.get("whitening") is None,
            f"release {self.name} is ZCA-whitened, not normalised: its dataset gives whitened views, and "
            "release.whitening(images) whitens others",
        )
        return tuple(self.manifest["mean"]), tuple(self.manifest["std"])

    def dataset(
        self,
        *,
        labels: LabelKind | None = None,
        temperature: float | None = None,
        size: int | None = None,
        device: torch.device | str = "cpu",
    ) -> CondensedDataset:
        """A torch dataset of (view f32 [3, s, s] in [0, 1], target f32 [c]). If the release has a ZCA transform, views
        are whitened: images are whitened as a whole, before they are cropped and augmented.

        Args:
            labels: `pack` decodes the stored soft labels, `teacher` computes labels with the shipped teacher at every
                step, `hard` is one-hot; by default `pack`, or `hard` if there is no pack.
            temperature: of the targets; by default the one that the release was evaluated at.
            size: side of a view in pixels; by default that of the images.
            device: where images and labels are stored.

        Raises `DataError` if the release has no such labels.
        """
        kind: LabelKind = labels or ("hard" if self.manifest["labels"] is None else "pack")
        if temperature is None:
            temperature = float(self.manifest["params"]["evaluation"]["temperature"])
        source = self._labels(kind, torch.device(device))
        return CondensedDataset(
            self.images,
            source,
            self.policy,
            temperature=temperature,
            size=size,
            device=device,
            whitening=self.transform,
        )

    def push_to_hub(self, repo_id: str, *, token: str | None = None, private: bool | None = None) -> str:
        """Copy the whole release, as it is, into a dataset repository of the Hugging Face Hub, in one commit.

        Args:
            repo_id: `user/name`; the repository is created if there is none.
            token: one that may write; by default that of `hf auth login`, or `HF_TOKEN`.
            private: whether a new repository is private; by default as the user's settings say.

        Returns its address, which `dcpipe.load` takes. The package `huggingface_hub` is in the extra `hf`.

        Raises `DataError` if it is not installed, if the release was loaded with `ipc`, or if the Hub refuses.
        """
        whole = int(self.manifest["images"])
        require(
            len(self.images) == whole,
            f"release {self.name} was loaded with {len(self.images)} of its {whole} images; load it without ipc",
        )
        if isinstance(self.source, RemoteRelease):
            self.source.files()
        return hub.push(self.path, repo_id, token, private)

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
    """Load a release and verify every byte of it that is used.

    Args:
        where: the folder of a release, its URL (s3://, gs://, hf:// or https://), the tag `NAME@vX.Y.Z`, or NAME
            together with `revision`. From a URL, only the files that are used are downloaded, to `DCPIPE_CACHE`.
        revision: the version `vX.Y.Z` (or `X.Y.Z`) of NAME.
        repo: path or URL of the git repository that has the tag; by default the one around the current folder.
        ipc: load only the first `ipc` images of every class, or all of a class that has fewer.
        by: how `ipc` counts if images are grids of f x f: `images` are the first stored images, `cells` the first
            ipc * f * f cells in the order of `multiformation.subset`; by default as the method of the set trained them.

    Raises `DataError` if the folder, URL or tag does not exist, if a file is missing or changed, or if `ipc` is out of
    range.
    """
    source = _open(where, revision, repo)
    meta, manifest = source.meta, source.path / MANIFEST
    checked(ReleaseMeta, meta, manifest, REMEDY, "in meta")
    if meta["labels"] is None or _STORED not in meta["views"]:
        read_policy(meta["views"], manifest)
    images = read_set(source.file(IMAGES), meta)
    _agree(manifest, "images", meta["images"], len(images))
    _agree(manifest, "size", meta["size"], int(images.images.shape[1]))
    # The range of ipc is checked where the smallest class is known.
    used = images if ipc is None else multiformation.subset(images, as_whole(ipc, "ipc", -sys.maxsize), by)
    release = Release(source, used, images.decoded_ids, tuple(read_scores(source.file(SCORES))))
    if isinstance(source, store.Artifact):
        _ = release.pack, release.teacher, release.transform  # what is here is checked now
    return release


def _open(where: str | Path, revision: str | None, repo: str | Path | None) -> store.Artifact | RemoteRelease:
    if is_url(where):
        require(revision is None and repo is None, f"{where} is a URL; leave revision and repo out")
        return open_release(str(where))
    folder = Path(where)
    if revision is not None:
        folder = tags.fetch(f"{where}@v{revision.removeprefix('v')}", repo)
    elif tags.TAG.fullmatch(str(where)) and not folder.exists():
        folder = tags.fetch(str(where), repo)
    require(folder.is_dir(), f"{str(where)!r} is neither a folder nor a tag NAME@vX.Y.Z; give one of the two")
    return store.open_artifact(folder, "release", again=True)


def _agree(manifest: Path, key: str, stated: Any, found: Any) -> None:
    """Raise `DataError` where the metadata of a release says something else than its files."""
    require(
        stated == found,
        f"{manifest} says that {key} is {shown(stated)}, but its files have {shown(found)}; {REMEDY}",
    )
