"""The coding rate of pictures: how many nats it takes to tell a set of feature vectors apart, and the greedy choice
that SCORE makes by it. Used to select images, and to shortlist the images whose label rate is worth measuring."""

from __future__ import annotations

from dcpipe.coding_rate.greedy import Objective, greedy
from dcpipe.coding_rate.rate import Rate

__all__ = ["Objective", "Rate", "greedy"]
