"""The stage synthesis: batches and steps of recovery against the engine, crops of mosaics by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from planned import DIGITS, IMAGENET, of_kind, setting
from scenes import World, start_of

from dcpipe import synthesis as methods
from dcpipe.planning import recovery
from dcpipe.planning.counts import Counts
from dcpipe.planning.diffusion import METHODS as DIFFUSION
from dcpipe.synthesis import recovery as engine


def test_edc_on_imagenet_by_hand() -> None:
    stage = recovery.synthesis(setting("imagenet-1k-edc-ipc10", IMAGENET))
    recovered = of_kind(stage.work, "recover")
    assert stage.steps == 2000 * 125  # batches of 80
    assert sum(work.amount for work in recovered) == 2000 * 10_000
    assert {work.units for work in recovered} == {125} and len(recovered) == 5
    whole = [work.amount for work in of_kind(stage.work, "forward")]
    # Statistics and crops (300 candidates x 5) by five networks, and once more in every step for the flatness.
    assert sum(whole) == 5 * (1_268_167 + 1000 * 300 * 5) + 2000 * 10_000
    assert stage.n_bytes == pytest.approx(1e9, rel=0.01)


@pytest.mark.parametrize("method", ["sre2l", "cda", "gvbsm", "edc", "edc-code"])
def test_steps_and_images_are_those_that_the_engine_takes(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run of the method itself, with three classes of three images in batches of two."""
    seen: list[int] = []
    terms = engine.Engine.terms

    def counted(self: Any, batch: Any, *others: Any) -> Any:
        seen.append(len(batch.pixels))
        return terms(self, batch, *others)

    monkeypatch.setattr(engine.Engine, "terms", counted)
    world = World(tmp_path, {"res": "resnet10-w2", "wide": "resnet10-w3"})
    options = {"iterations": 2, "batch_size": 2}
    methods.METHODS[method](start_of([0, 1, 2] * 3), world.context, 0, world.progress, **options)

    networks = {name: {"network": "resnet10-w16"} for name in ("convnet", "resnet")}
    own = setting(
        "digits-edc",
        Counts(36, 0, 6, 3, 300, "a test"),
        selection={"method": "random", "ipc": 3},
        synthesis={"method": method, "options": options},
        teacher={**setting("digits", DIGITS).params.teacher.model_dump(mode="json"), "networks": networks},
    )
    stage = recovery.synthesis(own)
    assert (stage.steps, sum(work.amount for work in of_kind(stage.work, "recover"))) == (len(seen), sum(seen))
    assert of_kind(stage.work, "recover")[0].units == len(seen) // 2
    assert world.passes == bool(engine.MEASURES[method])


def test_nothing_to_do_is_reading_and_writing() -> None:
    stage = recovery.synthesis(setting("digits", DIGITS))
    assert stage.forwards == stage.steps == 0 and not stage.spread
    assert [of_kind(stage.work, kind)[0].amount for kind in ("decode", "encode")] == [100, 100]


def test_mosaics_score_the_crops_of_all_candidates_there_are() -> None:
    own = setting("digits", DIGITS, synthesis={"method": "rded", "options": {"candidates": 50, "crops": 3}})
    assert recovery.synthesis(own).forwards == 2 * 10 * 50 * 3
    all_of_them = setting("digits", DIGITS, synthesis={"method": "rded", "options": {}})
    assert recovery.synthesis(all_of_them).forwards == 2 * 10 * 130 * 5


def test_the_work_of_every_method_of_dcpipe_is_known() -> None:
    assert {*methods.METHODS.builtin} == {"none", "rded", "mtt", *engine.MEASURES, *recovery.MATCHING, *DIFFUSION}


def test_a_method_of_another_package_is_left_out_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def other(start: Any, context: Any, seed: int, progress: Any) -> Any:
        return start

    monkeypatch.setitem(methods.METHODS, "other", other)
    stage = recovery.synthesis(setting("digits", DIGITS, synthesis={"method": "other"}))
    assert "other" in stage.omitted and stage.n_bytes > 0


def test_batches_are_the_engines() -> None:
    """A method by rounds never mixes images of one class in a batch."""
    labels = np.tile(np.arange(5), 3)
    start = start_of([0, 1, 2] * 3)
    for order, pieces in (("rounds", 3 * 2), ("classes", 5)):
        choices = engine.Recovery(iterations=1, lr=1.0, batch_size=2, order=order)  # type: ignore[arg-type]
        assert len(engine.batches_of(start, choices)) == pieces
    assert len(labels) == 15
