"""Bring a workspace up to the installed version of dcpipe."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from dcpipe.types import require
from dcpipe.workspace import digests, dvcfiles


@dataclass(frozen=True)
class Upgrade:
    """What an upgrade of the workspace `root` changes.

    `before` and `after`: code.yaml. `stale`: stages whose code has changed. `files`: files of DVC that this version
    writes otherwise, by path, as text.
    """

    root: Path
    before: dict[str, str]
    after: dict[str, str]
    stale: list[str]
    files: dict[str, str]

    def lines(self) -> Iterator[str]:
        """What will change, in sentences."""
        versions = [self.before.get("dcpipe", "unknown"), self.after["dcpipe"]]
        if not self.stale and not self.files:
            yield f"The workspace is up to date with dcpipe {versions[1]}."
            return
        yield f"From dcpipe {versions[0]} to {versions[1]}:"
        if self.stale:
            yield f"  the code of {', '.join(self.stale)} has changed; `dvc repro` will run these and what follows"
        for path in self.files:
            yield f"  {path} is written anew; `git diff {path}` shows what changed"

    def apply(self) -> None:
        """Write the files."""
        for path, text in self.files.items():
            target = self.root / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8")
        if self.after != self.before:
            digests.write(self.root, self.after)


def upgrade(root: Path) -> Upgrade:
    """What an upgrade would change; `Upgrade.apply` does it. Raises `DataError` for a folder that is no workspace of
    `dcpipe init`, such as the checkout of dcpipe, whose stages depend on its files."""
    before = digests.recorded(root)
    if before is None:
        require(
            (root / dvcfiles.PIPELINE).exists(),
            f"{root} has no {dvcfiles.PIPELINE}; change to the folder of a workspace, or make one with "
            "`dcpipe init PRESET DIR`",
        )
        require(
            not (root / "dcpipe").is_dir(),
            f"{root} is a checkout of dcpipe, whose stages depend on its files; there is nothing to upgrade",
        )
    after = digests.installed()
    files = {}
    for path, content in dvcfiles.dvc_files(dvcfiles.Digests()).items():
        present = root / path
        found = yaml.safe_load(present.read_text(encoding="utf-8")) if present.exists() else {}
        if not isinstance(found, dict) or any(found.get(key) != content[key] for key in content):
            kept = {"artifacts": found["artifacts"]} if isinstance(found, dict) and "artifacts" in found else {}
            files[path] = dvcfiles.text(path, {**content, **kept})
    templates = dvcfiles.templates()
    files |= {path: templates[path] for path in templates if _read(root / path) != templates[path]}
    return Upgrade(root, before or {}, after, digests.changed(before, after), files)


def _read(path: Path) -> str:
    """The text of a file, "" if there is none."""
    return path.read_text(encoding="utf-8") if path.is_file() else ""
