"""The study of coefficients: random images and two sweeps through one point."""

from __future__ import annotations

from typing import Any

import pytest
import tiny

from dcpipe.studies.coefficients import CoefficientsBlock, CoefficientsStudy
from dcpipe.studies.coresets import Entry
from dcpipe.types import DataError

CONTENT: dict[str, Any] = {
    "base": {"alpha": 5, "beta": 0.1},
    "alpha": [5, 0],
    "beta": [0.1, 1.0e-3],
    "options": {"eps2": 0.5},
    "ipc": 10,
    "seeds": [3, 4, 5, 6],
}


def test_entries_are_random_and_two_sweeps_in_order() -> None:
    block = CoefficientsBlock.model_validate(CONTENT)
    study = CoefficientsStudy("coefficients", block, tiny.run_of("studies").params, tiny.PARAMS)
    assert study.entries == [
        Entry("random", "random", {}),
        Entry("alpha-0", "score", {"eps2": 0.5, "alpha": 0.0, "beta": 0.1}, "alpha"),
        Entry("alpha-5", "score", {"eps2": 0.5, "alpha": 5.0, "beta": 0.1}, "alpha"),
        Entry("beta-0.001", "score", {"eps2": 0.5, "alpha": 5.0, "beta": 0.001}, "beta"),
        Entry("beta-0.1", "score", {"eps2": 0.5, "alpha": 5.0, "beta": 0.1}, "beta"),
    ]
    assert (study.sizes, block.seeds, block.split) == ([10], [3, 4, 5, 6], "minival")


@pytest.mark.parametrize(
    ("chosen", "base", "options"),
    [
        ({"options": {"alpha": 10.0, "beta": 0.001, "eps2": 0.25}}, (10.0, 0.001), {"eps2": 0.25}),
        ({"options": {"alpha": 10.0}}, (10.0, 1.0), {}),
        ({"method": "herding", "options": {"normalise": False}}, (5.0, 1.0), {}),
    ],
)
def test_the_base_is_by_default_the_point_of_params_yaml(
    chosen: dict[str, Any], base: tuple[float, float], options: dict[str, Any]
) -> None:
    content = {key: value for key, value in CONTENT.items() if key not in ("base", "options")}
    block, run = CoefficientsBlock.model_validate(content), tiny.run_of("studies", selection=chosen)
    study = CoefficientsStudy("coefficients", block, run.params, tiny.PARAMS)
    assert study.entries[2:4] == [
        Entry("alpha-5", "score", {**options, "alpha": 5.0, "beta": base[1]}, "alpha"),
        Entry("beta-0.001", "score", {**options, "alpha": base[0], "beta": 0.001}, "beta"),
    ]
    assert study.settings["study"]["base"] == {"alpha": base[0], "beta": base[1]}
    assert study.settings["study"]["options"] == options


@pytest.mark.parametrize("key", ["alpha", "beta"])
def test_an_option_that_base_sets_is_refused(key: str) -> None:
    block = CoefficientsBlock.model_validate({**CONTENT, "options": {key: 1.0}})
    with pytest.raises(DataError) as error:
        block.check("coefficients")
    assert str(error.value) == (
        f"coefficients.options has '{key}', which coefficients.base sets; remove it from options"
    )
