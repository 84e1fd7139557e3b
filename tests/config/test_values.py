"""Kinds of values, as a block of params.yaml meets them."""

from __future__ import annotations

from typing import Annotated, Any

import pytest

from dcpipe.config import values
from dcpipe.config.blocks import Block, checked
from dcpipe.types import DataError


class Some(Block):
    """One key of each kind."""

    count: values.Count = 1
    natural: values.Natural = 0
    side: values.Side = 1
    seed: values.Seed = 0
    positive: values.Positive = 1.0
    not_negative: values.NotNegative = 0.0
    at_least_one: values.AtLeastOne = 1.0
    share: values.Share = 0.5
    positive_share: values.PositiveShare = 0.5
    below_one: values.BelowOne = 0.0
    device: values.Device = "cpu"
    strategy: values.Strategy = ""
    seeds: values.Seeds | None = None
    teachers: values.TeacherNames | None = None


LEGAL = {
    "count": [1, 10**9, 2**31 - 1],
    "side": [1, 2**16 - 1],
    "seed": [-(2**63), 2**63 - 1],
    "natural": [0, 7],
    "positive": [1e-300, 3],
    "not_negative": [0, 0.0, 2.5],
    "at_least_one": [1, 1.5],
    "share": [0, 0.3, 1],
    "positive_share": [1e-9, 1],
    "below_one": [0, 0.999],
    "device": ["cpu", "cuda", "cuda:3", "mps"],
    "strategy": ["", "color_crop", "dsa:flip"],
    "seeds": [[3, 1, 2], [-1, 0, 1, 2]],
    "teachers": [["b", "a"]],
}
REFUSED: list[tuple[str, Any, str]] = [
    ("count", 0, "input should be greater than or equal to 1"),
    ("count", 1.0, "input should be a valid integer"),
    ("count", True, "input should be a valid integer"),
    ("count", 2**31, "input should be less than 2147483648"),
    ("natural", 2**31, "input should be less than 2147483648"),
    ("side", 2**16, "input should be less than 65536"),
    ("seed", 2**63, "input should be less than or equal to 9223372036854775807"),
    ("natural", -1, "input should be greater than or equal to 0"),
    ("positive", 0, "input should be greater than 0"),
    ("positive", True, "input should be a valid number"),
    ("positive", "1e-3", "input should be a valid number; YAML needs a point, as in 1.0e-3"),
    ("positive", "-2E5", "input should be a valid number; YAML needs a point, as in 1.0e-3"),
    ("positive", "1.5e3", "input should be a valid number; YAML needs a sign after the e, as in 1.0e+3"),
    ("positive", "3 e", "input should be a valid number"),
    ("not_negative", -1e-9, "input should be greater than or equal to 0"),
    ("not_negative", float("nan"), "input should be a finite number"),
    ("at_least_one", 0.99, "input should be greater than or equal to 1"),
    ("share", 1.01, "input should be less than or equal to 1"),
    ("positive_share", 0, "input should be greater than 0"),
    ("below_one", 1, "input should be less than 1"),
    ("device", "gpu", "string should match pattern '^(cpu|mps|cuda(:\\d+)?)$'"),
    (
        "strategy",
        "blur",
        "siamese: invalid strategy 'blur'; join different names of flip, color, crop, scale, rotate, cutout by _, "
        "as in color_crop, or in dsa:color_crop to apply one of them at a time",
    ),
    ("seeds", [0, 1], "give at least 3 entries"),
    ("seeds", [0, 1, 0], "0 is listed more than once; list each once"),
    ("teachers", [], "give at least 1 entry"),
    ("teachers", ["a", "b", "a"], "'a' is listed more than once; list each once"),
]


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, legal in LEGAL.items() for value in legal])
def test_valid_values_are_not_changed(key: str, value: Any) -> None:
    assert getattr(checked(Some, {key: value}, "here"), key) == value


@pytest.mark.parametrize(("key", "value", "sentence"), REFUSED)
def test_what_is_not_is_refused(key: str, value: Any, sentence: str) -> None:
    with pytest.raises(DataError) as error:
        checked(Some, {key: value}, "here")
    assert str(error.value) == f"here: {key} is {value!r}: {sentence}"


class Chosen(Block):
    """Of tables."""

    near: Annotated[str, values.one_of({"a": 1, "b": 2})] = "a"
    number: Annotated[float, values.one_of([1.6])] = 1.6


def test_a_value_may_be_one_of_a_table() -> None:
    assert checked(Chosen, {"near": "b", "number": 1.6}, "here").near == "b"
    for key, value, legal in (
        ("near", "c", "'a' or 'b'"),
        ("number", 2, "1.6"),
    ):
        with pytest.raises(DataError) as error:
            checked(Chosen, {key: value}, "here")
        assert str(error.value).endswith(f": input should be {legal}")
    assert values.import_name("math:pi") > 3
