"""The choices that define a method: networks in which images do not depend on each other."""

from __future__ import annotations

import pytest
from torch import nn

from dcpipe import networks
from dcpipe.synthesis.gradients.choices import check_alone, check_network
from dcpipe.types import DataError


@pytest.mark.parametrize("name", ["convnet-d2-w3", "resnet10-ap"])
def test_networks_that_see_every_image_by_itself_pass(name: str) -> None:
    check_alone(networks.build(name, 3, 32), name)


def test_layers_by_which_images_depend_on_each_other_or_on_chance_are_named() -> None:
    for layer, cause in (
        (nn.BatchNorm2d(3), "its batch"),
        (nn.BatchNorm1d(3), "its batch"),
        (nn.Dropout(0.1), "chance"),
    ):
        with pytest.raises(DataError) as caught:
            check_alone(nn.Sequential(nn.Flatten(), layer), "x")
        assert str(caught.value) == (
            f"layer '1' of network 'x' is a {type(layer).__name__}, by which an image's features depend on "
            f"{cause}; use a network with group norm such as convnet-d3-w128 or resnet10-ap"
        )
    check_alone(nn.Sequential(nn.Dropout(0.0)), "x")  # drops nothing


@pytest.mark.parametrize("name", ["resnet10-w4", "regnet_y_400mf"])
def test_networks_are_checked_by_name(name: str) -> None:
    """Also those of libraries that cannot be built without numbers."""
    with pytest.raises(DataError, match=f"of network '{name}' is a BatchNorm2d, by which an image's features depend"):
        check_network(name, 32)


def test_a_network_with_group_norm_passes() -> None:
    check_network("convnet-d2-w3", 8)
