"""Every test that asks for `kind` runs once for each noun."""

from __future__ import annotations

import pytest
from kinds import KINDS, Kind


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    return KINDS[request.param]
