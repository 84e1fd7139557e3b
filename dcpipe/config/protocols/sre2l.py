"""SRe2L (Yin et al., "Squeeze, recover and relabel", NeurIPS 2023), validation as in its official code.

* ImageNet-1k: stored labels of CutMix images, KL at T = 20 without T^2, AdamW, cosine.
* Tiny-ImageNet (the authors' `train_kd.py`): KL at T = 20 times T^2, SGD 0.2 after a warm-up of five epochs from a
  hundredth of it, no mix, decay on all parameters.
* CIFAR-100: teacher online at T = 30 without T^2, AdamW with decay on all parameters. Its images are padded crops of 32
  pixels with mixup, which views in dcpipe do not support, so scores always say that views differ.

CutMix differs as described in `edc.py`: one box per batch in the code, one per view here, and
`softlabels.augmentation.mix_box: even` for sides that are cut as in the code.
"""

from __future__ import annotations

from dcpipe.config.protocols.row import Row

ADAMW = {"optimizer": "adamw", "lr": 1e-3, "weight_decay": 0.01, "schedule": "smoothing", "loss": "kl_plain"}
SGD = {"optimizer": "sgd", "lr": 0.2, "momentum": 0.9, "nesterov": False, "weight_decay": 1e-4, "decay": "all"}

ROWS: dict[str, Row] = {
    "sre2l/cifar100": Row(
        ADAMW | {"epochs": 400, "batch_size": 128, "temperature": 30.0, "decay": "all"}, {"mix": "mixup"}
    ),
    "sre2l/tiny-imagenet": Row(
        SGD
        | {"epochs": 100, "batch_size": 256, "temperature": 20.0, "loss": "kl", "schedule": "smoothing", "warmup": 5},
        {},
    ),
    "sre2l/imagenet-1k": Row(
        ADAMW | {"epochs": 300, "batch_size": 1024, "temperature": 20.0, "decay": "weights"}, {"mix": "cutmix_images"}
    ),
}
