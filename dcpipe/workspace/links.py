"""Let DVC link the files of a workspace to its cache, so that nothing is on the disk twice.

    python -m dcpipe.workspace.links    find out what the disk can do, and write it to .dvc/config.local

DVC gives a stored file to the workspace by reflink (a copy that shares its blocks until one of the two changes), by
hard link (two names of one file, which DVC makes read-only) or by copy. A list of several kinds in `cache.type` does
not mean "the first that works": files whose bytes the cache already has stay copies if another kind stands beside
`hardlink`, and a list that starts with `reflink` never makes a hard link where a file was just written. So the disk is
tried once, and one kind is written down. It is a fact of this machine, so it goes into the file that Git ignores.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from dcpipe.release.tags import need_dvc
from dcpipe.types import DataError

_LINKS = ("reflink", "hardlink")


def possible(kind: str, cache: Path, workspace: Path) -> bool:
    """Whether a file in the folder `cache` can be given to the folder `workspace` by `reflink` or `hardlink`. Both
    folders exist; nothing is left in them."""
    from dvc_objects.fs import system

    link = system.reflink if kind == "reflink" else system.hardlink
    with (
        tempfile.TemporaryDirectory(prefix=".links-", dir=cache) as here,
        tempfile.TemporaryDirectory(prefix=".links-", dir=workspace) as there,
    ):
        source = Path(here) / "file"
        source.write_bytes(b"some bytes")
        try:
            link(str(source), str(Path(there) / "file"))
        except OSError:
            return False
        return True


def set_up(root: Path) -> list[str]:
    """Write the kind of link that the disk of the workspace `root` can make to `.dvc/config.local`.

    A choice that is there already is kept, unless it is a link that the disk cannot make, as after a move to another
    disk. Returns what to tell the user; nothing if nothing changed, or if DVC does not know the folder. Raises
    `DataError` for settings that DVC cannot read.
    """
    folder = root / ".dvc"
    if not folder.is_dir():
        return []
    need_dvc("builds the set", "pipeline")
    from dvc.config import Config, ConfigError

    try:
        config = Config(str(folder))
        configured = config.read("local")["cache"].get("type")
    except ConfigError as error:
        raise DataError(f"the settings of DVC in {folder} cannot be read ({error}); correct them") from error
    cache = Path(config["cache"].get("dir") or folder / "cache")
    cache.mkdir(parents=True, exist_ok=True)
    if configured is not None and (configured not in _LINKS or possible(configured, cache, root)):
        return []
    found = next((kind for kind in _LINKS if possible(kind, cache, root)), "copy")
    with config.edit("local") as content:
        content["cache"]["type"] = found
    if found == "copy":
        return [
            f"The disk of {root} cannot link to DVC's cache in {cache}, so DVC keeps a second copy of all data. Put "
            "the cache on the same disk: dvc config --local cache.dir FOLDER"
        ]
    told = [f"DVC gives files to this workspace by {found} (.dvc/config.local), so that nothing is stored twice."]
    if (cache / "files").is_dir():
        told.append("What was stored before is still there twice; `dvc checkout --relink` changes that.")
    return told
