"""All batches of a recovery: in any order and in any process they give the images of one run in one process."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scenes import EVERYTHING, LABELS, World, made, start_of
from stored_worlds import Sent, StoredWorld

from dcpipe.shards import is_shard
from dcpipe.synthesis import recovery, shards
from dcpipe.synthesis.batches import recover
from dcpipe.synthesis.recovery import Engine
from dcpipe.types import DataError

CHOICES = {
    "real": replace(EVERYTHING, batch_size=3),
    "noise": replace(EVERYTHING, batch_size=3, initial="noise", observers=["conv"]),
    "mosaics": replace(EVERYTHING, batch_size=3, initial="rded", candidates=8),
    "rounds": replace(EVERYTHING, batch_size=2, order="rounds"),
}


def world_of(folder: Path, **changes: Any) -> StoredWorld:
    folder.mkdir()
    return StoredWorld(folder, **changes)


def elsewhere(work: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
    """As on a worker that has opened nothing, the last item first."""
    results = []
    for item in reversed(items):
        shards.work_of.forget()
        results.append(work(item))
    return results


def in_processes(work: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
    threads = torch.get_num_threads()  # sums over several threads are rounded differently
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, context, torch.set_num_threads, (threads,)) as pool:
        return list(pool.map(work, items))


@pytest.mark.parametrize("name", CHOICES)
def test_workers_give_the_images_of_one_process(tmp_path: Path, name: str) -> None:
    alone, apart = world_of(tmp_path / "a", stored=False), world_of(tmp_path / "b", map_tasks=Sent(elsewhere))
    expected, found = alone.recovered(CHOICES[name]), apart.recovered(CHOICES[name])
    assert found.images.tobytes() == expected.images.tobytes()
    assert (found.ids.tolist(), found.labels.tolist()) == (expected.ids.tolist(), expected.labels.tolist())
    [work] = apart.map_tasks.works  # type: ignore[attr-defined]
    assert is_shard(work)
    assert apart.passes == alone.passes, "statistics and mosaics are made once, where batches are sent from"


def test_two_processes_give_the_images_of_one(tmp_path: Path) -> None:
    alone, apart = world_of(tmp_path / "a", stored=False), world_of(tmp_path / "b", map_tasks=Sent(in_processes))
    choices = replace(EVERYTHING, batch_size=2)
    expected, found = alone.recovered(choices), apart.recovered(choices)
    assert apart.map_tasks.items == [0, 1, 2, 3]  # type: ignore[attr-defined]
    assert found.images.tobytes() == expected.images.tobytes()
    assert not apart.told or all(note.startswith("statistics") for _, _, note in apart.told)


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 1, 0], [1]])
def test_a_batch_by_number_is_that_of_the_whole_run(tmp_path: Path, order: list[int]) -> None:
    whole = world_of(tmp_path / "a").recovered(CHOICES["real"])
    engine = world_of(tmp_path / "b").engine(CHOICES["real"])
    for number in order:
        first = engine.recover(number)
        assert np.array_equal(first, whole.images[engine.rows[number]])
        assert np.array_equal(first, engine.recover(number)), "read, not made again"


def test_a_batch_goes_on_where_another_worker_was_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second batch is killed in its third step; whoever takes it next goes on from the second one."""
    monkeypatch.setenv("DCPIPE_CHECKPOINT_SECONDS", "0")
    expected = world_of(tmp_path / "a").recovered(CHOICES["real"])
    steps: list[tuple[int, int]] = []
    terms = Engine.terms

    def noted(self: Engine, batch: Any, number: int, *rest: Any) -> Any:
        steps.append((number, batch.step))
        if steps.count((1, 2)) == 1 and steps[-1] == (1, 2):
            raise ConnectionError("the worker is gone")
        return terms(self, batch, number, *rest)

    monkeypatch.setattr(Engine, "terms", noted)
    world = world_of(tmp_path / "b", map_tasks=Sent(elsewhere))
    with pytest.raises(ConnectionError):
        world.recovered(CHOICES["real"])
    assert steps == [(2, step) for step in range(5)] + [(1, step) for step in range(3)]
    steps.clear()
    steps.append((1, 2))
    assert world.recovered(CHOICES["real"]).images.tobytes() == expected.images.tobytes()
    assert steps[1:] == [(1, step) for step in range(2, 5)] + [(0, step) for step in range(5)]
    assert world.map_tasks.items == [0, 1, 2, 0, 1], "a finished batch is not sent again"  # type: ignore[attr-defined]


def test_what_is_only_in_memory_stays_in_this_process(tmp_path: Path) -> None:
    for number, change in enumerate(("table", "teacher")):
        sent = Sent(lambda work, items: [work(item) for item in items])
        world = world_of(tmp_path / str(number), map_tasks=sent, stored=change != "table")
        if change == "teacher":
            world.teachers["conv"] = replace(world.teachers["conv"], origin=None)
        world.recovered()
        assert [is_shard(work) for work in sent.works] == [False]
        assert not list((world.folder / "notes").glob("recovery-ids*"))


def test_finished_sets_need_no_tasks(tmp_path: Path) -> None:
    world = world_of(tmp_path / "a", map_tasks=Sent(elsewhere))
    first = world.recovered()
    sent = Sent(elsewhere)
    world.map_tasks = sent
    assert world.recovered().images.tobytes() == first.images.tobytes() and not sent.works


def test_a_batch_that_is_gone_is_named(tmp_path: Path) -> None:
    world = world_of(tmp_path / "a", map_tasks=Sent(lambda work, items: [work(item) for item in items[:1]]))
    with pytest.raises(DataError, match=r"^synthesis: batch 1 is not in .*notes; run the stage again$"):
        world.recovered()


def test_a_batch_that_fails_leaves_nothing_open(tmp_path: Path) -> None:
    world = world_of(tmp_path / "a")
    with pytest.raises(DataError, match=r"^synthesis: pixels of batch 0 became NaN or infinite; lower lr \(0\.05\)$"):
        world.recovered(replace(EVERYTHING, weight=float("inf"), density=0.0))
    assert shards.work_of.kept is None


def test_pictures_on_the_way_show_batches_of_an_earlier_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path)
    whole = made(world)
    (tmp_path / "notes" / "recovery-00001.pt").unlink()
    monkeypatch.setattr(recovery, "REPORT_SECONDS", -1.0)
    shown: list[np.ndarray] = []

    def report(done: int, total: int, note: str, images: Any) -> None:
        shown.append(images().images.copy())

    recover(start_of(LABELS), world.context, 3, replace(world.progress, report=report), EVERYTHING)
    first, second = recovery.batches_of(start_of(LABELS), EVERYTHING)
    assert len(shown) == 5 and all(np.array_equal(images[first], whole.images[first]) for images in shown)
    assert np.array_equal(shown[-1][second], whole.images[second])
    assert not np.array_equal(shown[0][second], whole.images[second])
