"""Notes of unfinished work, from which an interrupted run resumes. They do not become part of an artifact."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dcpipe.store.blocks import Blocks, create_blocks
from dcpipe.store.files import replacing
from dcpipe.store.images import IMAGES, save_set
from dcpipe.store.labels import read_pack, save_pack
from dcpipe.types import ImageSet, IntArray, LabelPack


@dataclass(frozen=True)
class Notes:
    """A folder in which a run saves its intermediate results; each one is written atomically."""

    folder: Path

    def within(self, name: str) -> Notes:
        """Notes of a part of the work, in a subfolder."""
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        return Notes(folder)

    def only(self, name: str) -> Notes:
        """Notes of a part of the work, as by `within`, after those of all other parts were removed: for parts that take
        so much space that together they could fill the disk."""
        for other in self.folder.iterdir():
            if other.is_dir() and other.name != name:
                self.remove(other.name)
        return self.within(name)

    def remove(self, name: str) -> None:
        """Remove the notes of a part of the work, if there are any."""
        shutil.rmtree(self.folder / name, ignore_errors=True)

    def save_arrays(self, name: str, **arrays: npt.NDArray[Any]) -> None:
        """Save arrays under a name; a resumed run gets them from `load_arrays`."""
        with replacing(self.folder / f"{name}.npz") as partial, partial.open("wb") as stream:
            np.savez(stream, **arrays)  # type: ignore[arg-type]  # NumPy types the keywords as its own options

    def load_arrays(self, name: str) -> dict[str, npt.NDArray[Any]] | None:
        """The arrays that `save_arrays` saved, or None."""
        path = self.folder / f"{name}.npz"
        if not path.exists():
            return None
        with np.load(path, allow_pickle=False) as state:
            return dict(state)

    def save_json(self, name: str, value: Any) -> None:
        """Save a JSON value under a name; a resumed run gets it from `load_json`."""
        with replacing(self.folder / f"{name}.json") as partial:
            partial.write_text(json.dumps(value), encoding="utf-8")

    def load_json(self, name: str) -> Any:
        """The value that `save_json` saved, or None."""
        path = self.folder / f"{name}.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None

    def blocks(self, name: str, shape: tuple[int, ...], dtype: str) -> Blocks:
        """An array NAME.zarr that is filled shard by shard; the shards of an earlier run are preserved."""
        return create_blocks(self.folder / f"{name}.zarr", shape, dtype)

    def has_pack(self, name: str) -> bool:
        """Whether `save_pack` has finished NAME.safetensors."""
        return self._pack(name).exists()

    def save_pack(self, name: str, pack: LabelPack) -> None:
        """Write a pack as NAME.safetensors."""
        save_pack(self._pack(name), pack)

    def read_pack(self, name: str, ids: IntArray) -> LabelPack:
        """The pack in NAME.safetensors, which labels the images `ids`."""
        return read_pack(self._pack(name), ids)

    def _pack(self, name: str) -> Path:
        return self.folder / f"{name}.safetensors"

    def image_file(self, images: ImageSet, stored: Path | None = None) -> Path:
        """A set as a file, which is written once; notes hold one set only. For `stored`, see `save_set`."""
        path = self.folder / IMAGES
        if not path.exists():
            save_set(self.folder, images, stored)
        return path

    def image_bytes(self, images: ImageSet, stored: Path | None = None) -> int:
        """The size of a set on disk. It is written here to measure it, and only the number is kept."""
        if (n_bytes := self.load_json("image_bytes")) is None:
            path = self.image_file(images, stored)
            n_bytes = path.stat().st_size
            self.save_json("image_bytes", n_bytes)
            path.unlink()
        return int(n_bytes)
