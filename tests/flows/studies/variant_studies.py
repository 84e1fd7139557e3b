"""Studies of variants in a tiny workspace: their settings, and how often costly functions are called."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, wraps
from pathlib import Path
from typing import Any

import pytest
import tiny

from dcpipe import softlabels, synthesis
from dcpipe.evaluation import contenders
from dcpipe.synthesis import statistics as measured

NETWORKS = {"main": "convnet-d1-w8", "second": "convnet-d2-w4", "resnet": "resnet10-w2"}
TEACHING = {**tiny.PARAMS["teacher"]["training"], "epochs": 2}
PARAMS = tiny.changed(
    tiny.PARAMS,
    teacher={"networks": {key: {"network": name} for key, name in NETWORKS.items()}, "training": TEACHING},
    softlabels={"teachers": ["main", "second"]},
)
run_of = partial(tiny.run_of, content=PARAMS)
run_study = partial(tiny.run_study, content=PARAMS)
EDC = {"method": "edc", "options": {"iterations": 6, "batch_size": 10, "crop_min": 0.5, "flip": 0.0}}
VARIANTS: dict[str, Any] = {
    "random": {"selection": {"method": "random"}, "synthesis": {"method": "none"}},
    "edc": {"selection": {"method": "random"}, "synthesis": EDC},
    "edc-online": {"selection": {"method": "random"}, "synthesis": EDC, "labels": "online"},
    "edc-hard": {"selection": {"method": "random"}, "synthesis": EDC, "labels": "hard"},
    "edc-batch": {"selection": {"method": "random"}, "synthesis": EDC, "evaluation": {"batch_size": 7}},
    "edc-twin": {"selection": {"method": "random"}, "synthesis": EDC},
}
LADDER: dict[str, Any] = {
    "start": {"selection": {"method": "random"}},
    "batch": {"evaluation": {"batch_size": 5}},
    "hard": {"labels": "hard"},
    "back": {"labels": "packed", "evaluation": {"protocol": "score", "epochs": 1, "batch_size": 8}},
}
STUDY = {"ipc": [2, 1], "seeds": [0, 1, 5]}
FOLDER = Path("data/study/syntheses")
WHOLE = {"none": 2, "edc": 2, "fill": 2 + 2, "score": 5 * 2 * 3, "collect": 1}
Calls = dict[str, int]


def write_study(name: str = "syntheses", named: dict[str, Any] | None = None, **changes: Any) -> None:
    tiny.write_studies(**{name: {"variants": VARIANTS if named is None else named, **STUDY, **changes}})


def counting(calls: Calls, work: Callable[..., Any], dies_at: int = 0) -> Callable[..., Any]:
    """`work`, its calls counted by name; the one numbered `dies_at` dies."""

    @wraps(work)
    def counted(*arguments: Any, **options: Any) -> Any:
        calls[work.__name__] = calls.get(work.__name__, 0) + 1
        if calls[work.__name__] == dies_at:
            raise KeyboardInterrupt
        return work(*arguments, **options)

    return counted


def watch(patch: pytest.MonkeyPatch, where: str = "", dies_at: int = 0) -> Calls:
    """Count the costly calls; call number `dies_at` of `where` dies."""
    calls: Calls = {}

    def counted(work: Callable[..., Any]) -> Callable[..., Any]:
        return counting(calls, work, dies_at if work.__name__ == where else 0)

    for name in ("none", "edc"):
        patch.setitem(synthesis.METHODS, name, counted(synthesis.METHODS[name]))
    patch.setattr(contenders, "score", counted(contenders.score))
    patch.setattr(softlabels, "fill", counted(softlabels.fill))
    patch.setattr(measured, "collect", counted(measured.collect))
    return calls


def in_scratch(patch: pytest.MonkeyPatch, root: Path) -> None:
    patch.chdir(root)
    patch.setenv("DCPIPE_SCRATCH", str(root / "scratch"))


def forbidden(*arguments: Any, **options: Any) -> Any:
    raise AssertionError("this is work")
