"""The model of the error of codes with few bits: more of anything never increases the error."""

from itertools import pairwise

import pytest

from dcpipe.compression.error_model import CONSTANT, ROWS, components_leave, features_leave
from dcpipe.compression.quantise import TERNARY, WIDTHS


def test_every_width_has_its_cost_and_fewer_bits_cost_more() -> None:
    assert list(ROWS) == list(WIDTHS) and list(CONSTANT) == [width for width in WIDTHS if width != TERNARY]
    for costs in (ROWS, CONSTANT):
        assert all(0 < finer < coarser < 1 for finer, coarser in pairwise(costs.values()))


@pytest.mark.parametrize("mixed", [False, True])
def test_more_features_leave_less(mixed: bool) -> None:
    assert features_leave(1, mixed) == 1  # the constant alone explains no change
    shares = [features_leave(count, mixed) for count in range(1, 23)]
    assert all(1 >= fewer > more > 0 for fewer, more in pairwise(shares))


@pytest.mark.parametrize("features", [1, 6, 20])
@pytest.mark.parametrize("bits", WIDTHS)
def test_more_components_leave_less(bits: float, features: int) -> None:
    full = 40
    errors = [components_leave(0.5, 0.1, found, full, bits, features) for found in range(full + 1)]
    assert errors[0] == pytest.approx(0.6)  # nothing found: all that the fit and its rounding left
    assert all(fewer > more for fewer, more in pairwise(errors[: full - 2]))
    assert 0 <= errors[-1] < 0.4 * errors[0]
    assert components_leave(0.5, 0.1, 2.5, full, bits, features) < errors[2]  # also where first images have one more
