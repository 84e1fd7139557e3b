"""Parameters with every default filled in: the same when read again, and every option is named."""

from __future__ import annotations

import pytest
import yaml

from dcpipe.config import check, params, presets

DIGITS = yaml.safe_load(presets.text("digits"))


def equal(one: params.Params, other: params.Params) -> bool:
    """Whether two say the same, however much of it is written down."""
    return check.resolved(one) == check.resolved(other)


@pytest.mark.parametrize("name", ["digits", "digits-edc", "digits-mdc", "cifar10-edc-ipc10", "cifar10-dream-ipc10"])
def test_resolved_parameters_are_the_same_when_read_again(name: str) -> None:
    first = params.parse(yaml.safe_load(presets.text(name)))
    again = params.parse(yaml.safe_load(yaml.safe_dump(check.resolved(first))))
    assert equal(first, again)
    for block in params.Params.model_fields:
        one, other = getattr(first, block), getattr(again, block)
        plain = {"options": None} if hasattr(one, "options") else {}
        assert one.model_copy(update=plain) == other.model_copy(update=plain)


def test_resolved_parameters_name_every_option() -> None:
    first = params.parse(DIGITS)
    filled = check.resolved(first)
    assert filled["selection"]["options"] == {
        **{"alpha": 0.1, "beta": 0.1, "eps2": 0.5, "coefficient": "growing", "order": "rounds"},
        **{"precision": "float64", "device": "cpu", "typical": 1.0, "start": "greedy"},
    }
    assert filled["compression"]["options"]["parts"] == "fitted"
    assert filled["evaluation"]["precision"] == "auto" and filled["softlabels"]["augmentation"]["mix_box"] == "rounded"
    mdc = params.parse({**DIGITS, "synthesis": {"method": "mdc", "options": {"options": {"factor": 1}}}})
    nested = check.resolved(mdc)["synthesis"]["options"]
    assert nested["options"]["outer"] == 2000 and nested["options"]["factor"] == 1 and nested["period"] == 100
    assert mdc.synthesis.options == {"options": {"factor": 1}}, "params keep what was written"
