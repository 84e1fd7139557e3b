"""DSA: DC under augmentation that real and condensed images share (Zhao & Bilen, ICML 2021).

As `dc`, but both sides of the match see one random operation out of `strategy` with the same draw, so that the images
are good under augmentation as well; the network learns from augmented condensed images, and these begin as real ones.
"""

from __future__ import annotations

from dcpipe.config.options import variant
from dcpipe.synthesis.dc import dc

dsa = variant("synthesis method 'dsa'", dc, strategy="dsa:color_crop_cutout_flip_scale_rotate", initial="start")
