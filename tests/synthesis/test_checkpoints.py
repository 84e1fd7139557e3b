"""Notes of a recovery: what was saved comes back, unless it belongs to another run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scenes import start_of
from slow_observers import teacher_of

from dcpipe.synthesis.checkpoints import CHECKPOINT, RecoveryNotes, fingerprint

STATE = {"step": 3, "pixels": torch.arange(4.0)}
FIRST, SECOND = np.full((2, 4, 4, 3), 7, dtype=np.uint8), np.full((1, 4, 4, 3), 9, dtype=np.uint8)


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    notes = RecoveryNotes(tmp_path, "run")
    assert notes.load() is None
    notes.save(1, STATE, [(0, FIRST)])
    notes.save(2, STATE, [(1, SECOND)])
    found = notes.load()
    assert found is not None and found.number == 2
    assert found.state["step"] == 3 and torch.equal(found.state["pixels"], STATE["pixels"])
    assert [batch.tolist() for batch in found.finished] == [FIRST.tolist(), SECOND.tolist()]


def test_finished_batches_are_written_before_the_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kill between the two leaves a batch that no checkpoint counts, never a checkpoint that lacks one."""
    notes, save = RecoveryNotes(tmp_path, "run"), torch.save
    notes.save(0, STATE, [])

    def killed(value: Any, path: Path) -> None:
        if path.name.startswith(CHECKPOINT):
            raise KeyboardInterrupt
        save(value, path)

    monkeypatch.setattr(torch, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        notes.save(1, STATE, [(0, FIRST)])
    found = notes.load()
    assert found is not None and (found.number, found.finished) == (0, [])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["recovery-00000.pt", CHECKPOINT]


def test_notes_of_another_run_are_ignored(tmp_path: Path) -> None:
    RecoveryNotes(tmp_path, "old").save(1, STATE, [(0, FIRST)])
    notes = RecoveryNotes(tmp_path, "new")
    assert notes.load() is None
    notes.save(1, STATE, [])  # the finished batch belongs to the old run
    assert notes.load() is None
    torch.save({"pixels": torch.zeros(3), "batch": 0, "state": None}, tmp_path / CHECKPOINT)
    assert notes.load() is None


def test_the_start_is_made_once_for_each_run(tmp_path: Path) -> None:
    made: list[int] = []

    def make() -> Any:
        made.append(1)
        return start_of([0, 1, 2])

    notes = RecoveryNotes(tmp_path, "run")
    assert np.array_equal(notes.once(make), start_of([0, 1, 2]).images)
    assert np.array_equal(notes.once(make), start_of([0, 1, 2]).images) and len(made) == 1
    RecoveryNotes(tmp_path, "other").once(make)
    assert len(made) == 2


def test_everything_that_a_recovery_depends_on_is_in_its_fingerprint() -> None:
    start, labels, teacher = start_of([0, 1, 2]), np.arange(6) % 3, teacher_of("resnet10-w2", 16)
    changed = start.images.copy()
    changed[0, 0, 0, 0] ^= 1
    weights = dict(teacher.weights)
    name = next(iter(weights))
    weights[name] = weights[name] + 1
    whole = [
        fingerprint(("edc", 1), start, labels, [teacher]),
        fingerprint(("edc", 2), start, labels, [teacher]),
        fingerprint(("edc", 1), replace(start, images=changed), labels, [teacher]),
        fingerprint(("edc", 1), replace(start, ids=start.ids + 1), labels, [teacher]),
        fingerprint(("edc", 1), start, labels[::-1], [teacher]),
        fingerprint(("edc", 1), start, labels, [replace(teacher, weights=weights)]),
        fingerprint(("edc", 1), start, labels, [replace(teacher, mean=(0.1, 0.1, 0.1))]),
        fingerprint(("edc", 1), start, labels, [teacher, teacher]),
    ]
    assert len(set(whole)) == len(whole)
    assert whole[0] == fingerprint(("edc", 1), start_of([0, 1, 2]), labels, [teacher_of("resnet10-w2", 16)])
