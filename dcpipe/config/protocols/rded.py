"""RDED (Sun et al., "On the diversity and realism of distilled dataset", CVPR 2024), validation.

The loss is KL at T = 20 without T^2 to one teacher online. Students train with AdamW for 300 epochs with smoothing LR
and zeta = 2. The learning rate is that for ResNets and ConvNets (other students: VGG-11 5e-4, EfficientNet-B0 2e-3,
MobileNet-V2 2.5e-3, AlexNet, ViT and Swin 1e-4). Batch sizes depend on images per class: 10, 50, 100 at 1, 10, 50, and
twice that with 1,000 or 100 classes, but always 100 on Tiny-ImageNet. So names end in the images per class. Students
see the patches of 2 x 2 mosaics shuffled, and crops of at least half the area; sets of small images have one patch per
image and no crop.

The code forwards every batch twice in training mode, which updates its batch norm twice; here once. CutMix differs as
described in `edc.py`. A protocol here does not depend on the student. On CIFAR-100 the code trains a ConvNet-3 with a
ConvNet-3 as the teacher in batches of 25 with lr 2e-3, at all sizes: `rded/cifar100/convnet`.
"""

from __future__ import annotations

from typing import Any

from dcpipe.config.protocols.row import Row

COMMON: dict[str, Any] = {
    "epochs": 300,
    "optimizer": "adamw",
    "lr": 1e-3,
    "weight_decay": 0.01,
    "decay": "weights",
    "temperature": 20.0,
    "schedule": "smoothing",
    "zeta": 2.0,
    "loss": "kl_plain",
}
WHOLE = {"scale_min": 1.0, "mix": "cutmix_images"}
MOSAIC = {"scale_min": 0.5, "shuffle": 2, "mix": "cutmix_images"}
BATCHES = {1: 10, 10: 50, 50: 100}


def _rows(dataset: str, views: dict[str, Any], times: int) -> dict[str, Row]:
    return {
        f"rded/{dataset}/ipc{ipc}": Row(COMMON | {"batch_size": times * size}, views) for ipc, size in BATCHES.items()
    }


ROWS: dict[str, Row] = {
    **_rows("cifar10", WHOLE, 1),
    **_rows("cifar100", WHOLE, 2),
    "rded/cifar100/convnet": Row(COMMON | {"batch_size": 25, "lr": 2e-3}, WHOLE),
    "rded/tiny-imagenet": Row(COMMON | {"batch_size": 100}, WHOLE),
    **_rows("imagenet-10", MOSAIC, 1),
    **_rows("imagenet-1k", MOSAIC, 2),
}
