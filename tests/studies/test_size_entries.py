"""The entries of the study of sizes: their names are told apart before any work."""

from __future__ import annotations

from typing import Any

import pytest

from dcpipe.config.blocks import checked
from dcpipe.studies.size_entries import SizesBlock
from dcpipe.types import DataError


def block_of(**methods: Any) -> SizesBlock:
    return checked(SizesBlock, {"methods": methods, "ipc": 2, "seeds": [0, 1, 5]}, "s.yaml")


@pytest.mark.parametrize(
    ("method", "other"),
    [
        ({"snapshots": [0]}, "mdc-loop0"),
        ({"runs": 2}, "mdc-run1"),
        ({"baselines": ["C", "lfs"]}, "mdc-lfs"),
        ({"runs": 2, "snapshots": [3]}, "mdc-loop3"),
    ],
)
def test_two_methods_with_an_entry_of_the_same_name_are_refused(method: dict[str, Any], other: str) -> None:
    block_of(**{"mdc": method, "mdc-plain": {}}).check("sizes")
    with pytest.raises(DataError) as error:
        block_of(**{"mdc": method, other: {}}).check("sizes")
    assert str(error.value) == (f"sizes.methods: 'mdc' and '{other}' both have an entry '{other}'; rename one of them")
