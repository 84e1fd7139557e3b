"""Synthesis: refine the picked images. Each method has one file and one line in `METHODS`.

A method is a function `(start, context, seed, progress, **options) -> ImageSet`. It starts from the selection, so the
coreset is a baseline for every synthesis. Methods that start from noise ignore the pixels of the selection, but keep
its labels and ids.

* `none`                          the selection itself
* `rded`                          the most convincing crops of real images, tiled (`mosaics.py`); nothing is optimised
* `sre2l`, `cda`, `gvbsm`, `edc`  statistical matching by one engine (`recovery.py`), batch by batch (`batches.py`), on
  workers too (`shards.py`): observers of layers' inputs (`observers.py`), statistics of the real images
  (`statistics.py`), the loss (`matching.py`, `regularisers.py`), weak augmentation (`weak_augmentation.py`), what to
  start from (`initial.py`); `hessian.py` measures how their loss curves
* `dc`, `dsa`, `idc`, `dream`     gradient matching; `dm` is feature matching, and `mdc` adds every smaller size to
  any of them. All have one engine (`gradients/`). They need no teacher, and students learn from hard labels
* `mtt`                          matching of training trajectories (`trajectories/`); no teacher, hard labels
* `d4m`, `mgd3`                  prototypes of classes in the latent space of a diffusion model (`diffusion/`), denoised
  or sampled towards; `generate` samples from such a model without real images
"""

from __future__ import annotations

from collections.abc import Callable

from dcpipe.config.registry import Registry
from dcpipe.synthesis.base import Progress, SynthesisContext
from dcpipe.types import ImageSet

__all__ = ["METHODS", "Progress", "SynthesisContext"]

METHODS: Registry[Callable[..., ImageSet]] = Registry(
    "synthesis method",
    "dcpipe.synthesis",
    {
        "none": "dcpipe.synthesis.none:none",
        "rded": "dcpipe.synthesis.rded:rded",
        "sre2l": "dcpipe.synthesis.sre2l:sre2l",
        "cda": "dcpipe.synthesis.cda:cda",
        "gvbsm": "dcpipe.synthesis.gvbsm:gvbsm",
        "edc": "dcpipe.synthesis.edc:edc",
        "edc-code": "dcpipe.synthesis.edc_code:edc_code",
        "dc": "dcpipe.synthesis.dc:dc",
        "dsa": "dcpipe.synthesis.dsa:dsa",
        "dm": "dcpipe.synthesis.dm:dm",
        "idc": "dcpipe.synthesis.idc:idc",
        "dream": "dcpipe.synthesis.dream:dream",
        "mdc": "dcpipe.synthesis.mdc:mdc",
        "mtt": "dcpipe.synthesis.mtt:mtt",
        "d4m": "dcpipe.synthesis.d4m:d4m",
        "mgd3": "dcpipe.synthesis.mgd3:mgd3",
        "generate": "dcpipe.synthesis.generate:generate",
    },
    ("start", "context", "seed", "progress"),
)
