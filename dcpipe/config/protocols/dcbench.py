"""DC-BENCH (Cui et al., NeurIPS 2022, datasets and benchmarks track), evaluation as in its official code, which is that
of DC (Zhao et al., ICLR 2021), DSA and DM (Zhao & Bilen, ICML 2021 and WACV 2023).

Students train with cross-entropy and hard labels, by SGD in batches of 256 with a tenth of the learning rate from epoch
E/2 + 1 of E on, and are tested at the last epoch. Names end in the augmentation, which decides E: `plain` has none and
300 epochs; `dsa` has one of colour, crop, cutout, flip, scale and rotate at a time and 1000 epochs; `randaug` has one
operation of RandAugment and 1000 epochs. Scores are not comparable with those of `idc`, which has other batches,
learning rates and CutMix.

Differences from the code: it draws the augmentation once per batch (for RandAugment completely), here it is drawn per
view; and it augments in units of the mean and std of each dataset, here those of CIFAR are used for all
(`dcpipe.views.siamese`). Its AutoAugment and its recipes for ImageNet and CIFAR are not implemented. `dcbench-code`
counts as the code does: E + 1 epochs (301 or 1001), of which 152 or 502 have the full rate (in `dcbench` 151 or 501),
and the second part begins with a new optimiser, so that momentum starts from zero.
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


def _rows(protocol: str, **code: Any) -> dict[str, Row]:
    """All rows, with an epoch and constants more if the code is followed. The milestone is a fraction, so that it moves
    if params.yaml changes `epochs`."""
    more = bool(code)
    return {
        f"{protocol}/{dataset}/{name}": Row(
            COMMON | {"epochs": epochs + more, "milestones": [(epochs // 2 + 1 + more) / (epochs + more)]} | code, views
        )
        for dataset in ("cifar10", "cifar100", "tiny-imagenet")
        for name, epochs, views in (
            ("plain", 300, WHOLE),
            ("dsa", 1000, DSA),
            ("randaug", 1000, WHOLE | {"randaugment": 1}),
        )
    }


ROWS: dict[str, Row] = _rows("dcbench") | _rows("dcbench-code", restart=True)
