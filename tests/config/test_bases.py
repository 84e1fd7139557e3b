"""The base method of `mdc`."""

from __future__ import annotations

from typing import Any

import pytest

from dcpipe.config.bases import base_of
from dcpipe.config.options import Options
from dcpipe.synthesis import METHODS


@pytest.mark.parametrize(
    ("method", "given", "expected"),
    [
        ("idc", {"lr": 1.0}, ("idc", {"lr": 1.0})),
        ("mdc", {}, ("idc", {})),
        ("mdc", {"base": "mtt", "options": None}, ("mtt", {})),
        ("mdc", {"base": "mtt", "options": {"lr": 1.0}, "period": 3}, ("mtt", {"lr": 1.0})),
    ],
)
def test_it_moves_the_images(method: str, given: dict[str, Any], expected: tuple[str, dict[str, Any]]) -> None:
    assert base_of(method, given) == expected


def test_the_one_that_is_not_given_is_that_of_the_method() -> None:
    resolved = Options.of(METHODS["mdc"]).resolve({}, "mdc")
    name, options = base_of("mdc", resolved)
    assert name == base_of("mdc", {})[0]
    assert options == {k: v for k, v in Options.of(METHODS[name]).resolve({}, name).items() if k != "subsets"}
