"""Students of a table are kept by what they are trained on and how, so that a table with more of them adds to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from releases import CLASSES, POLICY, SIZE, parts
from sent import publish_images

from dcpipe import store
from dcpipe.config import params, presets
from dcpipe.config.params import Params
from dcpipe.evaluation import all_images
from dcpipe.evaluation.contenders import Contender, hard_contender
from dcpipe.evaluation.shards import Student
from dcpipe.evaluation.students import Protocol
from dcpipe.training import Recipe
from flows.running.students import Outcomes, train_students

CPU = torch.device("cpu")
PROTOCOL = Protocol("tiny", "convnet-d1-w4", Recipe(epochs=2), batch_size=4, temperature=4.0)


class Table:
    """Two sets and all images in a folder; `trained` are the titles of the students that were not there."""

    def __init__(self, folder: Path) -> None:
        source = np.random.default_rng(5)
        pixels = source.integers(0, 256, (18, SIZE, SIZE, 3), dtype=np.uint8)
        artifact = publish_images(folder / "images", pixels, np.repeat(np.arange(3), 6), np.arange(18), CLASSES, 7)
        self.folder, self.trained = folder, list[str]()
        self.train, self.test = store.table_of(artifact, "train"), store.table_of(artifact, "test")
        self.rows = [self._row(kind, seed) for seed, kind in enumerate(("own", "own 2", "random"))]

    def _row(self, kind: str, seed: int) -> Contender:
        (self.folder / kind).mkdir()
        images = parts(seed).images
        file = store.Notes(self.folder / kind).image_file(images)
        return hard_contender(kind, f"set {seed}", images, POLICY, 123, CPU, file)

    def _map(
        self, work: Callable[[Student], Any], items: Sequence[Student], label: Callable[[Student], str], progress: str
    ) -> list[Any]:
        self.trained = [label(item) for item in items if not (Path(item.job.folder) / f"{item.note}.json").exists()]
        return [work(item) for item in items]

    def students(
        self, notes: str, rows: Sequence[Contender], seeds: Sequence[int], **changes: Any
    ) -> dict[str, Outcomes]:
        (self.folder / notes).mkdir(exist_ok=True)
        run: Any = SimpleNamespace(device=CPU, map=self._map)
        given = {"params": tiny(), "protocol": PROTOCOL, "whole": {}, **changes}
        return train_students(
            run,
            rows,
            given["params"],
            given["protocol"],
            seeds,
            self.train,
            self.test,
            store.Notes(self.folder / notes),
            given["whole"],
        )


def tiny(**training: object) -> Params:
    content = yaml.safe_load(presets.text("digits"))
    content["evaluation"]["student"] = "convnet-d1-w4"
    content["teacher"]["training"] |= {"epochs": 2, "batch_size": 6, **training}
    return params.parse(content)


@pytest.fixture
def table(tmp_path: Path) -> Table:
    return Table(tmp_path)


def test_more_seeds_rows_and_networks_train_what_is_missing(table: Table) -> None:
    own, smaller, random = table.rows
    first = table.students("notes", [own, random], [0, 1])
    assert table.trained == ["set 0/seed 0", "set 0/seed 1", "set 2/seed 0", "set 2/seed 1"]
    more = table.students("notes", [smaller, random, own], [2, 1, 0])
    assert table.trained == ["set 1/seed 2", "set 1/seed 1", "set 1/seed 0", "set 2/seed 2", "set 0/seed 2"]
    assert [more["own"][2], more["own"][1]] == first["own"] and [more["random"][2], more["random"][1]] == first[
        "random"
    ]
    assert more == table.students("elsewhere", [smaller, random, own], [2, 1, 0]), "as if all were trained at once"
    assert len(table.trained) == 9
    other = table.students("notes", [own], [0], protocol=replace(PROTOCOL, student="convnet-d2-w4"))
    assert table.trained == ["set 0/seed 0"] and other["own"] != first["own"][:1]
    assert table.students("notes", [own], [0]) == {"own": first["own"][:1]} and table.trained == []


def test_all_images_are_kept_by_their_recipe(table: Table) -> None:
    kind, less = all_images.KIND, all_images.AT_COMPUTE
    both = table.students("notes", [], [0], whole={kind: None, less: 1})
    assert table.trained == ["all training images/seed 0", "all training images, equal compute/seed 0"]
    assert (len(both[kind][0]["history"]), len(both[less][0]["history"])) == (2, 1)
    longer = table.students("notes", [], [0], whole={kind: None, less: 1}, params=tiny(epochs=3))
    assert table.trained == ["all training images/seed 0"], "one epoch of it is the same"
    assert len(longer[kind][0]["history"]) == 3 and longer[less] == both[less]


def test_a_set_in_memory_is_refused(table: Table) -> None:
    with pytest.raises(AssertionError, match="set 0 is not on disk"):
        table.students("notes", [replace(table.rows[0], stored=None)], [0])
