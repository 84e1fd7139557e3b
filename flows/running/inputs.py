"""The artifacts that a stage reads, opened and verified, and what its lineage says of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from dcpipe import store
from dcpipe.types import Teacher

FOLDERS = {"scores": Path("data/evaluation/scores")}  # where that is not data/NOUN


@dataclass(frozen=True)
class Inputs:
    """Artifacts by noun, and teachers by their key in `teacher.networks` of params.yaml."""

    artifacts: Mapping[str, store.Artifact]
    teachers: Mapping[str, store.Artifact] = field(default_factory=dict)

    @classmethod
    def open(cls, *nouns: str, teachers: Iterable[str] = ()) -> Inputs:
        """Verify every byte of them. Raises `DataError` for the first that is missing or damaged."""
        artifacts = {noun: store.open_artifact(FOLDERS.get(noun, Path("data") / noun), noun) for noun in nouns}
        return cls(artifacts, {key: store.open_artifact(Path("data/teacher") / key, "teacher") for key in teachers})

    def __getitem__(self, noun: str) -> store.Artifact:
        return self.artifacts[noun]

    @property
    def lineage(self) -> dict[str, str]:
        """Their digests by name, sorted."""
        named = {**self.artifacts, **{f"teacher {key}": artifact for key, artifact in self.teachers.items()}}
        return {name: artifact.digest for name, artifact in sorted(named.items())}

    def without(self, noun: str) -> Inputs:
        """All others."""
        return Inputs({name: a for name, a in self.artifacts.items() if name != noun}, self.teachers)

    def path(self, noun: str) -> Path:
        """The folder of an artifact."""
        return self.artifacts[noun].path

    def load_teachers(self) -> dict[str, Teacher]:
        """The teachers, their weights on the CPU."""
        return {key: store.load_teacher(artifact.path) for key, artifact in self.teachers.items()}

    @property
    def teacher_bytes(self) -> dict[str, int]:
        """What each teacher's weights take on disk: with them, labels need not be stored."""
        return {key: (artifact.path / "weights.safetensors").stat().st_size for key, artifact in self.teachers.items()}
