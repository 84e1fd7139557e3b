"""The stage of synthesis sends the batches of a recovery as shards, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from dcpipe import store
from dcpipe.config import params, presets
from dcpipe.shards import is_shard
from dcpipe.synthesis import shards
from dcpipe.types import Selection
from flows.images import images_stage
from flows.running.inputs import Inputs
from flows.running.reporting import Plain
from flows.running.runtime import Run
from flows.synthesis import synthesis_stage
from flows.teacher import teacher_stage

EDC = {"method": "edc", "options": {"iterations": 3, "batch_size": 8}}


def run_of(**blocks: Any) -> Run:
    whole = yaml.safe_load(presets.text("digits"))
    whole["teacher"] = {**whole["teacher"], "training": {**whole["teacher"]["training"], "epochs": 1}}
    parsed = params.parse({**whole, **blocks})
    return Run("synthesis", parsed, Plain("synthesis"), device=torch.device("cpu"), workers=None)


def test_batches_are_shards_that_give_the_same_artifact(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = run_of(synthesis=EDC)
    images_stage(run)
    for name in run.params.teacher.networks:
        teacher_stage(run, name)
    source = store.open_artifact(Path("data/images"), "images")
    train = store.table_of(source, "train")
    rows = np.concatenate([np.flatnonzero(train.labels == label)[:2] for label in range(10)])
    with run.staging("data/selection", {}, Inputs({"images": source})) as staging:
        chosen = Selection(train.ids[rows], train.labels[rows], np.zeros(20), "random")
        staging.publish("selection", store.save_selection(staging.root, chosen))
    synthesis_stage(run)
    first = store.open_artifact(Path("data/synthesis"), "synthesis")
    sent: list[tuple[bool, str, Sequence[Any]]] = []
    here = Run.map

    def elsewhere(self: Run, work: Callable[[Any], Any], items: Sequence[Any], *rest: Any, **options: Any) -> list[Any]:
        sent.append((is_shard(work), options["progress"], items))

        def fresh(item: Any) -> Any:
            shards.work_of.forget()
            return work(item)

        return here(self, fresh if is_shard(work) else work, items, *rest, **options)

    monkeypatch.setattr(Run, "map", elsewhere)
    synthesis_stage(run)
    assert sent == [(False, "synthesise", ["edc"]), (True, "batches", [0, 1, 2])]
    assert store.open_artifact(Path("data/synthesis"), "synthesis").digest == first.digest
