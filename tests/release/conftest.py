"""A release on disk, and a git repository to publish from."""

from __future__ import annotations

from pathlib import Path

import pytest
import releases
import yaml

from dcpipe.release import tags


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release that no test changes."""
    folder = tmp_path_factory.mktemp("release") / "fish"
    releases.build(folder, releases.parts())
    return folder


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A git repository with params.yaml, one commit, and an identity that is nobody's."""
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "A Tester")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "tester@example.org")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    monkeypatch.setenv("DCPIPE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("DCPIPE_REMOTE", str(tmp_path / "remote"))
    root = tmp_path / "workspace"
    root.mkdir()
    tags.git("init", "--quiet", cwd=root)
    content = releases.settings("fish").model_dump(mode="json")
    (root / "params.yaml").write_text(yaml.safe_dump(content))
    tags.git("add", "-A", cwd=root)
    tags.git("commit", "--quiet", "-m", "Begin", cwd=root)
    return root
