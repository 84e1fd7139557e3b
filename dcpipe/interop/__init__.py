"""Import what other projects made: stored soft labels, and condensed images.

* `importing.py`         soft labels in the format of SRe2L, `epoch_*/batch_*.tar`, become a release
* `records.py`           reads one `batch_*.tar` without running any code in it
* `layouts.py`           finds out which images a batch shows; one function per layout
* `scan.py`              reads all batches once: the image of each label, and the crop, flip and mix of its view
* `importing_images.py`  condensed images become a release
* `sets/`                the formats of such images, one file each
* `pixels.py`            undoes normalisation and rounds to bytes
* `labelled.py`          labels with their names, renumbered together
* `class_names.py`       class names in the order of labels
* `class_order.py`       checks that order by a teacher
* `tensors.py`, `pictures.py`, `releases.py`: what both kinds of imports share
"""

from dcpipe.interop.importing import Imported, import_labels
from dcpipe.interop.importing_images import ImportedImages, import_images
from dcpipe.interop.layouts import LAYOUTS

__all__ = ["LAYOUTS", "Imported", "ImportedImages", "import_images", "import_labels"]
