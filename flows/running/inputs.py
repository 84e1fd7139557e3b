"""The artifacts that a stage reads, opened and verified, and their digests for its lineage."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from dcpipe import store
from dcpipe.types import Teacher

FOLDERS = {"scores": Path("data/evaluation/scores")}  # of the kinds that are not in data/KIND


@dataclass(frozen=True)
class Inputs:
    """Artifacts by kind, and teachers by their key in `teacher.networks` of params.yaml."""

    artifacts: Mapping[str, store.Artifact]
    teachers: Mapping[str, store.Artifact] = field(default_factory=dict)

    @classmethod
    def open(cls, *kinds: str, teachers: Iterable[str] = ()) -> Inputs:
        """Open artifacts and verify every byte. Raises `DataError` for the first one that is missing or damaged."""
        artifacts = {kind: store.open_artifact(FOLDERS.get(kind, Path("data") / kind), kind) for kind in kinds}
        return cls(artifacts, {key: store.open_artifact(Path("data/teacher") / key, "teacher") for key in teachers})

    def __getitem__(self, kind: str) -> store.Artifact:
        return self.artifacts[kind]

    @property
    def lineage(self) -> dict[str, str]:
        """The digests of all inputs by name, sorted."""
        named = {**self.artifacts, **{f"teacher {key}": artifact for key, artifact in self.teachers.items()}}
        return {name: artifact.digest for name, artifact in sorted(named.items())}

    def without(self, kind: str) -> Inputs:
        """All inputs except one artifact."""
        return Inputs({name: a for name, a in self.artifacts.items() if name != kind}, self.teachers)

    def path(self, kind: str) -> Path:
        """The folder of an artifact."""
        return self.artifacts[kind].path

    def verified(self, kind: str) -> store.Verified:
        """An artifact for shards, which open it without verifying it again."""
        return store.Verified.of(self.artifacts[kind])

    def verified_teachers(self) -> tuple[tuple[str, store.Verified], ...]:
        """The teachers for shards, as pairs with their keys."""
        return tuple((key, store.Verified.of(artifact)) for key, artifact in self.teachers.items())

    def load_teachers(self) -> dict[str, Teacher]:
        """The teachers by key, with their weights on the CPU."""
        return {key: store.teacher_of(artifact) for key, artifact in self.teachers.items()}

    @property
    def teacher_bytes(self) -> dict[str, int]:
        """The bytes that the weights of each teacher take on disk; they could be shipped instead of labels."""
        return {key: (artifact.path / "weights.safetensors").stat().st_size for key, artifact in self.teachers.items()}
