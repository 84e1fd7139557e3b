"""Planning: what each stage of params.yaml will take, before anything runs.

Quantities are counted, as pure functions of the parameters and of the numbers of images and classes. Hours are these
quantities times costs, which are measured on this machine or stored for another one. Nothing here runs a stage, writes
an artifact or keeps anything.

* `work.py`         what a stage does and leaves on disk, in numbers
* `counts.py`       how many images and classes there are
* `figures.py`      operations, weights and outputs of a network, from its shapes alone
* `stages.py`       the stages, from `images` to `release`
* `recovery.py`     `synthesis` by recovery and by mosaics; `gradients.py` by matching gradients
* `trajectories.py`  by matching trajectories; `diffusion.py` by a diffusion model
* `lineup.py`       the students of the evaluation
* `costs.py`        seconds of each kind of work, from stored figures (`devices.yaml`)
* `calibration.py`  the same, measured here in half a minute
* `machine.py`      what the machine has, and what will not fit
* `forecast.py`     hours for several numbers of devices, and the bottleneck
* `storage.py`      bytes of soft labels by images per class and ratio
* `table.py`        the table, and the same as JSON
"""

from __future__ import annotations

from dcpipe.planning.forecast import Forecast, forecast

__all__ = ["Forecast", "forecast"]
