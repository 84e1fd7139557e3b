"""G-VBSM (Shao et al., "Generalized large-scale data condensation via various backbone and statistical matching", CVPR
2024), training as its official scripts run it.

Mean squared error to the teachers' mean logits plus gamma CE with the image's own class, plain cosine, decay on
weights only; the temperature enters no loss. CIFAR-100's batch size is that of its ConvNet of width 128. On
Tiny-ImageNet the code feeds a batch of 100 in two halves, so that its batch norm sees 50 images; here 100.
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
