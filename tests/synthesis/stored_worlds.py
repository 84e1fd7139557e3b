"""The setting of `scenes.py` with its real images, its teachers and its start on disk, as in a stage."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from image_tables import write_table
from scenes import CLASSES, CPU, EVERYTHING, LABELS, SIZE, World

from dcpipe import images, store
from dcpipe.synthesis import SynthesisContext
from dcpipe.synthesis.batches import recover
from dcpipe.synthesis.recovery import Engine, Recovery
from dcpipe.types import ImageSet, ImageTable, Map, Selection, run_in_turn


@dataclass
class StoredWorld(World):
    """Real images in two parts, and a start that was selected from them."""

    map_tasks: Map = run_in_turn
    stored: bool = True
    table: ImageTable = field(init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.table = store.table_of(store.Verified.of(self._publish("images", self._images)).open(), "train")
        for name, teacher in self.teachers.items():

            def save(folder: Path, teacher: Any = teacher) -> dict[str, Any]:
                return store.save_teacher(folder, teacher)

            self.teachers[name] = store.teacher_of(self._publish(f"teacher-{name}", save))

    def _publish(self, name: str, save: Callable[[Path], dict[str, Any]]) -> store.Artifact:
        staging = self.folder / f"{name}-staging"
        staging.mkdir()
        return store.publish(staging, self.folder / name, name.split("-")[0], save(staging), {})

    def _images(self, folder: Path) -> dict[str, Any]:
        table = write_table(folder, self.images, self.labels, 3 * np.arange(36)[::-1] + 1, 20, CLASSES)
        colours = {"mean": list(table.mean), "std": list(table.std)}
        splits = {"train": [path.name for path in table.parts]}
        return {"classes": list(CLASSES), "size": SIZE, "part_rows": 20, "splits": splits, **colours}

    @property
    def start(self) -> ImageSet:
        """Images with the labels `LABELS`, from both parts."""
        supply = {label: iter(np.flatnonzero(self.labels == label)[::-3]) for label in range(3)}
        rows = np.array([next(supply[label]) for label in LABELS])
        chosen = Selection(self.table.ids[rows], self.labels[rows], np.zeros(len(rows)), "random")
        return images.read_selection(self.table, chosen)

    @property
    def context(self) -> SynthesisContext:
        table = self.table if self.stored else None
        return SynthesisContext(self.teachers, self.real, self.labels, CPU, self.map_tasks, table)

    def engine(self, choices: Recovery = EVERYTHING, seed: int = 3) -> Engine:
        return Engine(self.start, self.context, seed, self.progress, choices)

    def recovered(self, choices: Recovery = EVERYTHING, seed: int = 3) -> ImageSet:
        return recover(self.start, self.context, seed, self.progress, choices)


@dataclass
class Sent:
    """A `Map` that notes what it is given and runs it by `call`."""

    call: Callable[[Callable[[Any], Any], Sequence[Any]], list[Any]]
    works: list[Callable[[Any], Any]] = field(default_factory=list)
    items: list[Any] = field(default_factory=list)

    def __call__(
        self,
        work: Callable[[Any], Any],
        items: Sequence[Any],
        label: Callable[[Any], str],
        *,
        retries: int = 0,
        workers: int = 1,
        progress: str = "",
    ) -> list[Any]:
        assert len({label(item) for item in items}) == len(items) and progress
        self.works.append(work)
        self.items.extend(items)
        return self.call(work, items)
