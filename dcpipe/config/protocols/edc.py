"""EDC (Shao et al., "Elucidating the design space of dataset condensation", NeurIPS 2024), post-evaluation.

`edc` follows the paper: Tables 6-10, epochs, batch sizes, AdamW, smoothing LR with zeta = 2, EMA 0.99. The paper states
neither the loss nor the weight decay, so these are taken from the official code: mean squared error to the mean logits
of the teachers plus 0.025 CE with the class of the image; decay 0.01 on weights only. No loss uses the temperature.

`edc-code` follows the official scripts where they differ from the paper:
* ImageNet-1k sets `cos`, but a later branch overwrites it by the line 1 - e / (zeta N);
* ImageNet-10 and CIFAR-100 set `cos2`, which is SSRS (Eq. 33), not plain smoothing;
* Tiny-ImageNet and CIFAR-100 train with SGD 0.1, momentum 0.875 without Nesterov, decay 5e-4, not with AdamW;
* CIFAR-10 at one image per class has batches of 10, in the paper 25;
* the box of CutMix has an even number of pixels to a side (`softlabels.augmentation.mix_box: even`), so that at 32
  pixels 30 % of an image is pasted on average, with the box of CutMix's paper 32 %.

Swin-T trains with lr 1e-4 (Table 6). The code reports the best of many tests, here students are tested at the last
epoch. CutMix differs as well: the code draws one box per batch and takes partners from this batch; here each view has
its own box and a partner from the whole set, because a view must not depend on its batch. On a GPU, students of `edc`
train in bfloat16 unless `precision: float32` is set; those of `edc-code` in float32, as in the code.
"""

from __future__ import annotations

from typing import Any

from dcpipe.config.protocols.row import Row

COMMON: dict[str, Any] = {
    "optimizer": "adamw",
    "lr": 1e-3,
    "weight_decay": 0.01,
    "decay": "weights",
    "temperature": 20.0,
    "schedule": "smoothing",
    "zeta": 2.0,
    "ema": 0.99,
    "loss": "mse_gt",
    "gamma": 0.025,
}
SGD: dict[str, Any] = {"optimizer": "sgd", "lr": 0.1, "momentum": 0.875, "nesterov": False, "weight_decay": 5e-4}
STEPS: dict[str, Any] = {"schedule": "multistep", "milestones": [0.8, 0.9, 0.95], "decay_factor": 0.5}

WEAK = {"scale_min": 0.5, "mix": "cutmix_images"}  # online teachers label the mixed batch of the student
SMALL = WEAK | {"randaugment": 2}
TINIEST = SMALL | {"scale_min": 0.08}  # CIFAR-10


def _row(views: dict[str, Any], epochs: int, batch_size: int, **changed: Any) -> Row:
    return Row(COMMON | {"epochs": epochs, "batch_size": batch_size} | changed, views)


def _code(views: dict[str, Any], epochs: int, batch_size: int, **changed: Any) -> Row:
    return _row(views | {"mix_box": "even"}, epochs, batch_size, precision="float32", **changed)


ROWS: dict[str, Row] = {
    "edc/cifar10": _row(TINIEST, 1000, 25, **STEPS),
    "edc/cifar100": _row(SMALL, 1000, 50),
    "edc/tiny-imagenet": _row(SMALL, 300, 100),
    "edc/tiny-imagenet/ipc1": _row(SMALL, 1000, 100),
    "edc/imagenet-10": _row(SMALL, 1000, 50),
    "edc/imagenet-1k": _row(WEAK, 300, 100),
    "edc-code/cifar10/ipc1": _code(TINIEST, 1000, 10, **STEPS),
    "edc-code/cifar100": _code(SMALL, 1000, 50, schedule="ssrs", **SGD),
    "edc-code/tiny-imagenet": _code(SMALL, 300, 100, **SGD),
    "edc-code/tiny-imagenet/ipc1": _code(SMALL, 1000, 100, **SGD),
    "edc-code/imagenet-10": _code(SMALL, 1000, 50, schedule="ssrs"),
    "edc-code/imagenet-1k": _code(WEAK, 300, 100, schedule="linear"),
}
