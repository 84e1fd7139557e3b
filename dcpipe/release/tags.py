"""NAME@vX.Y.Z: the git tags (as gto makes them) that name a release's versions, and how a version is fetched.

The tag leads to a commit, its dvc.lock to a content hash, and the hash to a DVC remote (or the repository's own
cache). `dvc get REPO data/release --rev TAG` fetches the same bytes.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import tempfile
from pathlib import Path

from dcpipe import store
from dcpipe.types import DataError, require

TAG = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*@v(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)")
RELEASE = "data/release"
TRANSPORTS = ("file", "git", "http", "https", "ssh")
_URL = re.compile(r"([a-z][a-z0-9+.-]*)://([^/]*)", re.IGNORECASE)


def git(*arguments: str, cwd: Path | None = None) -> str:
    """Output of a git command; raises `DataError` with what git calls its fatal error, or else its last line."""
    # No prompt: a repository that wants a password must fail, not wait. And no transport that starts a program of the
    # address's choice (`ext::`): these are the ones that only move data.
    environment = {**os.environ, "GIT_TERMINAL_PROMPT": "0", "GIT_ALLOW_PROTOCOL": ":".join(TRANSPORTS)}
    done = subprocess.run(["git", *arguments], cwd=cwd, env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        lines = (done.stderr.strip() or "no message").splitlines()
        reason = next((line for line in lines if line.startswith(("fatal:", "error:"))), lines[-1])
        raise DataError(f"git {arguments[0]} failed: {reason.rstrip('.')}; correct it and run again")
    return done.stdout


def current_repository() -> str:
    """The git repository around the current folder."""
    try:
        return git("rev-parse", "--show-toplevel").strip()
    except DataError as error:
        raise DataError(f"{Path.cwd()} is in no git repository; give repo=, the one that has the tag") from error


def release_tags(repo: str) -> dict[str, str]:
    """Release tag -> the git object it names, of a path or URL."""
    lines = (line.split("\t") for line in git("ls-remote", "--tags", "--refs", "--", repo).splitlines())
    found = {reference.removeprefix("refs/tags/"): name for name, reference in lines}
    return {tag: name for tag, name in found.items() if TAG.fullmatch(tag)}


def cache_root() -> Path:
    """`DCPIPE_CACHE`, or `~/.cache/dcpipe`."""
    return Path(os.environ.get("DCPIPE_CACHE", "~/.cache/dcpipe")).expanduser().absolute()


def fetch(tag: str, repo: str | Path | None) -> Path:
    """Folder of a tag's release in the cache, fetched when it is not there yet.

    The cache is keyed by repository, tag and git object, so a tag that was moved is fetched again. Where the
    repository cannot be reached, a single cached version of the tag serves.
    """
    source = _address(repo)
    require(TAG.fullmatch(tag) is not None, f"{tag!r} is not a release tag; write NAME@vX.Y.Z")
    shelf = cache_root() / hashlib.sha256(source.encode()).hexdigest()[:12] / tag
    try:
        known = release_tags(source)
    except DataError:
        cached = [path for path in shelf.glob("*") if path.is_dir() and not path.name.startswith(".")]
        if len(cached) == 1:
            return cached[0]
        raise
    folder = shelf / _object(tag, known, source)[:12]
    return folder if folder.is_dir() else _download(tag, source, folder)


def pull(tag: str, repo: str | Path | None, out: Path) -> store.Artifact:
    """Fetch a tag's release into the new folder `out`, verified.

    `out` appears whole or not at all. Raises `DataError` when `out` exists, the tag is unknown (listing those there
    are), the data is in no remote, or bytes differ from what the release recorded.
    """
    source = _address(repo)
    require(not out.exists(), f"{out} exists; give a folder that does not, or remove it")
    _object(tag, release_tags(source), source)
    return store.open_artifact(_download(tag, source, out), "release")


def _address(repo: str | Path | None) -> str:
    """A folder as an absolute path; a URL, or git's user@host:path, as it is.

    Raises `DataError` for an address that git or ssh would take for an option, or for the name of a program to start:
    it may come from a stranger.
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
    listed = ", ".join(sorted(known)) or "no release tag at all"
    require(tag in known, f"{source} has no release tag {tag!r}; it has {listed}")
    return known[tag]


def _download(tag: str, source: str, out: Path) -> Path:
    """The release of a tag at `out`, by way of a folder beside it and one rename."""
    from dvc.api import DVCFileSystem
    from dvc.exceptions import DvcException
    from dvc_data.index import DataIndexError

    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".pull-", dir=out.parent) as beside:
        folder = Path(beside) / "release"
        try:
            files = DVCFileSystem(source, rev=tag)
            tracked = files.exists(RELEASE)
            if tracked:
                files.get(RELEASE, str(folder), recursive=True)
        except (DvcException, DataIndexError, FileNotFoundError) as error:
            raise DataError(
                f"{tag} is in no storage that {source} names ({_first_line(error)}); "
                "ask its owner to run `dvc push` to a remote with an absolute URL"
            ) from error
        require(tracked, f"{source} at {tag} tracks no {RELEASE}; give the repository that published it")
        store.open_artifact(folder, "release")
        folder.replace(out)
    return out


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
