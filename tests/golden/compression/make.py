"""Write the golden packs: `python tests/golden/compression/make.py`, once for every format that must decode for ever.

Files that exist are left alone; a pack that no longer decodes means that released ones do not either. Beside each
pack lies what it decodes to, computed here from the arrays by plain NumPy, not by the codec.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch

from dcpipe import store, views
from dcpipe.compression import CODECS
from dcpipe.types import LabelPack, LabelShape, ViewPolicy

SHAPE = LabelShape(5, 6, 7)
WIDE = LabelShape(2, 3, 300)  # more than 256 classes: u16 columns
CASES = {
    "none": ("none", SHAPE, 420, {}),
    "svd": ("svd", SHAPE, 260, {}),
    "rpca": ("rpca", SHAPE, 320, {"sparse_share": 0.5, "precision": "float64"}),
    "rpca-wide": ("rpca", WIDE, 1500, {"sparse_share": 0.1, "precision": "float64"}),
    "prune-epoch": ("prune", SHAPE, 150, {"seed": 3}),
    "prune-batch": ("prune", SHAPE, 150, {"granularity": "batch", "batch_size": 2, "seed": 3}),
}


def labels(shape: LabelShape) -> torch.Tensor:
    """Made numbers, by the project's own generator so that they can be made again."""
    words = views.philox(7, np.arange(shape.images)[:, None], 40, np.arange(shape.views * shape.classes)[None])
    values = 10 * views.uniform(words[..., 0]) - 5
    return torch.from_numpy(values.astype(np.float16)).float().reshape(shape.images, shape.views, shape.classes)


def plainly(name: str, arrays: dict, row: int, view: int, entry: int) -> list[float]:
    """One label from the arrays, element by element in float64."""
    wide = {key: np.asarray(array, dtype=np.float64) for key, array in arrays.items()}
    if name == "none":
        return wide["logits"][row, view].tolist()
    if name == "prune":
        return wide["logits"][entry].tolist()
    label = wide["left"][row, view] @ wide["right"][row]
    if "values" in arrays:
        for column, value in zip(arrays["columns"][row, view], wide["values"][row, view], strict=True):
            label[int(column)] += value
    return label.tolist()


def main() -> None:
    here = Path(__file__).parent
    for case, (name, shape, budget, options) in CASES.items():
        path = here / f"{case}.safetensors"
        if path.exists():
            continue
        codec = CODECS[name].plan(shape, budget, **options)
        k, ids = shape.views, np.arange(shape.images)
        rows, stored = np.repeat(ids, k), np.tile(np.arange(k), shape.images)
        arrays = codec.encode(labels(shape), ids, shape, views.draw(ViewPolicy(), rows, stored, shape.images))
        store.save_pack(path, LabelPack(name, codec.settings, arrays, shape, ViewPolicy(), ids))
        held = codec.holds(rows, stored, shape)
        pairs = [(int(row), int(view)) for row, view in zip(rows[held], stored[held], strict=True)]
        chosen = [(entry, pair) for entry, pair in enumerate(pairs) if entry % 4 == 0]
        expected = [
            {"row": row, "view": view, "logits": plainly(name, arrays, row, view, entry)}
            for entry, (row, view) in chosen
        ]
        epochs = [[part.tolist() for part in codec.replay(epoch, shape)] for epoch in range(3)]
        content = {"settings": codec.settings, "held": pairs, "replay": epochs, "labels": expected}
        path.with_suffix(".json").write_text(json.dumps(content) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
