"""Parameters of a tiny workspace under any protocol, and the names that protocols give to views."""

from __future__ import annotations

from typing import Any

from dcpipe.config import params

CUT, LABELS = "cutmix_images", "cutmix_labels"
OBJECTS, DIGITS = "color_crop_flip_scale_rotate", "color_crop_scale_rotate"


def block(protocol: str = "score", **keys: Any) -> params.EvaluationBlock:
    return parsed(protocol, **keys).evaluation


def parsed(protocol: str, labels: dict[str, Any] | None = None, **keys: Any) -> params.Params:
    content = {
        "images": {"source": "digits", "size": 8},
        "teacher": {"networks": {"main": {"network": "convnet-d2-w8"}}, "training": {"epochs": 2}},
        "features": {"teacher": "main"},
        "selection": {"method": "score", "ipc": 3},
        "synthesis": {},
        "softlabels": {"teachers": ["main"], "views": 8, **(labels or {})},
        "compression": {"codec": "svd", "ratio": 4},
        "evaluation": {"protocol": protocol, "student": "convnet-d2-w8", **keys},
        "release": {"name": "tiny-digits"},
    }
    return params.parse(content, "p.yaml")
