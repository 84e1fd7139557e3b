"""code.yaml: for which code the data of a workspace was made, as a digest for each stage.

Data is stale if the digest of its stage changes, as it is if a parameter changes. The file is rewritten by `dcpipe
upgrade` only, so that a new version of dcpipe changes nothing by itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

import yaml

from dcpipe.config.blocks import read
from dcpipe.config.params import Params
from dcpipe.store import SCHEMA
from dcpipe.types import require
from dcpipe.workspace.code import code_digest

CODE = "code.yaml"
LENGTH = 16  # signs of a digest
_HEADER = """\
# The code that the data of this workspace is made with. A stage with another digest than at its last run is stale.
# `dcpipe upgrade` writes the digests of the installed version, and says before which stages they make stale.
"""


def installed() -> dict[str, str]:
    """The version of dcpipe, the schema of artifacts, and the digest of the code of each stage."""
    stages = [*Params.model_fields, "studies"]
    digests = {stage: code_digest(f"flows.{stage}")[:LENGTH] for stage in stages}
    return {"dcpipe": version("dcpipe"), "schema": str(SCHEMA), **digests}


def recorded(root: Path) -> dict[str, str] | None:
    """The content of the code.yaml of a workspace; None if it has none, as the checkout of dcpipe. Raises `DataError`
    for a file that is none."""
    path = root / CODE
    if not path.exists():
        return None
    content = read(path, "a digest for each stage")
    require(
        all(isinstance(value, str) for value in content.values()),
        f"{path} must give a text for each stage; remove it and run `dcpipe upgrade`",
    )
    return {str(key): str(value) for key, value in content.items()}


def changed(before: Mapping[str, str] | None, after: Mapping[str, str]) -> list[str]:
    """The stages whose code differs, in the order of the pipeline; all of them if the schema differs."""
    known = before or {}
    stages = [name for name in after if name not in ("dcpipe", "schema")]
    same = known.get("schema") == after["schema"]
    return [name for name in stages if not same or known.get(name) != after[name]]


def remark(root: Path, stage: str = "", code: str = "") -> str:
    """A sentence if the workspace was made with another version of dcpipe, or a stage with other code than `code`; else
    empty."""
    known = recorded(root)
    if known is None:
        return ""
    if stage and known.get(stage, "") != code[:LENGTH]:
        return f"this version of dcpipe has other code for {stage} than {CODE} says; run `dcpipe upgrade`"
    made, here = known.get("dcpipe", "unknown"), version("dcpipe")
    if stage or made == here:
        return ""
    return f"made with dcpipe {made}, and {here} is installed; `dcpipe upgrade --dry-run` says what that changes"


def write(root: Path, digests: Mapping[str, str]) -> None:
    """Write code.yaml."""
    (root / CODE).write_text(_HEADER + yaml.safe_dump(dict(digests), sort_keys=False), encoding="utf-8")
