"""IDC (Kim et al., "Dataset condensation via efficient synthetic-data parameterization", ICML 2022), evaluation as in
its official code; MDC (He et al., ICLR 2024) and DREAM (Liu et al., ICCV 2023) evaluate in the same way.

Students train with cross-entropy and hard labels, by SGD in batches of 64 for 1000 epochs, and the learning rate is
divided by 5 after 2/3 and after 5/6 of them. Views have colour, crop, flip, scale and rotate (digits: no flip), and
half of them have CutMix. `idc-i` is IDC without multi-formation (a stored image is one training image). It exists where
this changes the protocol: on SVHN at one image per class, and on MNIST, where IDC has no CutMix. On ImageNet-10 the
number of epochs depends on the training images per class, of which a stored image has nine with IDC and one with IDC-I,
so names end in the stored images per class. Views in dcpipe have no colour jitter and lighting noise, so these scores
always say that views differ.

Differences from the code: it reports the best of four tests, here students are tested at the last epoch; it draws once
per batch whether to use CutMix, and which one of crop, scale and rotate to use, here this is drawn per view; and it
augments in units of the mean and std of each dataset, here those of CIFAR are used for all (`dcpipe.views.siamese`).
The code cuts the side of a CutMix box to an even number of pixels, as `softlabels.augmentation.mix_box: even` does. By
default its edges are rounded: at 32 pixels a box then covers 32 % of an image on average, in the code 30 %. Scores name
the same protocol for both.
"""

from __future__ import annotations

from typing import Any

from dcpipe.config.protocols.row import Row

# KL at T = 1 generalises cross-entropy to labels that are not one-hot.
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

LENGTHS = {1: 3000, 10: 2000, 50: 1500, 200: 1000, 500: 500}  # largest number of training images per class -> epochs
BEYOND = 300


def epochs(images: int) -> int:
    """The number of epochs on ImageNet-10 with `images` training images per class."""
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
