"""Copy a release to this machine, from wherever it is."""

from __future__ import annotations

from pathlib import Path

from dcpipe import store
from dcpipe.release import remote, tags
from dcpipe.types import require
from dcpipe.types.paths import is_url


def pull(where: str, repo: str | Path | None, out: Path) -> store.Artifact:
    """Fetch the release of a tag, or at a URL, into the new folder `out` and verify it; `repo` has the tag.

    Raises `DataError` as `tags.pull` and `remote.pull` do.
    """
    if not is_url(where):
        return tags.pull(where, repo, out)
    require(repo is None, f"{where} is a URL; leave the repository out, which is for tags")
    return remote.pull(where, out)
