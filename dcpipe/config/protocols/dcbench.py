"""DC-BENCH (Cui et al., NeurIPS 2022, datasets and benchmarks track), evaluation as in its official code, which is that
of DC (Zhao et al., ICLR 2021), DSA and DM (Zhao & Bilen, ICML 2021 and WACV 2023).

Students train with cross-entropy and hard labels, by SGD in batches of 256 with a tenth of the learning rate from epoch
E/2 + 1 of E on, and are tested at the last epoch. Names end in the augmentation, which decides E: `plain` has none and
300 epochs; `dsa` has one of colour, crop, cutout, flip, scale and rotate at a time and 1000 epochs; `randaug` has one
operation of RandAugment and 1000 epochs. Scores are not comparable with those of `idc`, which has other batches,
learning rates and CutMix.

Differences from the code: it draws the augmentation once per batch (for RandAugment completely), here it is drawn per
view; and it augments in units of the mean and std of each dataset, here those of CIFAR are used for all
(`dcpipe.views.siamese`). The code trains for one epoch more (301 or 1001), of which 152 or 502 have the full rate (here
151 or 501), and begins the second part with a new optimiser, so that momentum starts from zero; here it continues. Its
AutoAugment and its recipes for ImageNet and CIFAR are not implemented.
"""

from __future__ import annotations

from typing import Any

from dcpipe.config.protocols.row import Row

# KL at T = 1 generalises cross-entropy to labels that are not one-hot.
COMMON: dict[str, Any] = {
    "batch_size": 256,
    "optimizer": "sgd",
    "lr": 0.01,
    "momentum": 0.9,
    "nesterov": False,
    "weight_decay": 5e-4,
    "decay": "all",
    "schedule": "multistep",
    "decay_factor": 0.1,
    "loss": "kl_plain",
    "temperature": 1.0,
}
WHOLE = {"scale_min": 1.0, "flip": 0.0}
DSA = WHOLE | {"siamese": "dsa:color_crop_cutout_flip_scale_rotate"}


def _row(epochs: int, views: dict[str, Any]) -> Row:
    """The milestone is a fraction, so that it moves if params.yaml changes `epochs`."""
    return Row(COMMON | {"epochs": epochs, "milestones": [(epochs // 2 + 1) / epochs]}, views)


ROWS: dict[str, Row] = {
    f"dcbench/{dataset}/{name}": row
    for dataset in ("cifar10", "cifar100", "tiny-imagenet")
    for name, row in {
        "plain": _row(300, WHOLE),
        "dsa": _row(1000, DSA),
        "randaug": _row(1000, WHOLE | {"randaugment": 1}),
    }.items()
}
