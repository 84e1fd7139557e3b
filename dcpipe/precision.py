"""The number format in which networks run.

* `auto`: bfloat16 where a GPU runs them, float32 elsewhere. Faster, and the default; no paper says so.
* `float32`: everywhere, as in the official code of EDC, RDED, IDC and MDC. (PyTorch lets convolutions on a GPU use TF32
  then, in that code as well.)
* `bfloat16`: everywhere, so that a processor shows what a GPU does.

In bfloat16, only what PyTorch's autocast allows is computed in it: weights, their gradients and the optimizer stay in
float32. It has 8 significant bits. On small nets it changed the gradient of a step of recovery by 2 to 15 % (cosine
0.988 to 0.9998). The labels of teachers are always computed in float32 (`networks.mean_logits`).
"""

from __future__ import annotations

import torch

from dcpipe.types import Precision


def autocast(precision: Precision, device: torch.device) -> torch.autocast:
    """The context in which networks run on this device."""
    half = precision == "bfloat16" or (precision == "auto" and device.type == "cuda")
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=half)
