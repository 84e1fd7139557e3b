"""Views: the augmented crops of images that teachers label and students train on.

View k of image i is a pure function of (seed, k, i). Its parameters are drawn in NumPy and applied to whole batches on
the device. So a stored label needs no bytes for its crop and does not depend on batch size or order, and the teacher
and the student see the same pixels.

* `draw.py`            draws the parameters of views: crop, flip, CutMix, and what happens before and after the crop
* `boxes.py`           the box of CutMix, and how it becomes pixels
* `prepared.py`        the parameters in the form that pixels need, on the device
* `crop.py`            applies them to pixels
* `device.py`          brings arrays to a device without waiting for it
* `replay.py`          the views of a set of images, drawn from a policy or stored
* `randaugment.py`     RandAugment and shuffled patches, before the crop
* `siamese.py`         differentiable augmentation (DSA, IDC), after the crop
* `whitening.py`       ZCA whitening of whole images, before the crop
* `multiformation.py`  stored images that are grids of smaller ones
"""

from __future__ import annotations

from dcpipe.views.crop import crop, normalise, paste
from dcpipe.views.device import send, take
from dcpipe.views.draw import Views, draw
from dcpipe.views.replay import Placed, Seeded, Stored, ViewSet, render, views_of

__all__ = [
    "Placed",
    "Seeded",
    "Stored",
    "ViewSet",
    "Views",
    "crop",
    "draw",
    "normalise",
    "paste",
    "render",
    "send",
    "take",
    "views_of",
]
