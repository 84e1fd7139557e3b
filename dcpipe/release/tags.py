"""The git tags NAME@vX.Y.Z (in the format of gto) that name the versions of a release, and how to fetch a version.

The tag names a commit, the dvc.lock of the commit contains a content hash, and the hash is looked up in a DVC remote
(or in the cache of the repository). `dvc get REPO data/release --rev TAG` fetches the same bytes. Where the workspace
is a folder of the repository (`dvc init --subdir`), the message of the tag says which.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from dcpipe import store
from dcpipe.store.documents import reason, shown
from dcpipe.store.files import replacing
from dcpipe.store.manifest import MANIFEST, read_manifest
from dcpipe.types import DataError, require
from dcpipe.types.names import one_of, similar
from dcpipe.types.paths import local_path

TAG = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*@v(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)")
RELEASE = "data/release"
WORKSPACE = "workspace "  # begins a line in the message of a tag
_PLACE = re.compile(r"[\w.+ -]+(/[\w.+ -]+)*")
_LISTED = 10  # tags of a repository in a message
TRANSPORTS = ("file", "git", "http", "https", "ssh")
_URL = re.compile(r"([a-z][a-z0-9+.-]*)://([^/]*)", re.IGNORECASE)


def git(*arguments: str, cwd: Path | None = None) -> str:
    """The output of a git command; raises `DataError` with the fatal error of git, or else its last line."""
    # No prompt: if a repository needs a password, the command must fail, not wait. The allowed transports only move
    # data; others (`ext::`) start a program that the address names.
    environment = {**os.environ, "GIT_TERMINAL_PROMPT": "0", "GIT_ALLOW_PROTOCOL": ":".join(TRANSPORTS)}
    require(shutil.which("git") is not None, "git is not installed, and releases have git tags; install git")
    done = subprocess.run(["git", *arguments], cwd=cwd, env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        lines = (done.stderr.strip() or "no message").splitlines()
        reason = next((line for line in lines if line.startswith(("fatal:", "error:"))), lines[-1])
        raise DataError(f"git {arguments[0]} failed: {reason.rstrip('.')}; correct it and run again")
    return done.stdout


def need_dvc(work: str, extra: str = "dvc") -> None:
    """Raise `DataError` if DVC is not installed, which does some `work` and comes with an extra of dcpipe. Reading a
    folder or a URL does not need it."""
    require(find_spec("dvc") is not None, f'DVC, which {work}, is not installed; run `pip install "dcpipe[{extra}]"`')


def repository_of(folder: Path) -> Path | None:
    """The git repository around a folder, None if there is none."""
    try:
        return Path(git("rev-parse", "--show-toplevel", cwd=folder).strip())
    except DataError:
        return None


def current_repository() -> str:
    """The git repository around the current folder."""
    found = repository_of(Path.cwd())
    if found is None:
        raise DataError(f"{Path.cwd()} is not in a git repository; give repo= (or --repo), the one that has the tag")
    return str(found)


def release_tags(repo: str) -> dict[str, str]:
    """The release tags of a repository (path or URL), with the git object that each one names."""
    lines = (line.split("\t") for line in git("ls-remote", "--tags", "--refs", "--", repo).splitlines())
    tags = {reference.removeprefix("refs/tags/"): name for name, reference in lines}
    return {tag: name for tag, name in tags.items() if TAG.fullmatch(tag)}


def is_place(place: str) -> bool:
    """Whether a text can be the path of a workspace in its repository. A stranger's tag states it."""
    return _PLACE.fullmatch(place) is not None and not {".", "..", ".git", ".dvc"} & set(place.split("/"))


def cache_root() -> Path:
    """`DCPIPE_CACHE`, or `~/.cache/dcpipe`."""
    return local_path(os.environ.get("DCPIPE_CACHE") or "~/.cache/dcpipe", "DCPIPE_CACHE").expanduser().absolute()


def fetch(tag: str, repo: str | Path | None) -> Path:
    """The folder of a tag's release in the cache; it is fetched if it is not there yet.

    The cache is keyed by repository, tag and git object, so a tag that was moved is fetched again. If the repository
    cannot be reached and exactly one version of the tag is cached, that version is used.
    """
    source = _address(repo)
    require(TAG.fullmatch(tag) is not None, f"{tag!r} is not a release tag; write NAME@vX.Y.Z")
    versions = cache_root() / hashlib.sha256(source.encode()).hexdigest()[:12] / tag
    try:
        known = release_tags(source)
    except DataError:
        cached = [path for path in versions.glob("*") if path.is_dir() and not path.name.startswith(".")]
        if len(cached) == 1:
            return cached[0]
        raise
    folder = versions / _object(tag, known, source)[:12]
    return folder if folder.is_dir() else _download(tag, source, folder)


def pull(tag: str, repo: str | Path | None, out: Path) -> store.Artifact:
    """Fetch the release of a tag into the new folder `out` and verify it.

    `out` appears only when it is complete. Raises `DataError` if `out` exists, if the tag is unknown (with a list of
    the known ones), if the data is in no remote, or if bytes differ from the digests of the release.
    """
    source = _address(repo)
    out = local_path(out, "the folder of a pulled release")
    require(not os.path.lexists(out), f"{out} exists; give a folder that does not, or remove it")
    _object(tag, release_tags(source), source)
    return store.open_artifact(_download(tag, source, out), "release", again=True)


