"""Releases by tag: names, what a repository has, and the cache."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

import dcpipe
from dcpipe import release
from dcpipe.release import tags
from dcpipe.types import DataError


@pytest.mark.parametrize("tag", ["digits@v0.0.1", "imagenet-1k-ipc10@v10.20.30"])
def test_release_tags(tag: str) -> None:
    assert tags.TAG.fullmatch(tag)


@pytest.mark.parametrize(
    "tag", ["digits", "v1.0.0", "Digits@v1.0.0", "a_b@v1.0.0", "a@1.0.0", "a@v01.0.0", "a@v1.0", "-a@v1.0.0"]
)
def test_not_release_tags(tag: str) -> None:
    assert tags.TAG.fullmatch(tag) is None


def test_unknown_tag_lists_those_there_are(repository: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has no release tag 'fish@v1.0.0'; it has no release tags$"):
        dcpipe.load("fish@v1.0.0", repo=repository)
    for tag in ("fish@v2.0.0", "fish@v1.1.0", "not-a-release"):
        tags.git("tag", "-a", tag, "-m", "x", cwd=repository)
    with pytest.raises(DataError, match=r"has no release tag 'fish@v1.0.0'; it has fish@v1.1.0, fish@v2.0.0$"):
        release.pull("fish@v1.0.0", repository, tmp_path / "out")


def test_a_repository_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DCPIPE_CACHE", str(tmp_path))
    with pytest.raises(DataError, match=r"^git ls-remote failed: "):
        dcpipe.load("fish@v1.0.0", repo=tmp_path / "nowhere")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"is not in a git repository; give repo=, the one that has the tag$"):
        dcpipe.load("fish@v1.0.0")


def test_the_cache_follows_the_tag(repository: Path, made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fetched once a commit; fetched again when the tag was moved; the one copy serves when the repository is gone."""
    fetched: list[str] = []

    def download(tag: str, source: str, out: Path) -> Path:
        fetched.append(tag)
        shutil.copytree(made, out)
        return out

    monkeypatch.setattr(tags, "_download", download)
    tags.git("tag", "-a", "fish@v1.0.0", "-m", "x", cwd=repository)
    first = dcpipe.load("fish@v1.0.0", repo=repository)
    assert dcpipe.load("fish", revision="1.0.0", repo=repository).path == first.path
    monkeypatch.chdir(repository)
    assert dcpipe.load("fish", revision="v1.0.0").path == first.path
    assert fetched == ["fish@v1.0.0"]
    git_folder = (repository / ".git").rename(repository / "away")
    assert dcpipe.load("fish@v1.0.0", repo=repository).path == first.path
    git_folder.rename(repository / ".git")
    tags.git("commit", "--quiet", "--allow-empty", "-m", "More", cwd=repository)
    tags.git("tag", "-f", "-a", "fish@v1.0.0", "-m", "x", cwd=repository)
    assert dcpipe.load("fish@v1.0.0", repo=repository).path != first.path
    assert len(fetched) == 2


@pytest.mark.parametrize(
    "address",
    [
        "--upload-pack=touch {mark}; git-upload-pack",
        "--exec=touch {mark}",
        "-u",
        "ext::sh -c touch% {mark}",
        "EXT::touch {mark}",
        "ext://touch {mark}",
        "fd::17",
        "ssh://-oProxyCommand=touch {mark}/x",
        "ssh://a@-oProxyCommand=touch/x",
        "https://host/x\n--upload-pack=touch {mark}",
        "",
    ],
)
def test_what_is_no_address_of_a_repository_never_reaches_git(
    address: str, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = tmp_path / "mark"
    ran: list[tuple[str, ...]] = []
    monkeypatch.setattr(tags, "git", lambda *arguments, cwd=None: ran.append(arguments) or "")
    for use in (
        lambda repo: dcpipe.load("a@v1.0.0", repo=repo),
        lambda repo: tags.pull("a@v1.0.0", repo, tmp_path / "out"),
    ):
        with pytest.raises(DataError, match=r"^(repository |the repository's address is empty)"):
            use(address.format(mark=mark))
    assert ran == [] and not mark.exists()


@pytest.mark.parametrize(
    "address",
    [
        "https://host/a/b.git",
        "http://localhost:3000/x",
        "ssh://git@host:22/a",
        "git@host:a/b.git",
        "host:a",
        "file:///a",
    ],
)
def test_addresses_that_git_takes_are_left_as_they_are(address: str) -> None:
    assert tags._address(address) == address


def test_git_gets_addresses_behind_a_double_dash_and_no_transport_that_starts_programs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: dict[str, Any] = {}

    def fake(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        seen.update(options, command=command)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", fake)
    tags.release_tags("https://host/x")
    assert seen["command"][-2:] == ["--", "https://host/x"]
    assert seen["env"]["GIT_ALLOW_PROTOCOL"] == "file:git:http:https:ssh"
