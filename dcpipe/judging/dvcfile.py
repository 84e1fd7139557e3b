"""What DVC shows of a judgement in a workspace: a dvc.yaml beside it, which has no stages but names its numbers.

DVC reads every dvc.yaml of a repository, so `dvc metrics show`, `dvc exp show` and `dvc plots show` have a judgement
beside the numbers of the evaluation, without arguments.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from dcpipe.judging.judgement import METRICS, TABLE, Judgement
from dcpipe.store.files import replacing

NAME = "dvc.yaml"
_TEMPLATE = ".dvc/plots/accuracy.json"  # workspaces have it
_IGNORED = "/data/images\n/data/sources\n"  # as in a workspace, where DVC ignores them


def write(folder: Path, judgement: Judgement) -> bool:
    """Write the dvc.yaml of a judgement if its folder is in a workspace, and a .gitignore for what Git should not have.
    Returns whether it is."""
    if not any((place / _TEMPLATE).is_file() for place in folder.absolute().parents):
        return False
    for name, text in ((NAME, _text(folder, judgement)), (".gitignore", _IGNORED)):
        with replacing(folder / name) as partial:
            partial.write_text(text, encoding="utf-8")
    return True


def _text(folder: Path, judgement: Judgement) -> str:
    table = f"data/judgement/{TABLE}"
    plot: dict[str, Any] = {
        "template": "accuracy",
        "x": {table: "total_bytes"},
        "y": {table: "accuracy"},
        "title": f"{judgement.what}, judged",
    }
    content = {
        "metrics": [f"data/judgement/{METRICS}"],
        "plots": [{f"accuracy by bytes of {folder.absolute().name}": plot}],
    }
    return "# Written by `dcpipe judge`.\n" + yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
