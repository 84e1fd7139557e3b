"""How well every codec keeps the soft labels of a workspace, at equal bytes per image.

    python benchmarks/equal_bytes.py [data/softlabels] [--bytes 1000 500 333 250 100 50] [--temperature 4]

KL(teacher, decoded) times T², as a mean over the labels that a codec keeps, with files (including their headers) of at
most so many bytes per image. The first row is one mean label per image: a codec that is not better than it at as many
bytes stores nothing that depends on the view. It is the table of the study `labels` without students, so it takes
seconds per codec.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import torch

from dcpipe import store
from dcpipe.compression import packing
from dcpipe.compression.budget import Budget
from dcpipe.compression.fidelity import fidelity
from dcpipe.types import DataError, LabelShape, SoftLabels, run_in_turn

ENTRIES: dict[str, tuple[str, dict[str, Any]]] = {
    "svd": ("svd", {}),
    "rsvd": ("rsvd", {}),
    "cur": ("cur", {}),
    "rpca": ("rpca", {}),
    "rpca, pursuit": ("rpca", {"parts": "pursuit"}),
    "topk": ("topk", {}),
    "topk, minimum": ("topk", {"kind": "minimum"}),
    "topk, smoothing": ("topk", {"kind": "marginal_smoothing"}),
    "prune_topk, minimum": ("prune_topk", {"kind": "minimum"}),
    "zipf": ("zipf", {}),
    "lowrank_int8": ("lowrank_int8", {}),
    "field": ("field", {}),
    "field, fresh": ("field", {"fresh": True}),
}


def measured(labels: SoftLabels, budget: Budget, temperature: float) -> tuple[float, float]:
    """Bytes per image of the file, and the divergence. Raises `DataError` for a budget that the codec cannot reach."""
    shape = LabelShape(*labels.logits.shape)
    size = packing.file_bytes(budget.codec, budget.plan(shape, labels.policy), shape, labels.policy)
    with tempfile.TemporaryDirectory() as folder:
        pack = budget.compress(labels, Path(folder), torch.device("cpu"), run_in_turn)
        found = fidelity(pack, labels, [temperature], torch.device("cpu")).over()
    return size / shape.images, found[f"kl_t{temperature:g}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("labels", nargs="?", type=Path, default=Path("data/softlabels"))
    parser.add_argument("--bytes", nargs="+", type=float, default=[1000, 500, 333, 250, 100, 50])
    parser.add_argument("--temperature", type=float, default=4.0)
    options = parser.parse_args()
    labels = store.load_soft_labels(options.labels)
    n, views, classes = labels.logits.shape
    print(
        f"labels [{n}, {views}, {classes}], fp16 {2 * views * classes:,} bytes per image; T = {options.temperature:g}"
    )
    print(f"{'bytes per image':20s}" + "".join(f"{size:10,.0f}" for size in options.bytes))
    size, divergence = measured(labels, Budget("mean_label", ratio=1), options.temperature)
    print(f"{'mean label':20s}{divergence:10.4f} at {size:.1f} bytes per image")
    for name, (codec, values) in ENTRIES.items():
        cells = []
        for limit in options.bytes:
            try:
                _, divergence = measured(labels, Budget(codec, values, bytes_per_image=limit), options.temperature)
                cells.append(f"{divergence:10.4f}")
            except DataError:
                cells.append(f"{'-':>10s}")
        print(f"{name:20s}" + "".join(cells), flush=True)


if __name__ == "__main__":
    main()
