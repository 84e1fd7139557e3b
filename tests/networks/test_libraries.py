"""Networks of torchvision and timm by their names there; a missing or unknown one is refused with a remedy."""

from __future__ import annotations

import sys

import pytest
from building import out_of

from dcpipe import networks
from dcpipe.types import DataError


@pytest.mark.parametrize("name", ["resnet18", "squeezenet1_1", "googlenet"])
def test_torchvision_names(name: str) -> None:
    network = networks.build(name, 3, 64)
    assert out_of(network, 64) == (2, 3)


def test_timm_names() -> None:
    pytest.importorskip("timm")
    network = networks.build("timm/resnet10t", 4, 32)
    assert out_of(network, 32) == (2, 4)
    assert networks.head(network).out_features == 4


def test_an_unknown_timm_name_lists_close_ones() -> None:
    pytest.importorskip("timm")
    with pytest.raises(DataError) as error:
        networks.build("timm/resnet10", 3, 32)
    sentence = str(error.value)
    assert sentence.startswith("network 'timm/resnet10': timm has no model 'resnet10'; close names: ")
    assert "resnet10t" in sentence.split("close names: ")[1].split(", ")


def test_a_missing_timm_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(DataError) as error:
        networks.build("timm/resnet10t", 3, 32)
    assert str(error.value) == "network 'timm/resnet10t' needs the timm package; install dcpipe[timm]"
