"""`dcpipe plan`: what every stage of params.yaml will take, before anything runs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from dcpipe.config.params import Params, load_blocks, parse
from dcpipe.planning import Forecast, forecast
from dcpipe.planning.calibration import calibrate
from dcpipe.planning.costs import Costs, Stored, device
from dcpipe.planning.counts import Given, count
from dcpipe.planning.figures import figures
from dcpipe.planning.forecast import stages_of
from dcpipe.planning.machine import Machine, this_machine
from dcpipe.planning.stages import Setting
from dcpipe.training import pick_device
from dcpipe.types import DataError


def plan(path: Path, given: Given, devices: Sequence[int], stored: str | None) -> Forecast:
    """The forecast of a parameter file for several numbers of devices: with the `stored` figures of one, or with costs
    that are measured here. Raises `DataError` for parameters that are wrong, and if images cannot be counted."""
    params = parse(load_blocks(path).model_dump(mode="json"), str(path))
    known = None if stored is None else device(stored)  # a wrong name is refused before anything is counted
    counts = count(params.images, path.parent / "data" / "images", given)
    setting = Setting(params, counts)
    stages = stages_of(setting)
    costs: Costs
    if known is not None:
        costs = Stored(known, figures, counts.classes)
        machine = Machine(None, known.host_memory, known.device_memory)
    else:
        here = pick_device(os.environ.get("DCPIPE_DEVICE", "auto"))
        machine = this_machine(path.absolute().parent, here)
        costs = calibrate(params, counts.classes, [work for stage in stages for work in stage.work], here)
    return forecast(setting, stages, costs, devices, machine)


def counted(path: Path, given: Given) -> tuple[Params, int]:
    """The parameters of a file, and the number of classes. Raises `DataError` as `plan` does."""
    params = parse(load_blocks(path).model_dump(mode="json"), str(path))
    return params, count(params.images, path.parent / "data" / "images", given).classes


def numbers(text: str) -> list[int]:
    """The numbers of devices in `--devices 1,8`."""
    try:
        return [int(part) for part in text.split(",")]
    except ValueError as error:
        raise DataError(f"--devices is {text!r}; give numbers, as in --devices 1,8") from error
