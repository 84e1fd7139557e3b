"""A release on disk, for the blocks that read one."""

from __future__ import annotations

from pathlib import Path

import pytest
import releases


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release that no test changes."""
    folder = tmp_path_factory.mktemp("release") / "fish"
    releases.build(folder, releases.parts())
    return folder
