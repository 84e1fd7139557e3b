"""Studies compare many settings under one protocol.

A study runs cells: selectors, codecs or whole variants of params.yaml, each with students of several seeds. Everything
else (teachers, labels, budget, students) comes from params.yaml, so that the accuracies can be compared with each other
and with the scores of the workspace. The study's block in studies/params.yaml lists its cells, seeds and split.

* `base.py`             the interface of a study, and the context that it works in
* `summary.py`          summarises rows of students to means and standard deviations
* `paired.py`           differences between two entries, paired by seed, with intervals
* `coresets.py`         studies of what selectors pick: `selection.py`, `coefficients.py` and `resilience.py`
* `codecs.py`           codecs at several ratios with their baselines, for `labels.py`, `resilience.py` and
                        `compressions.py`
* `drops.py`            the accuracy that is lost as labels are compressed, paired by seed
* `labels.py`           compares codecs on the same labels
* `variants.py`         params.yaml with changes, for `syntheses.py`, `ladder.py`, `sweep.py`, `sizes.py`, `students.py`
                        and `compressions.py`
* `variant_cells.py`    runs such variants from picks to students
* `own_set.py`          the condensed set of the workspace beside random images, for `slimming.py` and `landscape.py`

To add a study, write a file, and add a line to `STUDIES` and a stage to studies/dvc.yaml.
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
from dcpipe.studies.compressions import CompressionsStudy
from dcpipe.studies.continual import ContinualStudy
from dcpipe.studies.labels import LabelsStudy
from dcpipe.studies.ladder import LadderStudy
from dcpipe.studies.landscape import LandscapeStudy
from dcpipe.studies.resilience import ResilienceStudy
from dcpipe.studies.selection import SelectionStudy
from dcpipe.studies.sizes import SizesStudy
from dcpipe.studies.slimming import SlimmingStudy
from dcpipe.studies.students import StudentsStudy
from dcpipe.studies.sweep import SweepStudy
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
    "sweep": SweepStudy,
    "sizes": SizesStudy,
    "students": StudentsStudy,
    "compressions": CompressionsStudy,
    "slimming": SlimmingStudy,
    "continual": ContinualStudy,
    "landscape": LandscapeStudy,
}


def check_name(name: str | None) -> None:
    """Raises `DataError`, with a list of the studies, unless `name` is one of them."""
    names = ", ".join(STUDIES)
    require(name is not None, f"name a study: {names}")
    require(name in STUDIES, f"unknown study {name!r}; choose one of {names}")


def load(name: str, params: Params, content: Mapping[str, Any], path: Path = FILE) -> Study:
    """A study of a workspace with the parameters `params`, whose params.yaml has the content `content`.

    Raises `DataError` with one sentence about the first mistake in studies/params.yaml.
    """
    check_name(name)
    require(path.is_file(), f"{path} not found; change to the workspace's folder, or copy studies/ of dcpipe there")
    block = parse(name, read(path, f"one block for each study: {', '.join(STUDIES)}"), str(path))
    return STUDIES[name](name, block, params, content)


def parse(name: str, content: Mapping[str, Any], where: str = str(FILE)) -> Any:
    """The block of a study, from the content of studies/params.yaml.

    All blocks are checked, but only the study that is run needs one. Raises `DataError` as `load` does.
    """
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
    """The first problem of each study in studies/params.yaml, without opening artifacts; arguments as in `load`.

    A problem is a `NotApplicableError` if the study is valid but params.yaml gives it nothing to compare.
    """
    for name in read(path, f"one block for each study: {', '.join(STUDIES)}"):
        try:
            _ = load(name, params, content, path).cells
        except NotApplicableError as error:
            yield NotApplicableError(f"study {name} does not apply: {error}")
        except DataError as error:
            yield error
