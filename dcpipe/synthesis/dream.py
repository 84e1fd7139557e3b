"""DREAM: IDC with representative real images (Liu et al., ICCV 2023).

A random batch of a class is a poor picture of it, so gradients swing. Here every `cluster` inner steps each class's
features, by the network as it stands, are clustered into `real_batch` clusters (k-means), and the images nearest to the
centroids are the real batch until the next time (`representatives.py`). Images begin the same way: with those nearest
to the centroids that a random network's features give. Everything else is IDC's; the paper needs an eighth of its
loops.

Cost beside IDC's: one look at all real images and a k-means of each class every `cluster` steps.
"""

from __future__ import annotations

from dcpipe.config.options import variant
from dcpipe.synthesis.idc import idc

dream = variant("synthesis method 'dream'", idc, real_batch=128, cluster=10)
