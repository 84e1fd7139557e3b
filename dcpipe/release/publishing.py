"""Create the tag of a release. Others rely on it afterwards, so everything is checked first."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from dcpipe import store
from dcpipe.config import params as parameters
from dcpipe.release.tags import RELEASE, TAG, WORKSPACE, git, is_place, need_dvc, release_tags, repository_of
from dcpipe.types import DataError, require
from dcpipe.types.paths import is_url, local_path


def publish(
    tag: str,
    *,
    push: bool = True,
    with_stages: bool = False,
    remote: str | None = None,
    workspace: Path | None = None,
    say: Callable[[str], None] = print,
) -> None:
    """Tag the workspace's current commit as a release, after `dvc push data/release`.

    Args:
        tag: NAME@vX.Y.Z, where NAME is `release.name` of params.yaml; it must be new.
        push: copy the release to the default DVC remote first. Without a push, only those who can reach the cache of
            this workspace can fetch the tag.
        with_stages: push the outputs of all other stages too, among them the source images. What they are, their bytes
            and the licence are said before anything is pushed.
        remote: the path or URL that becomes the default DVC remote if there is none; by default a local folder does
            (`DCPIPE_REMOTE`, or `~/.local/share/dcpipe/remote`). .dvc/config is committed then, because whoever pulls
            the tag finds the remote there.
        workspace: the root of the repository; by default the current folder.
        say: called with messages about what was done and what to do next.

    Raises `DataError`, without changing anything, if the tag is malformed, exists or has another name, if git has
    uncommitted changes, if `dvc repro` would run a stage, if git does not know who tags, or if another default remote
    is set than `remote`.
    """
    root = Path.cwd() if workspace is None else workspace
    place = _check_tag(tag, root)
    _check_committed(root)
    _check_reproduced(root)
    _check_identity(root)
    new_remote = _remote_to_set(root, remote) if push else None
    digest = store.open_artifact(root / RELEASE, "release", again=True).digest
    if push:
        if new_remote is not None:
            _set_remote(root, new_remote, say)
        if with_stages:
            _list_stages(root, say)
        _dvc("push", *([] if with_stages else [RELEASE]), cwd=root)
    message = f"{tag}\n\nrelease digest {digest}" + (f"\n{WORKSPACE}{place}" if place else "")
    git("tag", "--annotate", tag, "--message", message, cwd=root)
    say(f"Tagged {tag}; its content is {digest[:12]}.")
    say(f"Next: git push origin HEAD {tag}")


def _check_repository(root: Path) -> tuple[Path, str]:
    """The repository of a workspace, and the workspace's path in it; "" if it is the whole repository."""
    top = repository_of(root)
    if top is None:
        raise DataError(f"{root} is in no git repository; run `git init` and `dvc init`, then commit")
    if top.resolve() == root.resolve():
        return top, ""
    require(
        (root / ".dvc").is_dir(),
        f"{root} is a subfolder of the git repository {top}, in which DVC was not initialised; run "
        "`dvc init --subdir` in it, then commit",
    )
    place = root.resolve().relative_to(top.resolve()).as_posix()
    require(
        is_place(place),
        f"{root} is in folders whose names have special characters, which a tag cannot state; rename them",
    )
    return top, place


def _check_tag(tag: str, root: Path) -> str:
    """The workspace's path in its repository, if this tag may be made."""
    require(
        TAG.fullmatch(tag) is not None, f"{tag!r} is not a release tag; write NAME@vX.Y.Z, e.g. digits-score@v1.0.0"
    )
    name = parameters.load(root / "params.yaml").release.name
    given = tag.split("@")[0]
    require(given == name, f"tag {tag!r} names {given!r}, but release.name in params.yaml is {name!r}; make them equal")
    top, place = _check_repository(root)
    require(tag not in release_tags(str(top)), f"tag {tag} exists; a release never changes, so raise the version")
    return place


def _check_committed(root: Path) -> None:
    changed = git("status", "--porcelain", "--", ".", cwd=root).splitlines()
    if changed:
        changes = f"{len(changed)} uncommitted change{'' if len(changed) == 1 else 's'}"
        raise DataError(
            f"git has {changes}, first {changed[0].strip()!r}; run `git add -A` and `git commit -m Build`, or remove "
            "what does not belong to the release"
        )


