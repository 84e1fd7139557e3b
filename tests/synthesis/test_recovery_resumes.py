"""Recovery that is killed and started again: the same images, a checkpoint per batch, and nothing done twice."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from scenes import EVERYTHING, LABELS, World, made, start_of, two_worlds

from dcpipe.synthesis import recovery
from dcpipe.synthesis.batches import recover
from dcpipe.synthesis.checkpoints import RecoveryNotes, checkpoint_of
from dcpipe.synthesis.recovery import Recovery
from dcpipe.synthesis.weak_augmentation import WeakAugmentation

STILL = WeakAugmentation(flip=0.0)


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Checkpoints and reports after every step."""
    monkeypatch.setenv("DCPIPE_CHECKPOINT_SECONDS", "0")
    monkeypatch.setattr(recovery, "REPORT_SECONDS", -1.0)


class KilledError(Exception):
    pass


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize("every", [1, 2, 3])
def test_a_run_killed_repeatedly_gives_the_same_images(tmp_path: Path, every: int) -> None:
    """KilledError in a report, so this step is not in the checkpoint: the run resumes from the step before."""
    whole, pieces = two_worlds(tmp_path)
    expected = made(whole)
    kills = 0

    def interrupt(count: int, note: str) -> None:
        nonlocal kills
        if note.startswith("batch") and count % (every + 1) == 0:
            kills += 1
            raise KilledError

    pieces.interrupt = interrupt
    result = None
    while result is None:
        try:
            result = made(pieces)
        except KilledError:
            assert kills < 30, "it does not get on"
    assert kills >= 2
    assert result.images.tobytes() == expected.images.tobytes()
    assert pieces.recorded == whole.recorded and len(whole.recorded["loss"]) == 2 * EVERYTHING.iterations


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize("step", [1, 4, 5, 8])
def test_a_kill_while_the_checkpoint_is_written_leaves_the_old_one(
    tmp_path: Path, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, pieces = two_worlds(tmp_path)
    expected = made(whole)
    count, save = 0, torch.save

    def torn(value: Any, path: Path) -> None:
        nonlocal count
        count += 1
        if count == step:
            path.write_bytes(b"half")
            raise KilledError
        save(value, path)

    monkeypatch.setattr(torch, "save", torn)
    with pytest.raises(KilledError):
        made(pieces)
    assert made(pieces).images.tobytes() == expected.images.tobytes()
    assert not list((tmp_path / "other" / "notes").glob("*.partial"))


@pytest.mark.usefixtures("always")
def test_a_run_resumes_from_its_checkpoint(tmp_path: Path) -> None:
    world = World(tmp_path)

    def interrupt(count: int, note: str) -> None:
        if note.startswith("batch 2 of 2") and world.told[-1][0] == 8:
            world.interrupt = lambda *_: None
            raise KilledError

    world.interrupt = interrupt
    with pytest.raises(KilledError):
        made(world)
    assert names_in(tmp_path / "notes") == ["recovery-00000.pt", checkpoint_of(1)]
    assert torch.load(tmp_path / "notes" / checkpoint_of(1), weights_only=True)["state"]["step"] == 2
    world.told.clear()
    made(world)
    assert [done for done, _, note in world.told if note.startswith("batch")] == [8, 9, 10]
    assert {total for _, total, _ in world.told} == {10}
    assert names_in(tmp_path / "notes") == ["recovery-00000.pt", "recovery-00001.pt"]


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.usefixtures("always")
def test_a_run_killed_between_batches_goes_on_with_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, pieces = two_worlds(tmp_path)
    expected = made(whole)
    finish = RecoveryNotes.finish

    def killed(self: RecoveryNotes, number: int, images: Any, terms: Any) -> None:
        finish(self, number, images, terms)
        monkeypatch.undo()
        raise KilledError

    monkeypatch.setattr(RecoveryNotes, "finish", killed)
    with pytest.raises(KilledError):
        made(pieces)
    monkeypatch.setattr(recovery, "REPORT_SECONDS", -1.0)
    pieces.told.clear()
    assert made(pieces).images.tobytes() == expected.images.tobytes()
    assert [done for done, _, _ in pieces.told] == [6, 7, 8, 9, 10]


def killed_in(world: World, step: int, choices: Recovery = EVERYTHING) -> None:
    """A run that is killed when step `step` of all batches is reported."""

    def interrupt(count: int, note: str) -> None:
        if note.startswith("batch") and world.told[-1][0] == step:
            world.interrupt = lambda *_: None
            raise KilledError

    world.interrupt = interrupt
    with pytest.raises(KilledError):
        made(world, choices)


@pytest.mark.usefixtures("always")
def test_finished_batches_are_written_once_and_a_checkpoint_has_one_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []
    save = torch.save

    def noted(value: Any, path: Path) -> None:
        written.append(path.name.split(".pt")[0])
        save(value, path)

    monkeypatch.setattr(torch, "save", noted)
    world = World(tmp_path)
    killed_in(world, 10, replace(EVERYTHING, batch_size=3))
    assert [written.count(f"recovery-0000{batch}") for batch in range(3)] == [1, 0, 0]
    assert [written.count(f"recovery-0000{batch}-open") for batch in range(3)] == [5, 4, 0]
    saved = torch.load(tmp_path / "notes" / checkpoint_of(1), weights_only=True)
    assert saved.keys() == {"run", "state"} and saved["state"]["pixels"].shape == (3, 3, 16, 16)
    images = torch.load(tmp_path / "notes" / "recovery-00000.pt", weights_only=True)["images"]
    assert images.dtype == torch.uint8 and images.shape == (3, 16, 16, 3)


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize("name", ["seed", "choices", "images", "teachers", "old format", "no finished batch"])
def test_a_checkpoint_of_another_run_is_ignored(tmp_path: Path, name: str) -> None:
    whole, world = two_worlds(tmp_path)
    choices, seed, start = EVERYTHING, 3, start_of(LABELS)
    notes = tmp_path / "other" / "notes"
    killed_in(world, 8)
    if name == "seed":
        seed = 4
    elif name == "choices":
        choices = replace(EVERYTHING, lr=0.04)
    elif name == "images":
        start = start_of(LABELS, 2)
    elif name == "teachers":
        for each in (whole, world):
            each.teachers["res"] = replace(each.teachers["res"], mean=(0.1, 0.3, 0.2))
        for path in (tmp_path / "other" / "shared").iterdir():
            path.unlink()  # statistics belong to teachers, too; the flow gives other teachers another folder
    elif name == "old format":
        saved = torch.load(notes / checkpoint_of(1), weights_only=True)
        torch.save({"pixels": torch.zeros(4, 3, 16, 16), "state": saved["state"]}, notes / checkpoint_of(1))
    else:
        (notes / "recovery-00000.pt").unlink()
    expected = recover(start, whole.context, seed, whole.progress, choices)
    world.told.clear()
    result = recover(start, world.context, seed, world.progress, choices)
    steps = {"old format": [6, 7, 8, 9, 10], "no finished batch": [1, 2, 3, 4, 5, 8, 9, 10]}
    assert [done for done, _, note in world.told if note.startswith("batch")] == steps.get(name, list(range(1, 11)))
    assert result.images.tobytes() == expected.images.tobytes()


@pytest.mark.usefixtures("always")
def test_mosaics_are_computed_once(tmp_path: Path) -> None:
    whole, pieces = two_worlds(tmp_path)
    choices = replace(EVERYTHING, initial="rded", candidates=8)
    expected = made(whole, choices)
    killed_in(pieces, 8, choices)
    passes = pieces.passes
    assert made(pieces, choices).images.tobytes() == expected.images.tobytes()
    assert passes == pieces.passes == 2, "one for statistics and one for mosaics"
