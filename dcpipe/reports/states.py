"""What of a workspace is built: the artifacts of its stages, their sizes on disk, and the scores."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dcpipe import store
from dcpipe.images import leakage, report
from dcpipe.store.columns import read_columns
from dcpipe.store.images import IMAGES
from dcpipe.store.labels import LABELS, read_pack_header
from dcpipe.store.manifest import MANIFEST, Manifest, read_manifest
from dcpipe.types import DataError, Score, reference_bytes

PLACES = {
    "images": "data/images",
    "teacher": "data/teacher",
    "features": "data/features",
    "selection": "data/selection",
    "synthesis": "data/synthesis",
    "softlabels": "data/softlabels",
    "compression": "data/compression",
    "evaluation": "data/evaluation/scores",
    "release": "data/release",
}


@dataclass(frozen=True)
class Stage:
    """An artifact of a stage, of which there may be one for each `key`. What is not made has 0 bytes and no digest."""

    stage: str
    key: str | None
    made: bool
    bytes: int
    digest: str


@dataclass(frozen=True)
class Scores:
    """The scores of a workspace, the shape of its label pack (images, views, classes) if there is one, the side of the
    grid that a stored image is, and the stored images of each class, where the set is made."""

    scores: Sequence[Score]
    labels: dict[str, Any] | None
    grid: int
    per_class: Sequence[int] | None = None

    def as_json(self) -> list[dict[str, Any]]:
        """For programs."""
        return [
            asdict(score)
            | {
                "mean": score.mean,
                "std": score.std,
                "total_bytes": score.total_bytes,
                "fp16_label_bytes": reference_bytes(self.labels, score.ipc, self.grid, self.per_class),
            }
            for score in self.scores
        ]


@dataclass(frozen=True)
class State:
    """The artifacts of each stage, what the stage `images` reported, a clause about test images that are train images,
    and the scores if there are any."""

    stages: list[Stage]
    images: list[str]
    leakage: str
    scores: Scores | None

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "stages": [asdict(stage) for stage in self.stages],
            "images": self.images,
            "leakage": self.leakage or None,
            "scores": [] if self.scores is None else self.scores.as_json(),
        }


def state(root: Path) -> State:
    """What is built in the workspace `root`. Raises `DataError` for a damaged manifest."""
    stages = []
    for stage, place in PLACES.items():
        made = _made(root / place)
        for folder in made:
            key = None if folder == root / place else folder.name
            stages.append(Stage(stage, key, True, store.folder_bytes(folder), _manifest(folder).digest))
        if not made:
            stages.append(Stage(stage, None, False, 0, ""))
    found = leakage.recorded(root / PLACES["images"]) or ""
    told = report.recorded(root / PLACES["images"])
    return State(
        stages,
        [] if told is None else list(told.lines()),
        found,
        scores_of(root) if _made(root / PLACES["evaluation"]) else None,
    )


def scores_of(root: Path) -> Scores:
    """The scores of a workspace that has some."""
    pack, made = root / PLACES["compression"] / LABELS, _made(root / PLACES["synthesis"])
    labels = read_pack_header(pack).shape.model_dump() if pack.is_file() else None
    scores = store.load_scores(root / PLACES["evaluation"])
    return Scores(scores, labels, _grid(made[0]), _per_class(made[0])) if made else Scores(scores, labels, 1)


def _made(folder: Path) -> list[Path]:
    """The artifacts of a stage: the folder itself, or its subfolders, one per key."""
    if (folder / MANIFEST).is_file():
        return [folder]
    return sorted(path.parent for path in folder.glob(f"*/{MANIFEST}"))


def _manifest(folder: Path) -> Manifest:
    return read_manifest(folder, store.SCHEMA)


def _grid(folder: Path) -> int:
    """The grid of a set of images, from its manifest."""
    grid = _manifest(folder).meta.get("grid")
    if not isinstance(grid, int) or grid < 1:
        raise DataError(f"{folder / MANIFEST} is damaged (grid is {grid!r}); remove {folder} and run `dvc repro`")
    return grid


def _per_class(folder: Path) -> list[int]:
    """The images of each class in a set that has some of each."""
    labels = read_columns(folder / IMAGES, {"label": "int64"})["label"]
    return sorted(Counter(labels.tolist()).values())
