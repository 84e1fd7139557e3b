"""What students train from: pairs of an image's view and its soft label.

* `dataset.py`  `CondensedDataset`, a map-style torch dataset
* `loader.py`   `CondensedLoader`, batches that never leave the device
* `targets.py`  where the soft labels of views come from
"""

from __future__ import annotations

from dcpipe.dataset.dataset import CondensedDataset
from dcpipe.dataset.loader import CondensedLoader

__all__ = ["CondensedDataset", "CondensedLoader"]