def _address(repo: str | Path | None) -> str:
    """The absolute path of a folder; a URL, or git's user@host:path, is returned unchanged.

    The address may come from an untrusted source, so `DataError` is raised for one that git or ssh would take for an
    option or for the name of a program to start.
    """
    if repo is None:
        return current_repository()
    text = str(repo)
    require(bool(text.strip()), "the repository's address is empty; give a folder or a URL")
    require(
        not text.startswith("-") and text.isprintable(),
        f"repository {text!r} looks like an option, not an address; give a folder or a URL",
    )
    if Path(text).is_dir():
        return str(Path(text).absolute())
    url = _URL.match(text)
    scheme = url[1].lower() if url is not None else "file"
    require(
        scheme in TRANSPORTS and "::" not in text.split("/")[0],
        f"repository {text!r} uses a transport that may start a program; give a folder, or a URL of "
        f"{', '.join(TRANSPORTS)}",
    )
    require(
        url is None or not any(part.startswith("-") for part in url[2].split("@")),
        f"repository {text!r} has a host that starts with a dash, which ssh takes for an option; correct the URL",
    )
    return text


def _object(tag: str, known: dict[str, str], source: str) -> str:
    """The git object of a tag. Raises `DataError`, with the tags that may have been meant, if there is none."""
    if tag not in known:
        newest = sorted(known, key=_version, reverse=True)
        names = similar(tag.split("@")[0], list(dict.fromkeys(other.split("@")[0] for other in newest)))
        meant = [other for other in newest if other.split("@")[0] in names][:5]
        listed = ", ".join(sorted(known)[:_LISTED]) + (" and others" if len(known) > _LISTED else "")
        hint = f"did you mean {one_of(meant)}?" if meant else f"it has {listed or 'no release tags'}"
        form = "" if TAG.fullmatch(tag) else ", which would be NAME@vX.Y.Z"
        raise DataError(f"{source} has no release tag {tag!r}{form}; {hint}")
    return known[tag]


def _version(tag: str) -> list[int]:
    """X, Y and Z of a tag."""
    return [int(number) for number in tag.rpartition("@v")[2].split(".")]


def _download(tag: str, source: str, out: Path) -> Path:
    """Download the release of a tag to a temporary folder next to `out`, verify it and rename it to `out`."""
    need_dvc("fetches releases by their tags")
    from dvc.api import DVCFileSystem
    from dvc.exceptions import DvcException
    from dvc_data.index import DataIndexError

    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".pull-", dir=out.parent) as temporary:
        folder = Path(temporary) / "release"
        try:
            files = DVCFileSystem(source, rev=tag)
            place = _place(files.repo.scm.get_tag(tag), tag)
            if place:
                files = DVCFileSystem(source, rev=tag, subrepos=True)
            release = f"{place}/{RELEASE}" if place else RELEASE
            tracked = files.exists(release)
            if tracked:
                _get(files, release, folder)
        except (DvcException, DataIndexError, FileNotFoundError) as error:
            raise DataError(
                f"{tag} is in no storage that {source} names ({_first_line(error)}); "
                "ask its owner to run `dvc push` to a remote with an absolute URL"
            ) from error
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            if isinstance(error, DataError):
                raise
            raise DataError(
                f"{source} at {tag} is no repository that DVC can read ({reason(error)}); ask its owner to publish it"
            ) from error
        require(tracked, f"{source} does not track {RELEASE} at {tag}; give the repository that published it")
        store.open_artifact(folder, "release", again=True)
        folder.replace(out)
    return out


def _place(tag: Any, name: str) -> str:
    """The path of the workspace in the repository, as the message of a tag states it; "" for the whole repository, and
    for a tag without a message. Raises `DataError` for a path that leads elsewhere."""
    lines = str(getattr(tag, "message", "")).splitlines()
    place = next((line.removeprefix(WORKSPACE) for line in lines if line.startswith(WORKSPACE)), "")
    require(
        not place or is_place(place),
        f"tag {name} says that its workspace is {shown(place)}, which is no folder of a repository; ask its owner",
    )
    return place


def _get(files: Any, release: str, folder: Path) -> None:
    """Copy the manifest of a release, then the files that it lists, whose names are checked. A copy of the whole folder
    would follow a stranger's list in DVC, where a name may be anything."""
    folder.mkdir()
    _copy(files, f"{release}/{MANIFEST}", folder / MANIFEST)
    for name in read_manifest(folder, store.SCHEMA, "release").files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        _copy(files, f"{release}/{name}", folder / name)


def _copy(files: Any, name: str, path: Path) -> None:
    """Get one file. Where DVC links it to a cache or a remote on this disk, the link becomes a file of its own, because
    whoever pulls may write to what they pulled."""
    files.get_file(name, str(path))
    if path.is_symlink() or path.stat().st_nlink > 1:
        with replacing(path) as own:
            shutil.copyfile(path, own)


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
