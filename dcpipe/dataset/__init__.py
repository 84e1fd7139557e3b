"""The data that students train on: pairs of a view of an image and its soft label.

* `dataset.py`  `CondensedDataset`, a map-style torch dataset
* `loader.py`   `CondensedLoader`, whose batches never leave the device
* `decoded.py`  labels and views of a pack as dense arrays, for other code
* `huggingface.py`  tables in the convention of Hugging Face
* `repeats.py`  the warning when `set_epoch` was forgotten
* `targets.py`  the sources of soft labels: a label pack, the teachers online, or the hard labels
"""

from __future__ import annotations

from dcpipe.dataset.dataset import CondensedDataset
from dcpipe.dataset.loader import CondensedLoader

__all__ = ["CondensedDataset", "CondensedLoader"]
