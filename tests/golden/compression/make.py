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
from dcpipe.random import philox, uniform
from dcpipe.types import LabelPack, LabelShape, ViewPolicy

SHAPE = LabelShape(5, 6, 7)
WIDE = LabelShape(2, 3, 300)  # more than 256 classes: u16 columns
TALL = LabelShape(5, 2, 300)
BROAD = LabelShape(5, 6, 100)  # the classes of two entries in one word
CASES = {
    "none": ("none", SHAPE, 420, {}),
    "mean_label": ("mean_label", SHAPE, 70, {}),
    "svd": ("svd", SHAPE, 260, {}),
    "rpca": ("rpca", SHAPE, 320, {"parts": "pursuit", "sparse_share": 0.5, "precision": "float64"}),
    "rpca-wide": ("rpca", WIDE, 1500, {"parts": "pursuit", "sparse_share": 0.1, "precision": "float64"}),
    "svd-extra": ("svd", SHAPE, 200, {}),
    "rsvd": ("rsvd", SHAPE, 130, {"oversampling": 1, "power_iterations": 1, "seed": 3}),
    "rsvd-extra": ("rsvd", SHAPE, 320, {"oversampling": 1, "seed": 3}),
    "rpca-extra": ("rpca", SHAPE, 390, {"parts": "pursuit", "sparse_share": 0.5, "precision": "float64"}),
    "rpca-fitted": ("rpca", BROAD, 4100, {"sparse_share": 1.0, "precision": "float64"}),
    "cur": ("cur", SHAPE, 310, {}),
    "cur-extra": ("cur", SHAPE, 230, {"pick": "leverage"}),
    "topk": ("topk", SHAPE, 200, {}),
    "topk-8": ("topk", TALL, 120, {"bits": 8, "kind": "marginal_smoothing"}),
    "topk-hard": ("topk", SHAPE, 30, {"kind": "hard"}),
    "topk-smoothing": ("topk", SHAPE, 90, {"kind": "smoothing"}),
    "topk-marginal": ("topk", SHAPE, 250, {"kind": "marginal_smoothing", "temperature": 4.0}),
    "topk-minimum": ("topk", SHAPE, 200, {"kind": "minimum"}),
    "zipf": ("zipf", TALL, 75, {"exponent": 1.5}),
    "zipf-fitted": ("zipf", SHAPE, 110, {"exponent": "fitted"}),
    "prune_topk-epoch": ("prune_topk", SHAPE, 80, {"prune": 3}),
    "prune_topk-batch": (
        "prune_topk",
        TALL,
        50,
        {"prune": 1.5, "granularity": "batch", "batch_size": 2, "seed": 3, "bits": 8},
    ),
    "lowrank_int8": ("lowrank_int8", SHAPE, 90, {"temperature": 4.0}),
    "lowrank_int8-6": ("lowrank_int8", SHAPE, 170, {"bits": 6}),
    "lowrank_int8-exact": ("lowrank_int8", TALL, 2400, {"bits": 8, "exact_share": 0.1}),
    "field": ("field", SHAPE, 160, {"features": 3, "bits": 3, "residual_bits": 4}),
    "field-fresh": ("field", SHAPE, 120, {"bits": 4, "fresh": True}),
    "field-rank": ("field", TALL, 2200, {"features": 6, "bits": 6, "temperature": 0.0, "fresh": True}),
    "lowrank_int8-ternary": ("lowrank_int8", SHAPE, 60, {"bits": 1.6, "mean_bits": 3}),
    "lowrank_int8-mean": ("lowrank_int8", TALL, 1700, {"bits": 4, "mean_bits": 6}),
    "field-ternary": ("field", SHAPE, 100, {"bits": 1.6, "base_bits": 4, "fresh": True}),
    "field-base": ("field", SHAPE, 700, {"features": 4, "bits": 1.6, "residual_bits": 1.6, "base_bits": 6}),
    "prune-epoch": ("prune", SHAPE, 150, {"seed": 3}),
    "prune-batch": ("prune", SHAPE, 150, {"granularity": "batch", "batch_size": 2, "seed": 3}),
}


