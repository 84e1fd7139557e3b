"""Sizes of transforms."""

from __future__ import annotations

import pytest

from dcpipe.types import DataError, check_whitened_size
from dcpipe.types.whitening import matrix_bytes


def test_matrices_of_large_images_are_refused_with_their_bytes() -> None:
    assert matrix_bytes(32) == 4 * 3072**2
    check_whitened_size(64)
    with pytest.raises(
        DataError, match=r"images of 224 x 224 pixels has 90,634,715,136 bytes.*images.size to 64 or less"
    ):
        check_whitened_size(224)
