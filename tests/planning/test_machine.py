"""What a machine has, and the sentences about what will not fit."""

from __future__ import annotations

from pathlib import Path

import torch

from dcpipe.planning.machine import Machine, peaks, this_machine, unfit
from dcpipe.planning.work import Remedy, Stage

STAGES = (
    Stage("images", (), 100, 1, host=10, scratch=50, remedy=Remedy(disk="images.size")),
    Stage("features", (), 30, 1, host=20, device=70, remedy=Remedy(device="features.batch_size")),
    Stage("evaluation", (), 1, 1, host=60, device=50, scratch=200, remedy=Remedy("a.disk", "a.host", "a.device")),
)


def test_peaks_are_all_outputs_so_far_and_the_scratch_of_a_stage() -> None:
    assert peaks(STAGES) == [150, 130, 331]


def test_what_fits_is_not_mentioned() -> None:
    assert list(unfit(STAGES, Machine(331, 60, 70))) == []
    assert list(unfit(STAGES, Machine(None, 90, None))) == [
        "evaluation needs about 110 B of main memory, but there are 90 B; change a.host"
    ]
    assert list(unfit(STAGES, Machine(331, 110, None))) == []


def test_what_does_not_fit_is_named_with_the_key_to_change() -> None:
    assert list(unfit(STAGES, Machine(330, 59, 69))) == [
        "evaluation needs 331 B on disk, but 330 B are free; change a.disk",
        "features needs about 70 B of the memory of a device, but it has 69 B; change features.batch_size",
        "evaluation needs about 60 B of main memory, but there are 59 B; change a.host",
    ]
    assert next(unfit(STAGES, Machine(140, 60, 70))).startswith("images needs 150 B on disk"), "the first that fails"


def test_this_machine_counts_what_data_takes_as_free(tmp_path: Path) -> None:
    before = this_machine(tmp_path, torch.device("cpu"))
    assert before.disk is not None and before.disk > 0 and before.host > 2**28 and before.device is None
    (tmp_path / "data").mkdir()
    with (tmp_path / "data" / "file").open("wb") as stream:
        stream.truncate(2**42)  # it has no blocks, so nothing less is free
    after = this_machine(tmp_path, torch.device("cpu"))
    assert after.disk is not None and after.disk - before.disk > 2**41