def labels(shape: LabelShape) -> torch.Tensor:
    """Made numbers, by the project's own generator so that they can be made again."""
    words = philox(7, np.arange(shape.images)[:, None], 40, np.arange(shape.views * shape.classes)[None])
    values = 10 * uniform(words[..., 0]) - 5
    return torch.from_numpy(values.astype(np.float16)).float().reshape(shape.images, shape.views, shape.classes)


def plainly(name: str, arrays: dict, row: int, view: int, entry: int) -> list[float]:
    """One label from the arrays, element by element in float64."""
    wide = {key: np.asarray(array, dtype=np.float64) for key, array in arrays.items()}
    if name == "none":
        return wide["logits"][row, view].tolist()
    if name == "mean_label":
        return wide["logits"][row].tolist()
    if name == "prune":
        return wide["logits"][entry].tolist()
    if name == "cur":
        return crossed(wide, row, view)
    if name == "rpca" and "values" not in arrays:
        return traded(arrays, row, view)
    label = wide["left"][row, view] @ wide["right"][row]
    if "left_more" in arrays and row < len(arrays["left_more"]):
        label += wide["left_more"][row, view] * wide["right_more"][row]
    if "values" in arrays:
        for column, value in zip(arrays["columns"][row, view], wide["values"][row, view], strict=True):
            label[int(column)] += value
    return label.tolist()


