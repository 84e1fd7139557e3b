"""CDA: SRe2L with a curriculum of crops (Yin & Shen, "Dataset distillation in large data era", 2023).

The smallest area of a crop falls from the whole image to `crop_min` along a half cosine over the first `curriculum` of
the run (a share), so that images get their outlines before their details. Everything else is as in SRe2L. The official
settings for Tiny-ImageNet are lr 0.4 and weight 0.05.
"""

from __future__ import annotations

from dcpipe.config.options import variant
from dcpipe.synthesis.sre2l import sre2l

cda = variant("synthesis method 'cda'", sre2l, curriculum=1.0)
