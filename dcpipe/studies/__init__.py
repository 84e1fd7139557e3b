"""Studies: many settings under one protocol. One file a study, one line in `STUDIES` and one stage in studies/dvc.yaml.

A study runs cells: selectors, codecs or whole variants of params.yaml, each with students of several seeds. What
surrounds them (teachers, labels, budget, students) is that of params.yaml, so that accuracies compare with each other
and with the workspace's own table. Its block in studies/params.yaml says which cells, seeds and split.

* `base.py`             what every study is, and what it is given
* `summary.py`          rows of students to means and deviations
* `coresets.py`         what selectors pick, for `selection.py`, `coefficients.py` and `resilience.py`
* `labels.py`           codecs on the same labels
* `variants.py`         params.yaml with changes, for `syntheses.py`, `ladder.py` and `sizes.py`
* `variant_cells.py`    such cells from picks to students
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import create_model

from dcpipe.config.blocks import Block, checked, read
from dcpipe.config.params import Params
from dcpipe.studies.base import FILE, CellResult, Report, Study, StudyContext
from dcpipe.studies.coefficients import CoefficientsStudy
from dcpipe.studies.labels import LabelsStudy
from dcpipe.studies.ladder import LadderStudy
from dcpipe.studies.resilience import ResilienceStudy
from dcpipe.studies.selection import SelectionStudy
from dcpipe.studies.sizes import SizesStudy
from dcpipe.studies.syntheses import SynthesesStudy
from dcpipe.types import DataError, NotApplicableError, require

__all__ = [
    "FILE",
    "STUDIES",
    "CellResult",
    "Report",
    "Study",
    "StudyContext",
    "check_name",
    "load",
    "parse",
    "problems",
]

STUDIES: dict[str, type[Study]] = {
    "selection": SelectionStudy,
    "coefficients": CoefficientsStudy,
    "labels": LabelsStudy,
    "resilience": ResilienceStudy,
    "syntheses": SynthesesStudy,
    "ladder": LadderStudy,
    "sizes": SizesStudy,
}


def check_name(name: str | None) -> None:
    """Raises `DataError` listing the studies unless `name` is one of them."""
    legal = ", ".join(STUDIES)
    require(name is not None, f"name a study: {legal}")
    require(name in STUDIES, f"unknown study {name!r}; choose one of {legal}")


def load(name: str, params: Params, content: Mapping[str, Any], path: Path = FILE) -> Study:
    """A study of a workspace: `params` are its parameters, `content` is its params.yaml as it is written.

    Raises `DataError` with one sentence for the first thing that is wrong in studies/params.yaml.
    """
    check_name(name)
    require(path.is_file(), f"{path} not found; change to the workspace's folder, or copy studies/ of dcpipe there")
    block = parse(name, read(path, f"one block for each study: {', '.join(STUDIES)}"), str(path))
    return STUDIES[name](name, block, params, content)


def parse(name: str, content: Mapping[str, Any], where: str = str(FILE)) -> Any:
    """A study's block from the content of studies/params.yaml, all of which is checked; a study that is not run needs
    no block. Raises `DataError` as `load`."""
    fields: dict[str, Any] = {key: (study.block_type | None, None) for key, study in STUDIES.items()}
    file = checked(create_model("Studies", __base__=Block, **fields), content, where)
    wanted = getattr(file, name)
    require(wanted is not None, f"{where}: {name!r} is missing; add it")
    try:
        wanted.check(name)
    except DataError as error:
        raise DataError(f"{where}: {error}") from error
    return wanted


def problems(params: Params, content: Mapping[str, Any], path: Path = FILE) -> Iterator[DataError]:
    """The first problem of each study in studies/params.yaml, found without its inputs; arguments as those of `load`.

    A problem is a `NotApplicableError` where the study is right but params.yaml gives it nothing to compare.
    """
    for name in read(path, f"one block for each study: {', '.join(STUDIES)}"):
        try:
            _ = load(name, params, content, path).cells
        except NotApplicableError as error:
            yield NotApplicableError(f"study {name} does not apply: {error}")
        except DataError as error:
            yield error
