"""Tiny releases for the tests of release and cli: 3 classes, 4 images of each, 5 views."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

import dcpipe
from dcpipe import networks, release, store, views
from dcpipe.compression import CODECS
from dcpipe.config import params, presets
from dcpipe.dataset.targets import PackLabels
from dcpipe.types import ImageSet, LabelPack, LabelShape, Score, Teacher, ViewPolicy, Whitening
from dcpipe.views.whitening import fit

CLASSES = ("tench", "goldfish", "white shark")
IPC, SIZE, VIEWS = 4, 8, 5
POLICY = ViewPolicy(scale_min=0.4, seed=3)
FILES = ["images.parquet", "labels.safetensors", "teacher.safetensors", "scores.json", "README.md", "artifact.json"]


@dataclass
class Parts:
    """The arguments of `assemble` that tests vary."""

    images: ImageSet
    pack: LabelPack | None
    teacher: Teacher
    scores: list[Score]
    with_teacher: bool = True
    name: str = "fish"
    small_classes: str = "stop"
    whitening: Whitening | None = None


def parts(seed: int = 0, policy: ViewPolicy = POLICY, grid: int = 1) -> Parts:
    """Random content; rows come in rounds of one image a class, ids are not their positions. Labels are of the decoded
    images where `grid` is more than 1."""
    source = np.random.default_rng(seed)
    n, c = IPC * len(CLASSES), len(CLASSES)
    images = ImageSet(
        images=source.integers(0, 256, (n, SIZE, SIZE, 3), dtype=np.uint8),
        labels=np.tile(np.arange(c, dtype=np.int64), IPC),
        ids=source.permutation(100)[:n].astype(np.int64),
        classes=CLASSES,
        grid=grid,
    )
    n *= grid**2
    shape = LabelShape(n, VIEWS, c)
    logits = torch.from_numpy(source.normal(0, 3, (n, VIEWS, c)).astype(np.float16)).float()
    codec = CODECS["none"].plan(shape, shape.reference_bytes)
    drawn = views.draw(policy, np.repeat(images.decoded_ids, VIEWS), np.tile(np.arange(VIEWS), n), n)
    arrays = codec.encode(logits, np.arange(n), shape, drawn)
    pack = LabelPack("none", codec.settings, dict(arrays), shape, policy, images.decoded_ids)
    torch.manual_seed(seed)
    network = networks.build("convnet-d1-w4", c, SIZE)
    teacher = Teacher(
        "convnet-d1-w4", network.state_dict(), CLASSES, (0.4, 0.5, 0.6), (0.2, 0.25, 0.3), SIZE, {"test": 50.0}
    )
    scores = [
        Score("score, none", "score", "convnet-d1-w4", IPC, (60.0, 61.0, 62.0), 4321, 999, epochs=9),
        Score("score, teacher online", "score", "convnet-d1-w4", IPC, (63.0, 63.5, 64.0), 4321, 0, 777, epochs=9),
    ]
    return Parts(images, pack, teacher, scores)


def uneven() -> Parts:
    """A set in which the second class has two images and the third has one: those of `parts` without the others."""
    whole = parts()
    kept = whole.images.ranks < np.array([IPC, 2, 1])[whole.images.labels]
    images = ImageSet(*(array[kept] for array in (whole.images.images, whole.images.labels, whole.images.ids)), CLASSES)
    assert whole.pack is not None
    shape = LabelShape(len(images), VIEWS, len(CLASSES))
    codec = CODECS["none"].plan(shape, shape.reference_bytes)
    logits = logits_of(whole.pack)[torch.from_numpy(kept)].float()
    drawn = views.draw(POLICY, np.repeat(images.ids, VIEWS), np.tile(np.arange(VIEWS), len(images)), len(images))
    arrays = dict(codec.encode(logits, np.arange(len(images)), shape, drawn))
    pack = LabelPack("none", codec.settings, arrays, shape, POLICY, images.ids)
    return replace(whole, images=images, pack=pack, small_classes="take_all")


def hard(some: Parts) -> Parts:
    """The same without soft labels."""
    return replace(some, pack=None, with_teacher=False)


def whitened() -> Parts:
    """With hard labels and a ZCA transform."""
    some = hard(parts())
    return replace(some, whitening=fit(torch.from_numpy(some.images.images), 0.1).stored())


def settings(name: str) -> params.Params:
    """Valid parameters, of the default preset."""
    content = params.parse(yaml.safe_load(presets.text("digits")))
    return content.model_copy(update={"release": content.release.model_copy(update={"name": name})})


def build(folder: Path, some: Parts, stored: Path | None = None) -> store.Artifact:
    """The artifact, as the release stage makes it; `stored` is the file of the synthesis."""
    scratch = folder.with_name(folder.name + "-scratch")
    scratch.mkdir(parents=True)
    lineage = {"inputs": {"synthesis": "0" * 64}, "versions": {"dcpipe": "0.1.0"}}
    meta = release.assemble(
        scratch,
        name=some.name,
        images=some.images,
        pack=some.pack,
        teacher=some.teacher,
        with_teacher=some.with_teacher,
        scores=some.scores,
        params=_params(some),
        lineage=lineage,
        licence="CC0-1.0",
        stored=stored,
        whitening=some.whitening,
    )
    return store.publish(scratch, folder, "release", meta, lineage)


def _params(some: Parts) -> dict[str, Any]:
    content = settings(some.name).model_dump(mode="json")
    if some.small_classes == "stop":
        return content
    return {**content, "selection": {"method": "random", "ipc": IPC, "small_classes": some.small_classes}}


def with_pack(found: release.Release, pack: LabelPack) -> release.Release:
    """A loaded release with other labels than those that it has read."""
    other = replace(found)
    other.__dict__["pack"] = pack  # where the property keeps what it has read
    return other


def logits_of(pack: dcpipe.LabelPack) -> torch.Tensor:
    """All logits f64 [n, K, c], decoded one by one."""
    whole = PackLabels(pack, torch.device("cpu"))
    out = torch.zeros(pack.shape.images, pack.shape.views, pack.shape.classes, dtype=torch.float64)
    for i in range(pack.shape.images):
        for v in range(pack.shape.views):
            row, view = np.array([i]), np.array([v])
            drawn = views.draw(pack.policy, pack.ids[row], view, pack.shape.images)
            out[i, v] = whole.codec.decode(whole.arrays, row, view, pack.shape, drawn)[0].double()
    return out
