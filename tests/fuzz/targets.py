"""What is fuzzed: a file of an artifact is replaced under a manifest that vouches for the replacement, as a stranger
would write it. The loader may accept it or raise `DataError`; any other error is a fault.

The manifest itself is replaced either as it is, or with its digests made right.
"""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import kinds
import mutations
import releases

import dcpipe
from dcpipe import store
from dcpipe.store import artifact, manifest
from dcpipe.types import DataError

Mutate = Callable[[bytes, random.Random], bytes]


def load_release(path: Path) -> Any:
    """A release and what its metadata decides later: views, normalisation, labels of every sort."""
    found = dcpipe.load(path)
    assert found.policy and found.normalisation and len(found.dataset(labels="hard")) > 0
    if found.teacher is not None:
        found.dataset(labels="teacher")
    if found.pack is not None:
        found.dataset(labels="pack")
    return found


def load_pack(path: Path) -> Any:
    """A pack by both of its readers."""
    dcpipe.load_labels(path / "labels.safetensors")
    return store.load_pack(path, kinds.IDS)


@dataclass(frozen=True)
class Target:
    """A file of a kind of artifact, how it is damaged, and the loader that meets it."""

    kind: str
    file: str
    mutate: Mutate
    load: Callable[[Path], Any]

    def make(self, root: Path) -> Path:
        """A whole artifact in the new folder `root / "out"`."""
        if self.kind == "release":
            return releases.build(root / "out", releases.parts()).path
        return kinds.KINDS[self.kind].publish(root).path


TARGETS = {
    "manifest": Target("release", manifest.MANIFEST, mutations.json_file, load_release),
    "pack": Target("pack", "labels.safetensors", mutations.safetensors_file, load_pack),
    "images": Target("image set", "images.parquet", mutations.any_bytes, store.load_set),
    "tables": Target("images", "part-0.parquet", mutations.any_bytes, kinds.load_train),
    "indexes": Target("image index", "part-0.parquet", mutations.any_bytes, kinds.load_index),
    "selection": Target("selection", "picks.parquet", mutations.any_bytes, store.load_selection),
    "teacher": Target("release", "teacher.safetensors", mutations.safetensors_file, load_release),
    "scores": Target("scores", "scores.json", mutations.json_file, store.load_scores),
    "features": Target("features", "vectors.zarr/zarr.json", mutations.json_file, store.load_features),
    "softlabels": Target("soft labels", manifest.MANIFEST, mutations.json_file, store.load_soft_labels),
    "label_ids": Target("soft labels", "ids.parquet", mutations.any_bytes, store.load_soft_labels),
    "shards": Target("features", "label_rate.zarr/c/0", mutations.any_bytes, store.load_features),
}


def resign(folder: Path) -> None:
    """Make the manifest of a folder vouch for the files that are there, as far as it is a manifest."""
    path = folder / manifest.MANIFEST
    try:
        content = json.loads(path.read_bytes())
        content["files"] = {
            name: artifact.hash_files(folder).get(name, record) for name, record in content["files"].items()
        }
    except Exception:  # too damaged to be signed
        return
    sign(path, content)


def sign(path: Path, content: Any) -> None:
    """Write a manifest with the digests that belong to its values."""
    try:
        content["digest"] = manifest.content_digest(
            content["schema"], content["noun"], content["meta"], content["files"]
        )
        if "provenance" in content:
            content["provenance"] = manifest.provenance_digest(content["lineage"], content["arrays"])
        path.write_bytes(manifest.written(content))
    except Exception:  # too damaged to be signed: as it is, then
        path.write_bytes(json.dumps(content).encode())


class Trial:
    """A copy of a target's artifact in which its file is replaced again and again."""

    def __init__(self, target: Target, root: Path) -> None:
        self.target, self.whole = target, target.make(root / "made")
        self.copy = root / "copy"
        self.data = (self.whole / target.file).read_bytes()

    def mutated(self, seed: int) -> bytes:
        """The file's bytes, damaged by a seed."""
        return self.target.mutate(self.data, random.Random(seed))

    def meets(self, data: bytes, signed: bool = True) -> Any:
        """What the loader makes of an artifact with `data` in its file; None where it refuses."""
        shutil.rmtree(self.copy, ignore_errors=True)
        shutil.copytree(self.whole, self.copy)
        (self.copy / self.target.file).write_bytes(data)
        if signed:
            resign(self.copy)
        try:
            return self.target.load(self.copy)
        except DataError as error:
            assert str(error).strip(), "an error without a sentence"
            assert len(str(error).splitlines()) == 1, f"not one line: {error}"
            return None
