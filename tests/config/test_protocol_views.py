"""Views of params.yaml are compared with those of the protocol's paper, and its name says where they differ."""

from __future__ import annotations

from typing import Any

import pytest
from protocol_params import CUT, DIGITS, LABELS, OBJECTS, block, parsed

from dcpipe.config.protocols import describe
from dcpipe.evaluation.students import protocol_of


@pytest.mark.parametrize(
    ("labels", "differ"),
    [
        ({"augmentation": {"scale_min": 0.5}, "mix": CUT}, False),
        ({"augmentation": {"scale_min": 0.08}, "mix": CUT}, True),
        ({"augmentation": {"scale_min": 0.5, "flip": 0.0}, "mix": CUT}, True),
        ({"augmentation": {"scale_min": 0.5}, "mix": "cutmix_labels"}, True),
        ({}, True),
    ],
)
def test_views_are_compared_with_the_papers(labels: dict[str, Any], differ: bool) -> None:
    whole = parsed("edc/imagenet-1k", labels)
    end = "; views differ" if differ else ""
    assert protocol_of(whole.evaluation, whole.softlabels).name == f"edc/imagenet-1k{end}"
    changed = parsed("edc/imagenet-1k", labels, epochs=5)
    assert protocol_of(changed.evaluation, changed.softlabels).name == f"edc/imagenet-1k with epochs 5{end}"
    free = parsed("score", labels, epochs=5, batch_size=4)
    assert protocol_of(free.evaluation, free.softlabels).name == "score"


def test_views_that_take_more_than_a_crop_are_compared_too() -> None:
    views = {"scale_min": 0.5, "mix": CUT}
    assert describe(block("edc/cifar100"), views) == "edc/cifar100; views differ"
    assert describe(block("edc/cifar100"), views | {"randaugment": 2}) == "edc/cifar100"
    assert describe(block("rded/imagenet-1k/ipc10"), views) == "rded/imagenet-1k/ipc10; views differ"
    assert describe(block("rded/imagenet-1k/ipc10"), views | {"shuffle": 2}) == "rded/imagenet-1k/ipc10"
    for mix in ("none", CUT, "cutmix_labels"):  # mixup is no mix of ours
        assert describe(block("sre2l/cifar100"), {"mix": mix}) == "sre2l/cifar100; views differ"


def test_the_box_of_cutmix_is_compared_where_a_protocol_says_how_it_is_cut() -> None:
    views = {"scale_min": 0.5, "randaugment": 2}
    for name, box, end in (
        ("edc-code/cifar100", "even", ""),
        ("edc-code/cifar100", "rounded", "; views differ"),
        ("edc/cifar100", "even", ""),  # the paper does not say
        ("edc/cifar100", "rounded", ""),
    ):
        whole = parsed(name, {"augmentation": views | {"mix_box": box}, "mix": CUT})
        assert protocol_of(whole.evaluation, whole.softlabels).name == f"{name}{end}"


IDC_VIEWS = {"scale_min": 1.0, "flip": 0.0, "siamese": OBJECTS, "mix_share": 0.5}


@pytest.mark.parametrize(
    ("name", "views", "mix", "differ"),
    [
        ("idc/cifar10", IDC_VIEWS, LABELS, False),
        ("idc/cifar10", IDC_VIEWS | {"siamese": DIGITS}, LABELS, True),
        ("idc/cifar10", IDC_VIEWS | {"siamese": ""}, LABELS, True),
        ("idc/cifar10", IDC_VIEWS | {"mix_share": 1.0}, LABELS, True),
        ("idc/cifar10", IDC_VIEWS | {"flip": 0.5}, LABELS, True),
        ("idc/cifar10", IDC_VIEWS, "none", True),
        ("idc/svhn", IDC_VIEWS | {"siamese": DIGITS}, LABELS, False),
        ("idc/svhn", IDC_VIEWS, LABELS, True),
        ("idc/mnist", IDC_VIEWS | {"siamese": DIGITS, "mix_share": 1.0}, "none", False),
        ("idc/imagenet-10/ipc10", {"scale_min": 0.5}, LABELS, True),  # colour jitter is none of ours
        ("dcbench/cifar10/plain", {"scale_min": 1.0, "flip": 0.0}, "none", False),
        ("dcbench/cifar10/plain", {"scale_min": 1.0, "flip": 0.0, "siamese": "color"}, "none", True),
        (
            "dcbench/cifar10/dsa",
            {"scale_min": 1.0, "flip": 0.0, "siamese": "dsa:color_crop_cutout_flip_scale_rotate"},
            "none",
            False,
        ),
        ("edc/cifar100", {"scale_min": 0.5, "randaugment": 2}, CUT, False),
        ("edc/cifar100", {"scale_min": 0.5, "randaugment": 2, "siamese": "color"}, CUT, True),
        ("edc/cifar100", {"scale_min": 0.5, "randaugment": 2, "mix_share": 0.5}, CUT, True),
    ],
)
def test_views_with_siamese_augmentation_are_compared(name: str, views: Any, mix: str, differ: bool) -> None:
    whole = parsed(name, {"method": "none", "augmentation": views, "mix": mix}, weight_decay=0.0)
    end = "; views differ" if differ else ""
    assert protocol_of(whole.evaluation, whole.softlabels).name == f"{name} with weight_decay 0{end}"
