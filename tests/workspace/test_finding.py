"""The workspace around a folder."""

from __future__ import annotations

from pathlib import Path

from dcpipe.workspace.finding import root_of


def test_the_nearest_workspace_is_found_from_any_folder_in_it(tmp_path: Path) -> None:
    for place in ("outer", "outer/data/study", "outer/studies/deep", "outer/inner/data", "beside"):
        (tmp_path / place).mkdir(parents=True)
    for place in ("outer", "outer/inner", "outer/studies"):
        (tmp_path / place / "params.yaml").touch()
    for place, root in (
        ("outer", "outer"),
        ("outer/data/study", "outer"),
        ("outer/studies", "outer"),
        ("outer/studies/deep", "outer"),
        ("outer/inner", "outer/inner"),
        ("outer/inner/data", "outer/inner"),
    ):
        assert root_of(tmp_path / place) == tmp_path / root
    assert root_of(tmp_path / "beside") is None


def test_a_workspace_may_be_called_studies(tmp_path: Path) -> None:
    (tmp_path / "studies").mkdir()
    (tmp_path / "studies/params.yaml").touch()
    assert root_of(tmp_path / "studies") == tmp_path / "studies"
