"""View k of image i: a pure function of (seed, k, i), drawn in NumPy and applied to whole batches on the device.

Because a view is a function of its name, a stored label costs no bytes of crop coordinates, does not depend
on batch size or order, and teacher and student see the same pixels.

* `draw.py`            parameters of views: crop, flip, mix, and what happens before and after
* `crop.py`            those parameters applied to pixels
* `replay.py`          the views of a set of images, drawn or kept
* `randaugment.py`     RandAugment and shuffled patches, before the crop
* `siamese.py`         differentiable augmentation (DSA, IDC), after the crop
* `multiformation.py`  stored images that are grids of smaller ones
"""

from __future__ import annotations

from dcpipe.views.crop import crop, normalise, paste, take
from dcpipe.views.draw import Views, draw
from dcpipe.views.replay import Kept, Seeded, ViewSet, look, views_of

__all__ = ["Kept", "Seeded", "ViewSet", "Views", "crop", "draw", "look", "normalise", "paste", "take", "views_of"]
