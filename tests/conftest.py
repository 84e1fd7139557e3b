"""What every test file may ask for: few threads, a scratch folder of its own, and real images where there are any."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings
from object_store import bucket

__all__ = ["bucket"]  # a fixture for all tests

ROOT = Path(__file__).resolve().parents[1]


def pytest_configure() -> None:
    # A busy machine is no fault of a strategy: how long inputs take to make is no reason to fail.
    settings.register_profile("dcpipe", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("dcpipe")
    torch.set_num_threads(1)  # more only slow tiny tensors down, threefold where the cores are shared


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """With `-m pipeline`, only files with such tests are read: reading ten thousand others takes half a minute a
    process."""
    if config.option.markexpr != "pipeline" or collection_path.suffix != ".py":
        return None
    return "pytest.mark.pipeline" not in collection_path.read_text(encoding="utf-8") or None


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty scratch folder; the workspace is the test's temporary folder."""
    root = tmp_path / "scratch"
    monkeypatch.setenv("DCPIPE_SCRATCH", str(root))
    monkeypatch.chdir(tmp_path)
    return root


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real Parquet sets; skips where there is none."""
    folder = Path(os.environ.get("DCPIPE_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real images: {folder} is absent (set DCPIPE_TEST_DATA)")
    return folder
