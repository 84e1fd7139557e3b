"""Import the soft labels of other programs: stores in the format of SRe2L, `epoch_*/batch_*.tar`, become a release.

* `records.py`    reads one `batch_*.tar` without running any code in it
* `layouts.py`    finds out which images a batch shows; one function per layout
* `scan.py`       reads all batches once: the image of each label, and the crop, flip and mix of its view
* `importing.py`  writes the labels to a label store, a pack and a release
"""

from dcpipe.interop.importing import Imported, import_labels
from dcpipe.interop.layouts import LAYOUTS

__all__ = ["LAYOUTS", "Imported", "import_labels"]
