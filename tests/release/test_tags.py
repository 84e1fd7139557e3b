"""Releases by tag: names, what a repository has, and the cache."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from targets import sign

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


def test_an_unknown_tag_is_answered_by_those_that_may_be_meant(repository: Path, tmp_path: Path) -> None:
    def told(tag: str) -> str:
        with pytest.raises(DataError) as error:
            release.pull(tag, repository, tmp_path / "out")
        return str(error.value).removeprefix(f"{repository} has no release tag ")

    assert told("fish@v1.0.0") == "'fish@v1.0.0'; it has no release tags"
    for tag in ("fish@v2.0.0", "fish@v10.0.0", "birds@v1.0.0", "not-a-release"):
        tags.git("tag", "-a", tag, "-m", "x", cwd=repository)
    assert told("fish@v1.0.0") == "'fish@v1.0.0'; did you mean fish@v10.0.0 or fish@v2.0.0?"
    assert told("fish") == "'fish', which would be NAME@vX.Y.Z; did you mean fish@v10.0.0 or fish@v2.0.0?"
    assert told("bird@1.0.0") == "'bird@1.0.0', which would be NAME@vX.Y.Z; did you mean birds@v1.0.0?"
    listed = "birds@v1.0.0, fish@v10.0.0, fish@v2.0.0"
    assert told("whales") == f"'whales', which would be NAME@vX.Y.Z; it has {listed}"
    for number in range(9):
        tags.git("tag", "-a", f"set@v{number}.0.0", "-m", "x", cwd=repository)
    assert told("whales@v1.0.0").endswith(
        "fish@v2.0.0, set@v0.0.0, set@v1.0.0, set@v2.0.0, set@v3.0.0, set@v4.0.0, set@v5.0.0, set@v6.0.0 and others"
    )


def test_a_repository_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DCPIPE_CACHE", str(tmp_path))
    with pytest.raises(DataError, match=r"^git ls-remote failed: "):
        dcpipe.load("fish@v1.0.0", repo=tmp_path / "nowhere")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        DataError, match=r"is not in a git repository; give repo= \(or --repo\), the one that has the tag$"
    ):
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


# --- from a repository through DVC ---

dvcs_warnings = pytest.mark.filterwarnings("ignore")  # of the libraries that DVC uses


@pytest.fixture
def tracked(repository: Path, made: Path) -> Path:
    """The repository with a release under DVC and a tag."""
    from dvc.repo import Repo

    with Repo.init(str(repository)) as repo:
        shutil.copytree(made, repository / tags.RELEASE)
        repo.add(str(repository / tags.RELEASE))
    commit(repository)
    return repository


def commit(repository: Path) -> None:
    tags.git("add", "-A", cwd=repository)
    tags.git("commit", "--quiet", "-m", "Release", cwd=repository)
    tags.git("tag", "-f", "-a", "fish@v1.0.0", "-m", "x", cwd=repository)


def relist(repository: Path, change: Callable[[list[dict[str, str]]], object]) -> None:
    """Change DVC's list of the files in data/release, as its owner could."""
    pointer = repository / f"{tags.RELEASE}.dvc"
    content = yaml.safe_load(pointer.read_text(encoding="utf-8"))
    cache, old = repository / ".dvc/cache/files/md5", content["outs"][0]["md5"].removesuffix(".dir")
    entries = json.loads((cache / old[:2] / f"{old[2:]}.dir").read_bytes())
    change(entries)
    data = json.dumps(entries).encode()
    new = hashlib.md5(data).hexdigest()
    (cache / new[:2]).mkdir(exist_ok=True)
    (cache / new[:2] / f"{new[2:]}.dir").write_bytes(data)
    content["outs"][0]["md5"] = f"{new}.dir"
    pointer.write_text(yaml.safe_dump(content), encoding="utf-8")
    commit(repository)


@dvcs_warnings
def test_a_release_is_pulled_as_it_was_published(tracked: Path, made: Path, tmp_path: Path) -> None:
    artifact = release.pull("fish@v1.0.0", tracked, tmp_path / "out")
    assert {path.name: path.read_bytes() for path in artifact.path.iterdir()} == {
        path.name: path.read_bytes() for path in made.iterdir()
    }


