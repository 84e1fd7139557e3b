"""DSA: DC under augmentation that real and condensed images share (Zhao & Bilen, ICML 2021).

As `dc`, but real and condensed images are augmented by the same random operation of `strategy` with the same
parameters, so that the images are also good under augmentation. The network learns from augmented condensed images, and
the images start as real ones.
"""

from __future__ import annotations

from dcpipe.config.options import variant
from dcpipe.synthesis.dc import dc

dsa = variant("synthesis method 'dsa'", dc, strategy="dsa:color_crop_cutout_flip_scale_rotate", initial="start")
