"""G-VBSM (Shao et al., "Generalized large-scale data condensation via various backbone and statistical matching", CVPR
2024), training as in its official scripts.

The loss is the mean squared error to the mean logits of the teachers plus gamma CE with the class of the image; it does
not use the temperature. The schedule is a plain cosine, and only weights decay. The batch size on CIFAR-100 is that of
its ConvNet of width 128. On Tiny-ImageNet the code forwards a batch of 100 in two halves, so its batch norm sees 50
images; here it sees 100. On ImageNet-1K the code scales the logits of every teacher in a batch to the same Frobenius
norm before it averages them, as `softlabels.ensemble: equal_norms` does, with norms over all images of the set where
labels are stored; by default they are averaged as they are, so the targets of the squared error differ. CutMix
differs as described in `edc.py`: one box per batch in the code, one per view here, and
`softlabels.augmentation.mix_box: even` for sides that are cut as in the code.
"""

from __future__ import annotations

from typing import Any

from dcpipe.config.protocols.row import Row

COMMON: dict[str, Any] = {"temperature": 20.0, "schedule": "smoothing", "loss": "mse_gt", "decay": "weights"}
ADAMW = COMMON | {"optimizer": "adamw", "lr": 1e-3}
SGD = COMMON | {"optimizer": "sgd", "lr": 0.1, "momentum": 0.9, "nesterov": False, "weight_decay": 5e-4}
VIEWS = {"mix": "cutmix_images"}

ROWS: dict[str, Row] = {
    "gvbsm/cifar10": Row(ADAMW | {"weight_decay": 0.0, "epochs": 1000, "batch_size": 100, "gamma": 0.15}, VIEWS),
    "gvbsm/cifar100": Row(SGD | {"epochs": 1000, "batch_size": 64, "gamma": 0.15}, VIEWS),
    "gvbsm/tiny-imagenet": Row(SGD | {"epochs": 100, "batch_size": 100, "gamma": 0.1}, VIEWS),
    "gvbsm/imagenet-1k": Row(ADAMW | {"weight_decay": 0.01, "epochs": 300, "batch_size": 1024, "gamma": 0.1}, VIEWS),
}
