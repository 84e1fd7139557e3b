"""dcpipe: condense an image-classification dataset, and train students on the result.

    dataset = dcpipe.load("digits-score@v1.0.0", repo="URL").dataset()
    loader = dcpipe.CondensedLoader(dataset, 64)  # or any torch DataLoader of the dataset
    for epoch in range(300):
        loader.set_epoch(epoch)
        for images, soft_labels in loader:
            ...

The methods also work on plain arrays:

    rows = dcpipe.select(vectors, labels, method="score", ipc=10)
    packed = dcpipe.compress(logits, codec="field", ratio=100)  # packed.n_bytes, packed.decode(), packed.save(path)

* `load`, `Release`, `CondensedDataset`, `CondensedLoader` read a release (`release/`, `dataset/`)
* `select`, `compress`, `load_labels` apply methods to arrays (`selection/front.py`, `compression/front.py`)
* the other names are the data types that stages read and write (`types/`); `__version__` is that of the package

Names are imported on first use, so that a stage that needs one module does not depend on all of them.
"""

from __future__ import annotations

import logging
from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dcpipe.compression.front import compress, load_labels
    from dcpipe.dataset import CondensedDataset, CondensedLoader
    from dcpipe.release import Release, load
    from dcpipe.selection.front import select
    from dcpipe.types import (
        DataError,
        Features,
        ImageSet,
        ImageTable,
        LabelPack,
        LabelShape,
        Score,
        Selection,
        SoftLabels,
        Teacher,
        ViewPolicy,
    )

logging.getLogger(__name__).addHandler(logging.NullHandler())  # who imports dcpipe decides what is shown

__all__ = [
    "CondensedDataset",
    "CondensedLoader",
    "DataError",
    "Features",
    "ImageSet",
    "ImageTable",
    "LabelPack",
    "LabelShape",
    "Release",
    "Score",
    "Selection",
    "SoftLabels",
    "Teacher",
    "ViewPolicy",
    "compress",
    "load",
    "load_labels",
    "select",
]

_ELSEWHERE = {
    "CondensedDataset": "dcpipe.dataset",
    "CondensedLoader": "dcpipe.dataset",
    "Release": "dcpipe.release",
    "compress": "dcpipe.compression.front",
    "load": "dcpipe.release",
    "load_labels": "dcpipe.compression.front",
    "select": "dcpipe.selection.front",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return version("dcpipe")
    if name not in __all__:
        raise AttributeError(f"module 'dcpipe' has no attribute {name!r}")
    return getattr(import_module(_ELSEWHERE.get(name, "dcpipe.types")), name)


def __dir__() -> list[str]:
    return __all__