def traded(arrays: dict, row: int, view: int) -> list[float]:
    """One label of `rpca` whose last components may hold entries, word by word in float64."""
    left, right = arrays["left"][row], arrays["right"][row]
    (k, rank), c = left.shape, right.shape[1]
    ends = [j for j in range(rank) if np.signbit(right[j, 0])]
    held = ends[0] + 1 if ends else rank
    label = left[view, :held].astype(np.float64) @ right[:held].astype(np.float64)
    if "left_more" in arrays and row < len(arrays["left_more"]):
        label += float(arrays["left_more"][row, view]) * arrays["right_more"][row].astype(np.float64)
    words = [*left[:, held:].ravel(), *right[held:].ravel()]
    together = max(p for p in range(1, 9) if c**p <= 63488)
    per_view = max(e for e in range(c + 1) if k * e + -(-k * e // together) <= len(words))
    for entry in range(view * per_view, (view + 1) * per_view):
        pattern = int(words[k * per_view + entry // together].view(np.uint16))
        number = pattern if pattern < 31744 else pattern - 1024
        label[number // c ** (entry % together) % c] += float(words[entry])
    return label.tolist()


def sparsely(settings: dict, arrays: dict, classes: int, row: int, entry: int) -> list[float]:
    """One label of those that keep a few classes, which lies at `entry` among them, in float64."""
    kept = [int(c) for c in arrays["classes"][entry]]
    values = [float(v) for v in arrays["values"][entry]] if "values" in arrays else [0.0]
    if "classes_more" in arrays and entry < len(arrays["classes_more"]):
        kept.append(int(arrays["classes_more"][entry]))
        values += [float(v) for v in arrays.get("values_more", [])[entry : entry + 1]]
    if "exponent" in settings:
        exponent = float(arrays["exponents"][row]) if settings["exponent"] == "fitted" else settings["exponent"]
        masses = [(1 + (kept.index(c) if c in kept else len(kept))) ** -exponent for c in range(classes)]
        return np.log(np.array(masses) / sum(masses)).tolist()
    step = float(arrays["steps"][entry]) if "steps" in arrays else 1.0
    rest = -np.inf if settings.get("kind", "marginal_renorm") in ("hard", "marginal_renorm") else 0.0
    return [values[kept.index(c)] * step if c in kept else rest for c in range(classes)]


def crossed(wide: dict, row: int, view: int) -> list[float]:
    """One label of C U R."""
    left, middle, right = wide["left"][row, view], wide["middle"][row], wide["right"][row]
    scale, r = np.abs(right).max(), len(right)
    if "left_more" in wide and row < len(wide["left_more"]):
        border = wide["middle_more"][row]
        left = np.append(left, wide["left_more"][row, view])
        middle = np.block([[middle, border[:r, None]], [border[None, r + 1 :], border[r]]])
        right = np.vstack([right, wide["right_more"][row]])
    return (left @ middle @ right / scale).tolist()


def codes(packed: np.ndarray, bits: float, count: int) -> np.ndarray:
    """Numbers in -1..1 from one long integer, least significant code first; of three levels, five digits to base 3 a
    byte."""
    if bits == 1.6:
        return np.array([int(packed[place // 5]) // 3 ** (place % 5) % 3 - 1.0 for place in range(count)])
    whole, most = int.from_bytes(packed.tobytes(), "little"), 2 ** (bits - 1) - 1
    return np.array([((whole >> (bits * place)) % 2**bits - most) / most for place in range(count)])


def view_features(row: int, view: int) -> list[float]:
    """What `field` knows of one clean view."""
    drawn = views.draw(ViewPolicy(), np.array([row]), np.array([view]), 1)
    left, top, width, height = drawn.box[0]
    b, t, x, r = (5 * margin - 0.6 for margin in (1 - top - height, top, left, 1 - left - width))
    f = 1.0 if drawn.flip[0] else -1.0
    pairs = [b * b, t * t, x * x, r * r, f * x, f * r, x * t, r * b, r * t, x * b, f * b, f * t, t * b, x * r]
    return [1.0, b, t, x, r, f, *pairs]


def in_few_bits(settings: dict, arrays: dict, shape: LabelShape, row: int, view: int) -> list[float]:
    """One label of `lowrank_int8` or `field`, component by component in float64."""
    c = shape.classes
    if "mean" in arrays:
        label = codes(arrays["mean"][row], settings.get("mean_bits", 8), c) * float(arrays["mean_scale"][row])
        rank, extra, bits = settings["rank"], settings["extra"], settings["bits"]
    else:
        p, more, each = settings["features"], settings["more"], settings["rank"] or settings["features"]
        phi, label = view_features(row, view), np.zeros(c)
        for j in range(each + (row < more)):
            coefficient = phi[j]
            if settings["rank"] > 0:
                mixing = codes(arrays["mixing"][row * each + min(row, more) + j], 8, p)
                coefficient = sum(a * b for a, b in zip(mixing, phi, strict=False))
            if j == 0:
                base = codes(arrays["base"][row], settings.get("base_bits", 8), c)
                label += coefficient * base * float(arrays["base_scale"][row])
            else:
                place = row * (each - 1) + min(row, more) + j - 1
                basis = codes(arrays["basis"][place], settings["bits"], c) * float(arrays["basis_scale"][place])
                label += coefficient * basis
        rank, extra, bits = settings["residual"], settings["extra"], settings["residual_bits"]
    for j in range(rank + (row < extra)):
        place = row * rank + min(row, extra) + j
        left = codes(arrays["left"][place], bits, shape.views)[view] * float(arrays["scale"][place])
        label += left * codes(arrays["right"][place], bits, c)
    if "columns" in arrays:
        for column, value in zip(arrays["columns"][row, view], arrays["values"][row, view], strict=True):
            label[int(column)] = float(value)
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
            {
                "row": row,
                "view": view,
                "logits": in_few_bits(codec.settings, arrays, shape, row, view)
                if name in ("lowrank_int8", "field")
                else sparsely(codec.settings, arrays, shape.classes, row, entry)
                if "classes" in arrays
                else plainly(name, arrays, row, view, entry),
            }
            for entry, (row, view) in chosen
        ]
        epochs = [[part.tolist() for part in codec.replay(epoch, shape)] for epoch in range(3)]
        content = {"settings": codec.settings, "held": pairs, "replay": epochs, "labels": expected}
        path.with_suffix(".json").write_text(json.dumps(content) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
