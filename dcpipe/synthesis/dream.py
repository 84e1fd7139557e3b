"""DREAM: IDC with representative real images (Liu et al., ICCV 2023).

A random batch represents its class poorly, so gradients fluctuate. Here the features of each class, computed by the
current network, are clustered into `real_batch` clusters (k-means) every `cluster` inner steps. The images nearest to
the centroids are the real batch until the next clustering (`representatives.py`). Images are initialised in the same
way, with the images nearest to the centroids of the features of a random network. Everything else is as in IDC; the
paper needs an eighth of IDC's outer loops.

Cost in addition to IDC's: every `cluster` steps, one forward pass over all real images and one k-means per class.
"""

from __future__ import annotations

from dcpipe.config.options import variant
from dcpipe.synthesis.idc import idc

dream = variant("synthesis method 'dream'", idc, real_batch=128, cluster=10)
