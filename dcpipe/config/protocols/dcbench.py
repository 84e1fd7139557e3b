"""DC-BENCH (Cui et al., NeurIPS 2022, datasets and benchmarks track), evaluation as its official code runs it, which is
that of DC (Zhao et al., ICLR 2021), DSA and DM (Zhao & Bilen, ICML 2021 and WACV 2023).

Cross-entropy with hard labels, SGD in batches of 256, a tenth of the rate from epoch E/2 + 1 of E on, last epoch. Names
end in the augmentation, which decides E: `plain` has none and 300 epochs; `dsa` has one of colour, crop, cutout, flip,
scale and rotate at a time and 1000; `randaug` has one operation of RandAugment and 1000. Scores are not comparable with
those of `idc`, which has other batches, rates and pasted boxes.

Where this differs from the code: it draws what to do once a batch (RandAugment: all of it), here every view does; and
it augments in units of each dataset's mean and std, here in CIFAR's for all (`dcpipe.views.siamese`). Its AutoAugment
and its recipes named after ImageNet and CIFAR are not here.
"""

from __future__ import annotations

from typing import Any

from dcpipe.config.protocols.row import Row

# KL at T = 1 is what cross-entropy is for labels that are not one-hot.
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
    """The one milestone is a fraction, so that it moves with `epochs` where params.yaml changes them."""
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
