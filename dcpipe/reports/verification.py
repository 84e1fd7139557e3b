"""Which artifacts of a folder are whole, byte for byte: for `dcpipe status --verify` and `dcpipe inspect`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dcpipe.store.artifact import Artifact, verify
from dcpipe.store.manifest import MANIFEST
from dcpipe.types import DataError

UNCOVERED = "provenance not covered by a digest (made by an older version)"


@dataclass(frozen=True)
class Verified:
    """The artifacts below a folder that are whole, and a sentence for each of the others."""

    whole: tuple[Artifact, ...]
    damaged: tuple[str, ...]

    def lines(self, root: Path) -> list[str]:
        """A line for each whole artifact; its place is relative to `root`."""
        return [f"{_place(artifact.path, root)}: {describe(artifact)}" for artifact in self.whole]

    def as_json(self, root: Path) -> dict[str, Any]:
        """For programs; places are relative to `root`."""
        whole = [
            {"path": _place(artifact.path, root), "files": len(artifact.files), "digest": artifact.digest}
            for artifact in self.whole
        ]
        return {"whole": whole, "damaged": list(self.damaged)}


def describe(artifact: Artifact) -> str:
    """What verification found of a whole artifact."""
    files = f"{len(artifact.files)} file{'' if len(artifact.files) == 1 else 's'}"
    return f"verified, {files}, digest {artifact.digest[:12]}" + ("" if artifact.covered else f"; {UNCOVERED}")


def verify_all(root: Path) -> Verified:
    """Verify every artifact in `root` or below it."""
    whole, damaged = [], []
    for manifest in sorted(root.rglob(MANIFEST)):
        try:
            whole.append(verify(manifest.parent))
        except DataError as error:
            damaged.append(" ".join(str(error).split()))
    return Verified(tuple(whole), tuple(damaged))


def _place(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)
