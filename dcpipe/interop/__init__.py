"""Soft labels of other programs: SRe2L's kind of store, `epoch_*/batch_*.tar`, to a release of ours.

* `records.py`    one `batch_*.tar`, read without running anything it may hold
* `layouts.py`    which images a batch shows, one function a layout
* `scan.py`       all batches read once: whose view each label is, how it was cut, pasted and flipped
* `importing.py`  the labels to our store, to a pack, to a release
"""

from dcpipe.interop.importing import Imported, import_labels
from dcpipe.interop.layouts import LAYOUTS

__all__ = ["LAYOUTS", "Imported", "import_labels"]
