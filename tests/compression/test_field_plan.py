"""How `field` spends a budget: all choices fit it, and the one with the smallest modelled error is used."""

from dataclasses import asdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dcpipe.compression import payload
from dcpipe.compression.error_model import CONSTANT
from dcpipe.compression.field import Field
from dcpipe.compression.field_plan import Spending, choose, row_cost, smallest, ways
from dcpipe.compression.quantise import WIDTHS
from dcpipe.types import LabelShape

SHAPE = LabelShape(20, 60, 30)
COUNTS = range(1, 21)


def bytes_of(shape: LabelShape, spending: Spending) -> int:
    """Bytes of the arrays that the codec makes with these settings."""
    return payload(Field(**asdict(spending), temperature=0.0, mixed=False, fresh=False).specs(shape))


@settings(deadline=None, max_examples=25)
@given(
    st.builds(LabelShape, st.integers(1, 60), st.integers(1, 80), st.integers(2, 200)), st.floats(2, 300), st.booleans()
)
def test_every_way_fits_the_budget(shape: LabelShape, ratio: float, fresh: bool) -> None:
    budget = max(int(shape.reference_bytes / ratio), smallest(shape, 1, None, None))
    found = list(ways(shape, budget, COUNTS, None, None, None, False, fresh))
    assert found
    for error, spending in found:
        assert error > 0 and bytes_of(shape, spending) <= budget
        assert spending.features in COUNTS and spending.rank < max(
            2, min(spending.features, shape.views, shape.classes)
        )
        assert 0 <= spending.more < shape.images and not (spending.more and spending.residual + spending.extra)
        assert not (fresh and spending.residual + spending.extra)


@pytest.mark.parametrize("ratio", [5, 30, 150])
def test_the_least_error_is_chosen(ratio: int) -> None:
    budget = SHAPE.reference_bytes // ratio
    every = list(ways(SHAPE, budget, COUNTS, None, None, None, False, False))
    chosen = choose(
        SHAPE, budget, counts=COUNTS, bits=None, base_bits=None, residual_bits=None, mixed=False, fresh=False
    )
    errors = {spending: error for error, spending in every}
    assert errors[chosen] == min(errors.values())
    assert len({(spending.features, spending.rank, spending.bits) for spending in errors}) > 20


def test_chosen_options_leave_the_rest_to_the_plan() -> None:
    budget = SHAPE.reference_bytes // 10
    found = list(ways(SHAPE, budget, range(9, 10), 6, 4, 8, False, False))
    assert {(way.features, way.bits, way.base_bits) for _, way in found} == {(9, 6, 4)}
    assert {way.residual_bits for _, way in found} == {8} and {way.rank for _, way in found} > {0, 1}


def test_more_bytes_never_make_the_modelled_error_worse() -> None:
    errors = [
        min(error for error, _ in ways(SHAPE, SHAPE.reference_bytes // ratio, COUNTS, None, None, None, False, False))
        for ratio in (200, 100, 50, 20, 10, 5)
    ]
    assert errors == sorted(errors, reverse=True) and errors[-1] < 0.5 * errors[0]


@pytest.mark.parametrize("features", [1, 2, 6, 20])
@pytest.mark.parametrize("shape", [SHAPE, LabelShape(3, 1, 300), LabelShape(5, 30, 2)])
def test_the_smallest_size_is_possible_and_a_byte_less_is_not(shape: LabelShape, features: int) -> None:
    least, counts = smallest(shape, features, None, None), range(features, features + 1)
    assert min(bytes_of(shape, way) for _, way in ways(shape, least, counts, None, None, None, False, True)) == least
    assert list(ways(shape, least - 1, counts, None, None, None, False, True)) == []


def test_a_row_costs_its_codes_and_scale_and_a_component_its_mixing_too() -> None:
    assert row_cost(SHAPE, 7, 0, 8) == 30 + 2 and row_cost(SHAPE, 7, 3, 8) == 30 + 2 + 7
    assert row_cost(SHAPE, 7, 0, 3) == 12 + 2 and row_cost(SHAPE, 7, 0, 1.6) == 6 + 2
    assert min(CONSTANT) in WIDTHS