@dvcs_warnings
@pytest.mark.parametrize("kind", ["hardlink", "symlink"])
@pytest.mark.parametrize("stored", ["cache", "remote"])
def test_what_is_pulled_is_no_link_to_what_others_use(kind: str, stored: str, tracked: Path, tmp_path: Path) -> None:
    """A cache, or a remote on the same disk, from which DVC would link."""
    from dvc.repo import Repo

    with Repo(str(tracked)) as repo:
        with repo.config.edit() as config:
            config["cache"]["type"] = kind
            if stored == "remote":
                config["remote"]["near"] = {"url": str(tmp_path / "near"), "type": kind}
                config["core"]["remote"] = "near"
        if stored == "remote":
            repo.config.load()
            repo.push()
            shutil.rmtree(tracked / ".dvc/cache")
    commit(tracked)
    out = release.pull("fish@v1.0.0", tracked, tmp_path / "out").path
    place = tracked / ".dvc/cache" if stored == "cache" else tmp_path / "near"
    before = {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}
    umask = os.umask(0)
    os.umask(umask)
    for path in out.iterdir():
        status = path.lstat()
        assert (status.st_mode, status.st_nlink) == (stat.S_IFREG | 0o666 & ~umask, 1)
        path.write_bytes(b"changed")
    assert len(before) >= 6 and {path: path.read_bytes() for path in before} == before


def test_without_dvc_a_tag_is_refused_and_a_folder_is_read(
    repository: Path, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "dvc", None)
    monkeypatch.chdir(repository)
    tags.git("tag", "-a", "fish@v1.0.0", "-m", "x", cwd=repository)
    told = 'DVC, which fetches releases by their tags, is not installed; run `pip install "dcpipe[dvc]"`'
    for use in (
        lambda: dcpipe.load("fish@v1.0.0"),
        lambda: release.pull("fish@v1.0.0", None, tmp_path / "out"),
    ):
        with pytest.raises(DataError) as error:
            use()
        assert str(error.value) == told
    dataset = dcpipe.load(made).dataset()
    assert sum(len(images) for images, _ in dcpipe.CondensedLoader(dataset, 5)) == 12


def test_without_git_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(DataError, match=r"^git is not installed, and releases have git tags; install git$"):
        dcpipe.load("fish@v1.0.0", repo="https://host/x")


@dvcs_warnings
@pytest.mark.parametrize("name", ["../outside", "../../../outside", "{root}/outside", "a/../../outside", "..", ""])
def test_what_dvc_lists_beyond_the_manifest_is_not_fetched(name: str, tracked: Path, tmp_path: Path) -> None:
    """A name in DVC's list may lead anywhere; the release's own manifest says what is copied."""
    root = tmp_path / "a" / "b"
    root.mkdir(parents=True)
    relist(tracked, lambda entries: entries.append({**entries[0], "relpath": name.format(root=root)}))
    before = {path for path in tmp_path.rglob("*") if path.name == "outside"}
    try:
        artifact = release.pull("fish@v1.0.0", tracked, root / "out")
    except DataError:
        assert not (root / "out").exists()
    else:
        assert {path.name for path in artifact.path.iterdir()} == {*artifact.files, "artifact.json"}
    assert {path for path in tmp_path.rglob("*") if path.name == "outside"} == before == set()


@dvcs_warnings
def test_a_manifest_that_leads_out_of_the_folder_is_refused_before_anything_is_fetched(
    repository: Path, made: Path, tmp_path: Path
) -> None:
    from dvc.repo import Repo

    shutil.copytree(made, repository / tags.RELEASE)
    path = repository / tags.RELEASE / "artifact.json"
    content = json.loads(path.read_bytes())
    content["files"]["../outside"] = content["files"]["images.parquet"]
    sign(path, content)
    with Repo.init(str(repository)) as repo:
        repo.add(str(repository / tags.RELEASE))
    commit(repository)
    with pytest.raises(DataError, match=r"a name of a file must be relative and lead nowhere out of the folder"):
        release.pull("fish@v1.0.0", repository, tmp_path / "out")
    assert not (tmp_path / "out").exists() and not list(tmp_path.rglob("outside"))