def _check_reproduced(root: Path) -> None:
    stale = json.loads(_dvc("status", "--json", "dvc.yaml", cwd=root))  # the pipeline without the studies
    require(not stale, f"not reproduced: {', '.join(stale)} would run again; run `dvc repro`, then commit dvc.lock")


def _check_identity(root: Path) -> None:
    try:
        git("var", "GIT_COMMITTER_IDENT", cwd=root)
    except DataError as error:
        raise DataError(
            "git does not know who makes the tag; run `git config user.name NAME` and `git config user.email ADDRESS`, "
            "then publish again"
        ) from error


def _remote_to_set(root: Path, wanted: str | None) -> str | None:
    """The absolute path or URL that has to become the default remote; None if there is one."""
    name = _dvc("config", "core.remote", cwd=root).strip()
    if name:
        url = _dvc("config", f"remote.{name}.url", cwd=root).strip()
        require(
            wanted is None or wanted in (name, url) or _absolute(wanted) == url,
            f"the default DVC remote is {name!r} ({url}); leave --remote out, or run `dvc remote add --default --force "
            "NAME URL` and commit",
        )
        return None
    if wanted is not None:
        return _absolute(wanted)
    configured = os.environ.get("DCPIPE_REMOTE") or "~/.local/share/dcpipe/remote"
    remedy = "unset it and run `dvc remote add --default NAME URL`"
    return str(local_path(configured, "DCPIPE_REMOTE", remedy).expanduser().absolute())


def _absolute(remote: str) -> str:
    """A URL, or an absolute path, because a relative one would not work in clones."""
    require(
        bool(remote.strip()) and not remote.startswith("-") and remote.isprintable(),
        f"--remote is {remote!r}; give a folder or a URL",
    )
    require(
        not is_url(remote) or urlsplit(remote).password is None,
        "the URL of --remote has a password, which .dvc/config would keep; give it without",
    )
    return remote if is_url(remote) else str(Path(remote).expanduser().absolute())


def _set_remote(root: Path, remote: str, say: Callable[[str], None]) -> None:
    """Make a default remote, after saying so."""
    say(f"No DVC remote is set: {remote} becomes the default one, and .dvc/config, which names it, is committed.")
    if not is_url(remote):
        say("It serves those who can read this folder; to change it, `dvc remote add --default --force NAME URL`.")
        Path(remote).mkdir(parents=True, exist_ok=True)
    _dvc("remote", "add", "--default", "storage" if is_url(remote) else "local", remote, cwd=root)
    git("add", ".dvc/config", cwd=root)
    git("commit", "--quiet", "--message", f"Add the DVC remote {remote}", "--", ".dvc/config", cwd=root)


def _list_stages(root: Path, say: Callable[[str], None]) -> None:
    """Say what a push of everything contains: the bytes of each stage in the cache, and the licence."""
    from dvc.repo import Repo

    stages: dict[str, int] = {}
    with Repo(str(root)) as repo:
        for out in repo.index.outs:
            if out.use_cache:
                file, name = out.stage.path_in_repo, out.stage.name
                stage = f"{file}:{name}" if name and file != "dvc.yaml" else name or file
                stages[stage] = stages.get(stage, 0) + (out.meta.size or 0)
    width = max(map(len, ["together", *stages]))
    say("Pushing the outputs of all stages, each version of a file once:")
    for stage, size in [*stages.items(), ("together", sum(stages.values()))]:
        say(f"    {stage:{width}} {size:15,} bytes")
    licence = parameters.load(root / "params.yaml").release.licence
    say(f"The source images are among them. The licence in params.yaml is {licence}: it must permit passing them on.")


def _dvc(*arguments: str, cwd: Path) -> str:
    need_dvc("publishes releases")
    done = subprocess.run([sys.executable, "-m", "dvc", *arguments], cwd=cwd, capture_output=True, text=True)
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or [done.stderr.strip()]
        raise DataError(f"dvc {arguments[0]} failed: {lines[0].removeprefix('ERROR: ')}; correct it and run again")
    return done.stdout
