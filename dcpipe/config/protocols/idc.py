"""IDC (Kim et al., "Dataset condensation via efficient synthetic-data parameterization", ICML 2022), evaluation as its
official code runs it; MDC (He et al., ICLR 2024) and DREAM (Liu et al., ICCV 2023) evaluate so too.

Cross-entropy with hard labels, SGD in batches of 64, 1000 epochs, a fifth of the rate from 2/3 and from 5/6 of them on;
views have colour, crop, flip, scale and rotate (digits: no flip), half of them a pasted box. `idc-i` is IDC without
multi-formation (one training image in a stored one), where that changes something: on SVHN at one image a class, and on
MNIST, whose IDC has no pasted box. On ImageNet-10 epochs depend on the training images a class, nine in a stored image
of IDC and one of IDC-I, so names end in the stored images per class; its colour jitter and lighting noise views here
cannot be: those scores always tell that views differ.

Where this differs from the code: it reports the best of four evaluations on test, here it is the last epoch; it draws
once a batch whether to paste a box, and of crop, scale and rotate the one that runs, here every view does; and it
augments in units of each dataset's mean and std, here in CIFAR's for all (`dcpipe.views.siamese`).
"""

from __future__ import annotations

from typing import Any

from dcpipe.config.protocols.row import Row

# KL at T = 1 is what cross-entropy is for labels that are not one-hot.
COMMON: dict[str, Any] = {
    "epochs": 1000,
    "batch_size": 64,
    "optimizer": "sgd",
    "lr": 0.01,
    "momentum": 0.9,
    "nesterov": False,
    "weight_decay": 5e-4,
    "decay": "all",
    "schedule": "multistep",
    "milestones": [2 / 3, 5 / 6],
    "decay_factor": 0.2,
    "loss": "kl_plain",
    "temperature": 1.0,
}
WHOLE = {"scale_min": 1.0, "flip": 0.0}
HALF = {"mix": "cutmix_labels", "mix_share": 0.5}
OBJECTS = WHOLE | HALF | {"siamese": "color_crop_flip_scale_rotate"}
DIGITS = WHOLE | HALF | {"siamese": "color_crop_scale_rotate"}
PHOTOS = {"scale_min": 0.5, "mix": "cutmix_labels", "jitter": 0.4, "lighting": 0.1}

LENGTHS = {1: 3000, 10: 2000, 50: 1500, 200: 1000, 500: 500}  # at most so many training images a class: epochs
BEYOND = 300


def epochs(images: int) -> int:
    """Epochs on ImageNet-10 with so many training images a class."""
    return next((length for most, length in LENGTHS.items() if images <= most), BEYOND)


def _photos(name: str, factor: int) -> dict[str, Row]:
    return {
        f"{name}/imagenet-10/ipc{ipc}": Row(COMMON | {"epochs": epochs(ipc * factor**2)}, PHOTOS)
        for ipc in (1, 10, 20, 50)
    }


ROWS: dict[str, Row] = {
    "idc/cifar10": Row(COMMON, OBJECTS),
    "idc/cifar100": Row(COMMON, OBJECTS),
    "idc/svhn": Row(COMMON, DIGITS),
    "idc-i/svhn/ipc1": Row(COMMON, WHOLE | {"siamese": "color_crop_cutout_scale_rotate"}),
    "idc/mnist": Row(COMMON, WHOLE | {"siamese": "color_crop_scale_rotate"}),
    "idc-i/mnist": Row(COMMON, DIGITS),
    "idc/fashion-mnist": Row(COMMON, OBJECTS),
    **_photos("idc", 3),
    **_photos("idc-i", 1),
}
