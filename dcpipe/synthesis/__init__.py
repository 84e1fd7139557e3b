"""Synthesis: refine the picked images. One file a method, one line in `METHODS`.

A method is a function `(start, context, seed, progress, **options) -> ImageSet`. It starts from the selection
(methods that start from noise ignore its pixels and keep its labels and ids), so every synthesis has its
coreset as a baseline.

* `none`                          the selection itself
* `rded`                          the most convincing crops of real images, tiled (`mosaics.py`); nothing is optimised
* `sre2l`, `cda`, `gvbsm`, `edc`  statistical matching, all by one engine (`recovery.py`): observers with watched layers
  (`observers.py`), statistics of the real images (`statistics.py`), the loss (`matching.py`, `regularisers.py`), weak
  augmentation (`weak_augmentation.py`), what to start from (`initial.py`)
* `dc`, `dsa`, `idc`, `dream`      gradient matching, `dm` feature matching, and on top of any of them `mdc`, every
  smaller size as well, all by one engine (`gradients/`); they need no teacher, and students learn from hard labels
"""

from __future__ import annotations

from collections.abc import Callable

from dcpipe.synthesis.base import Progress, SynthesisContext
from dcpipe.synthesis.cda import cda
from dcpipe.synthesis.dc import dc
from dcpipe.synthesis.dm import dm
from dcpipe.synthesis.dream import dream
from dcpipe.synthesis.dsa import dsa
from dcpipe.synthesis.edc import edc
from dcpipe.synthesis.gvbsm import gvbsm
from dcpipe.synthesis.idc import idc
from dcpipe.synthesis.mdc import mdc
from dcpipe.synthesis.none import none
from dcpipe.synthesis.rded import rded
from dcpipe.synthesis.sre2l import sre2l
from dcpipe.types import ImageSet

__all__ = ["METHODS", "Progress", "SynthesisContext"]

METHODS: dict[str, Callable[..., ImageSet]] = {
    "none": none,
    "rded": rded,
    "sre2l": sre2l,
    "cda": cda,
    "gvbsm": gvbsm,
    "edc": edc,
    "dc": dc,
    "dsa": dsa,
    "dm": dm,
    "idc": idc,
    "dream": dream,
    "mdc": mdc,
}
