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

from dcpipe.synthesis.checkpoints import RecoveryNotes, checkpoint_of, fingerprint
from dcpipe.types import DataError

TERMS = torch.tensor([[1.0, 2.0], [0.5, 1.5]])  # of two steps
STATE = {"step": 3, "pixels": torch.arange(4.0)}
FIRST, SECOND = np.full((2, 4, 4, 3), 7, dtype=np.uint8), np.full((1, 4, 4, 3), 9, dtype=np.uint8)


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    notes = RecoveryNotes(tmp_path, "run")
    assert notes.load(1) is None and notes.finished(0) is None
    notes.save(1, STATE)
    notes.finish(0, FIRST, TERMS)
    found, images = notes.load(1), notes.finished(0)
    assert found is not None and found["step"] == 3 and torch.equal(found["pixels"], STATE["pixels"])
    assert images is not None and images.dtype == np.uint8 and np.array_equal(images, FIRST)
    assert notes.load(0) is None and notes.finished(1) is None


def test_a_finished_batch_has_no_checkpoint(tmp_path: Path) -> None:
    notes = RecoveryNotes(tmp_path, "run")
    notes.save(0, STATE)
    notes.save(12, STATE)
    notes.finish(12, FIRST, TERMS)
    notes.finish(2, SECOND, TERMS)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "recovery-00000-open.pt",
        "recovery-00002.pt",
        "recovery-00012.pt",
    ]
    assert notes.missing(14) == [0, 1, *range(3, 12), 13]


def test_a_batch_is_written_before_its_checkpoint_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kill between the two leaves a checkpoint that nobody needs, never a batch without both."""
    notes, save = RecoveryNotes(tmp_path, "run"), torch.save
    notes.save(0, STATE)

    def killed(value: Any, path: Path) -> None:
        save(value, path)
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        notes.finish(0, FIRST, TERMS)
    assert notes.missing(1) == [0] and notes.load(0) is not None
    assert [path.name for path in tmp_path.iterdir()] == [checkpoint_of(0)]


def test_a_finished_batch_that_is_replaced_while_it_is_read_stays_as_it_was(tmp_path: Path) -> None:
    """Images are mapped, not read; a second worker may write the same batch."""
    notes = RecoveryNotes(tmp_path, "run")
    notes.finish(0, FIRST, TERMS)
    images = notes.finished(0)
    notes.finish(0, FIRST + 1, TERMS)
    assert images is not None and np.array_equal(images, FIRST)


def test_notes_of_another_run_are_ignored(tmp_path: Path) -> None:
    old = RecoveryNotes(tmp_path, "old")
    old.save(1, STATE)
    old.finish(0, FIRST, TERMS)
    old.save_ids(np.arange(3))
    notes = RecoveryNotes(tmp_path, "new")
    assert notes.load(1) is None and notes.finished(0) is None and notes.missing(2) == [0, 1]
    with pytest.raises(
        DataError, match=r"recovery-ids.pt was removed while images were recovered; run the stage again"
    ):
        notes.ids()
    torch.save({"pixels": torch.zeros(3), "state": None}, tmp_path / checkpoint_of(1))
    assert notes.load(1) is None


def test_ids_come_back(tmp_path: Path) -> None:
    ids = 7 * np.arange(50_000)
    RecoveryNotes(tmp_path, "run").save_ids(ids)
    found = RecoveryNotes(tmp_path, "run").ids()
    assert found.dtype == np.int64 and np.array_equal(found, ids)


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
