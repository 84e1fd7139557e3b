"""dcpipe: an image-classification dataset to a condensed one, and back to students that train on it.

    dataset = dcpipe.load("digits-score@v1.0.0", repo="URL").dataset()
    loader = dcpipe.CondensedLoader(dataset, 64)  # or any torch DataLoader of the dataset
    for epoch in range(300):
        loader.set_epoch(epoch)
        for images, soft_labels in loader:
            ...

or, of arrays alone:

    rows = dcpipe.select(vectors, labels, method="score", ipc=10)
    packed = dcpipe.compress(logits, codec="field", ratio=100)  # packed.n_bytes, packed.decode(), packed.save(path)

* `load`, `Release`, `CondensedDataset`, `CondensedLoader`: reading (`release/`, `dataset/`)
* `select`, `compress`, `load_labels`: methods on arrays (`selection/front.py`, `compression/front.py`)
* the nouns: what every stage takes and gives (`types/`)

Names are imported when first used: a stage that needs one module does not come to depend on all of them.
"""

from __future__ import annotations

from importlib import import_module
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
    if name not in __all__:
        raise AttributeError(f"module 'dcpipe' has no attribute {name!r}")
    return getattr(import_module(_ELSEWHERE.get(name, "dcpipe.types")), name)


def __dir__() -> list[str]:
    return __all__
