"""RD3 ("Rectified Decoupled Dataset Distillation", arXiv 2509.19743, ICLR 2026): one evaluation for all methods.

It fixes how students train, for every method, data set and number of images per class, because published differences
between methods came mostly from their evaluations: on ImageNet-1K at 10 images per class, methods that were 27 points
apart are 7 apart under it.

Fixed by the paper, as far as notes and reviews of it say (its text and code were not at hand):
* 400 epochs, batches of 50, Adam with lr 1e-3 and the smoothing cosine, with zeta = 1 for ResNet-18 and 2 for other
  students. A protocol here does not depend on the student, so there are two: `rd3` and `rd3/other-students`.
* The loss is KL to one pre-trained ResNet-18, which labels every batch (the row "teacher online" of an evaluation).
* Views are random resized crops with flips and CutMix.

Not stated in what was read, so chosen here:
* no weight decay (Adam's default; AdamW without decay is Adam) and no EMA, of which nothing is said;
* T = 20 without T^2, and crops of at least 0.08 of the area, as in RDED's code, whose views and schedule it takes;
* students are tested at the last epoch, and a teacher's batch norm uses its running statistics, as everywhere here.

Without the paper's text, scores of this protocol cannot be compared with its tables to the point. CutMix differs as
described in `edc.py`.
"""

from __future__ import annotations

from typing import Any

from dcpipe.config.protocols.row import Row

COMMON: dict[str, Any] = {
    "epochs": 400,
    "batch_size": 50,
    "optimizer": "adamw",
    "lr": 1e-3,
    "weight_decay": 0.0,
    "decay": "all",
    "schedule": "smoothing",
    "zeta": 1.0,
    "ema": 0.0,
    "loss": "kl_plain",
    "temperature": 20.0,
}
VIEWS = {"scale_min": 0.08, "mix": "cutmix_images"}

ROWS: dict[str, Row] = {
    "rd3": Row(COMMON, VIEWS, labels="online"),
    "rd3/other-students": Row(COMMON | {"zeta": 2.0}, VIEWS, labels="online"),
}
