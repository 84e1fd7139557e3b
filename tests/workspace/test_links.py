"""How DVC gives files to a workspace: one kind of link, found by trying, in a file that Git ignores."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
from dvc.config import Config
from dvc_objects.fs import system

from dcpipe.types import DataError
from dcpipe.workspace import links


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc/config").write_text('[cache]\n    type = "reflink,hardlink,copy"\n', encoding="utf-8")
    return tmp_path


def refuse(monkeypatch: pytest.MonkeyPatch, *kinds: str) -> None:
    def refused(source: str, link: str) -> None:
        raise OSError(errno.EOPNOTSUPP, "not on this disk")

    for kind in kinds:
        monkeypatch.setattr(system, kind, refused)


def chosen(root: Path) -> object:
    """What DVC itself reads."""
    return Config(str(root / ".dvc"))["cache"]["type"]


def local(root: Path, text: str) -> None:
    (root / ".dvc/config.local").write_text(f"[cache]\n    {text}\n", encoding="utf-8")


def test_what_the_disk_can_do_is_seen_by_doing_it(root: Path) -> None:
    cache = root / "cache"
    cache.mkdir()
    assert links.possible("hardlink", cache, root)
    assert not links.possible("hardlink", cache, Path("/dev/shm")) or not Path("/dev/shm").is_dir()
    assert [*cache.iterdir()] == []


def test_a_hard_link_alone_where_there_are_no_reflinks(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse(monkeypatch, "reflink")
    [told] = links.set_up(root)
    assert told == (
        "DVC gives files to this workspace by hardlink (.dvc/config.local), so that nothing is stored twice."
    )
    assert chosen(root) == ["hardlink"]
    assert "hardlink,copy" in (root / ".dvc/config").read_text(encoding="utf-8"), "what Git has is for every disk"
    assert links.set_up(root) == []  # it is done once


def test_a_reflink_where_there_are_some(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system, "reflink", lambda source, link: Path(link).write_bytes(Path(source).read_bytes()))
    links.set_up(root)
    assert chosen(root) == ["reflink"]


def test_copies_where_nothing_links(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    local(root, "dir = ../elsewhere")
    refuse(monkeypatch, "reflink", "hardlink")
    [told] = links.set_up(root)
    assert f"DVC's cache in {root / 'elsewhere'}, so DVC keeps a second copy of all data." in told
    assert told.endswith("dvc config --local cache.dir FOLDER")
    assert chosen(root) == ["copy"]
    assert Config(str(root / ".dvc"))["cache"]["dir"] == str(root / "elsewhere"), "what was there stays there"


@pytest.mark.parametrize("kind", ["copy", "symlink", "hardlink,copy", "hardlink"])
def test_a_choice_that_works_is_kept(kind: str, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    local(root, f'type = "{kind}"')
    refuse(monkeypatch, "reflink")
    assert links.set_up(root) == []
    assert chosen(root) == kind.split(",")


def test_a_link_that_the_disk_cannot_make_is_replaced(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    local(root, "type = reflink")  # the workspace was moved here from another disk
    refuse(monkeypatch, "reflink")
    assert len(links.set_up(root)) == 1
    assert chosen(root) == ["hardlink"]


def test_what_is_stored_already_is_mentioned(root: Path) -> None:
    (root / ".dvc/cache/files/md5").mkdir(parents=True)
    assert links.set_up(root)[1] == (
        "What was stored before is still there twice; `dvc checkout --relink` changes that."
    )


def test_a_folder_without_dvc_is_left_alone(tmp_path: Path) -> None:
    assert links.set_up(tmp_path) == []
    assert [*tmp_path.iterdir()] == []


def test_settings_that_cannot_be_read(root: Path) -> None:
    (root / ".dvc/config.local").write_text("[cache\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"the settings of DVC in .* cannot be read .*; correct them"):
        links.set_up(root)
