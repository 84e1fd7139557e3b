"""The coding rate of a set of feature vectors, in nats, and SCORE's greedy choice of images by it.

Selection uses it to pick images, and feature extraction to shortlist the images whose label rate is worth computing.
"""

from __future__ import annotations

from dcpipe.coding_rate.greedy import greedy
from dcpipe.coding_rate.rate import Rate
from dcpipe.coding_rate.state import Objective

__all__ = ["Objective", "Rate", "greedy"]
