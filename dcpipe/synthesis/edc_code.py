"""EDC as its official code runs it, where that differs from the paper (see `edc.py`).

One statistic of the batch is compared with the mean of those of its classes; the variance of a class is the mean of the
variances of its images, while the global one is that of all images; mean and variance of class patches are exchanged;
the running average of the statistics of a batch begins at zero; and there is no flatness term (if there is one, its
divergence is that of the code). Networks run in float32, on a GPU too. On CIFAR-10, where an observer is measured 9
times, this is the objective behind the published numbers: at first it pushes variances up.
"""

from __future__ import annotations

from dcpipe.config.options import variant
from dcpipe.synthesis.edc import edc

edc_code = variant(
    "synthesis method 'edc-code'",
    edc,
    classes="mixture",
    variance="within",
    swapped=True,
    average="zero",
    flat=0.0,
    direction="code",
    precision="float32",
)
