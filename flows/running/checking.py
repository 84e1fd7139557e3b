"""params.yaml as a stage reads it: checked before any work, and not again by a stage that would only load torch for it.

Whether a network takes the images and a codec reaches its budget is found out by their own code, which imports torch:
three seconds, for stages that compute nothing. So what has passed is remembered in the scratch folder, under a digest
of the parameters, of the code of dcpipe, and of the folders that packages are installed in.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import dcpipe
from dcpipe import store
from dcpipe.config import budget, check
from dcpipe.config import params as parameters
from dcpipe.store.hashing import source_sha256

FILE = Path("params.yaml")
REMEMBERED = 50  # last digests


def load(trusting: bool = False) -> parameters.Params:
    """The checked parameters. A `trusting` stage leaves out the checks that have passed before.

    Raises `DataError` about the first mistake.
    """
    params = parameters.load_blocks(FILE)
    _once("whole", params, [], lambda: parameters.check_whole(params, str(FILE)), trusting)
    recorded = budget.recorded(params.images, Path("data/images"))
    if recorded is not None:
        with check.at(str(FILE)):
            check_budget(params, *recorded, trusting=trusting)
    return params


def check_budget(
    params: parameters.Params, n_classes: int, counts: Sequence[int] | None, *, trusting: bool = True
) -> None:
    """Raises `DataError` for a budget that the codec cannot reach with labels of so many classes, of which `counts` are
    the train images if they are known."""
    images = [n_classes, *(counts or ())]
    _once("budget", params, images, lambda: budget.planned(params, n_classes, counts), trusting)


def _once(what: str, params: parameters.Params, images: list[int], run: Callable[[], object], trusting: bool) -> None:
    """Run a check, unless it has passed before and that is to be trusted."""
    passed, remembered = _digest(what, params, images), _remembered()
    if trusting and passed in remembered:
        return
    run()
    if passed not in remembered:
        _file().parent.mkdir(parents=True, exist_ok=True)
        with store.replacing(_file()) as partial:
            partial.write_text(json.dumps([*remembered, passed][-REMEMBERED:]), encoding="utf-8")


def _file() -> Path:
    return store.scratch_root() / "checked.json"


def _remembered() -> list[str]:
    try:
        content = json.loads(_file().read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):  # it is only a memory
        return []
    return [entry for entry in content if isinstance(entry, str)] if isinstance(content, list) else []


def _digest(what: str, params: parameters.Params, images: list[int]) -> str:
    """A digest of all that a verdict depends on. Installing a package changes the time of its folder."""
    folders = {path: Path(path).stat().st_mtime_ns for path in sys.path if Path(path).name.endswith("-packages")}
    return store.digest_of(
        {
            "what": what,
            "images": images,
            "params": params.model_dump(mode="json"),
            "code": source_sha256(Path(dcpipe.__file__).parent),
            "folders": folders,
        }
    )
