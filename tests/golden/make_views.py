"""Writes `views.json`, the draws that must stay as they are for ever: run as `python tests/golden/make_views.py`.

Stored labels belong to the views drawn when they were made. If this file's output changes, every published release
is read with wrong crops: raise `SCHEMA` and keep the old law readable instead of running it again.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from dcpipe import views
from dcpipe.random import permutation, philox
from dcpipe.types import ViewPolicy

POLICIES = {
    "default": ViewPolicy(),
    "cutmix_images": ViewPolicy(mix="cutmix_images", seed=7),
    "cutmix_labels": ViewPolicy(scale_min=0.5, mix="cutmix_labels", seed=2**63 + 11),
    "no flip": ViewPolicy(scale_min=0.25, scale_max=0.5, flip=0.0, seed=-1),
    "centred": ViewPolicy(scale_min=1.0, ratio_min=2.0, ratio_max=2.0, flip=1.0, seed=3),
}
IDS = [0, 1, 2, 12_345, 2**40, 5, 5, 5]
VIEWS = [0, 0, 0, 1, 299, 0, 1, 2**31]
N_IMAGES = 1000


def draws() -> dict[str, Any]:
    """Everything pinned, as JSON values."""
    ids, numbers = np.array(IDS, dtype=np.int64), np.array(VIEWS, dtype=np.int64)
    drawn = {name: views.draw(policy, ids, numbers, N_IMAGES) for name, policy in POLICIES.items()}
    return {
        "ids": IDS,
        "views": VIEWS,
        "n_images": N_IMAGES,
        "words": [[int(word) for word in row] for row in philox(7, numbers, 3, ids)],
        "permutation": {f"{seed} {stream}": permutation(seed, stream, 12).tolist() for seed, stream in ORDERS},
        "policies": {
            name: {
                "policy": asdict(POLICIES[name]),
                "box": one.box.tolist(),
                "flip": one.flip.tolist(),
                "partner": one.partner.tolist(),
                "mix_box": one.mix_box.tolist(),
                "pixels at 32": one.pixels(32).tolist(),
            }
            for name, one in drawn.items()
        },
    }


ORDERS = ((0, 0), (0, 1), (1, 0))

if __name__ == "__main__":
    target = Path(__file__).with_name("views.json")
    target.write_text(json.dumps(draws(), indent=1) + "\n", encoding="utf-8")
