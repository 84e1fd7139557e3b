"""The study of students: its cells, gaps and curves worked out again, and networks that do not fit."""

from __future__ import annotations

import statistics
from typing import Any

import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from dcpipe.studies import students
from dcpipe.studies.base import BYTES
from dcpipe.studies.students import StudentsBlock, StudentsStudy
from dcpipe.studies.variant_cells import MADE_BY
from dcpipe.types import DataError

NETWORKS = ["convnet-d1-w8", "convnet-d1-w4", "convnet-d2-w4"]


def study_of(**changes: Any) -> StudentsStudy:
    block = StudentsBlock.model_validate({"networks": NETWORKS, "ipc": [2, 1], "seeds": [0, 1, 5], **changes})
    return StudentsStudy("students", block, tiny.run_of("studies").params, tiny.PARAMS)


def test_only_the_network_differs_within_a_size() -> None:
    cells = study_of().cells
    assert [(cell.name, cell.ipc) for cell in cells] == [(name, ipc) for ipc in (1, 2) for name in NETWORKS]
    assert [cell.params.evaluation.student for cell in cells] == NETWORKS * 2
    for blocks in (("selection", "synthesis"), ("softlabels", "compression")):
        assert len({cell.digest(*blocks) for cell in cells[:3]}) == 1
    assert cells[0].digest("selection") != cells[3].digest("selection"), "a set of its own at each size"
    assert len({cell.digest("evaluation") for cell in cells}) == 3


def test_the_settings_have_everything_that_results_depend_on() -> None:
    assert study_of().settings == study_of().settings != study_of(tests=3).settings
    assert study_of(networks=NETWORKS[:2]).settings != study_of().settings


@pytest.mark.parametrize(
    ("network", "sentence"),
    [("convnet-d2-x8", "unknown network 'convnet-d2-x8'"), ("convnet-d9-w4", "convnet-d9-w4")],
)
def test_a_network_that_cannot_be_built_is_refused_by_name(network: str, sentence: str) -> None:
    with pytest.raises(DataError) as error:
        _ = study_of(networks=["convnet-d1-w8", network]).cells
    assert str(error.value).startswith(f"studies/params.yaml: students, {network}: ") and sentence in str(error.value)


@settings(deadline=None, max_examples=50)
@given(accuracies=st.lists(st.floats(0, 100), min_size=18, max_size=18), order=st.permutations(range(18)))
def test_a_gap_is_the_difference_of_means_at_the_same_size(accuracies: list[float], order: list[int]) -> None:
    places = [(name, ipc, seed) for name in NETWORKS for ipc in (1, 10) for seed in range(3)]
    rows = [
        {"network": places[i][0], "ipc": places[i][1], "seed": places[i][2], "accuracy": accuracies[i]}
        | dict.fromkeys((*BYTES, *MADE_BY, "seconds"), i // 3)
        for i in order
    ]
    means = {
        (name, ipc): statistics.mean(accuracies[places.index((name, ipc, seed))] for seed in range(3))
        for name, ipc, _ in places
    }
    found = students.summarise_students(rows, NETWORKS[0])
    assert len(found) == 6 and list(found[0])[:5] == ["network", "ipc", "accuracy", "std", "gap"]
    for row in found:
        name, ipc = row["network"], row["ipc"]
        assert row["accuracy"] == pytest.approx(means[name, ipc], abs=1e-3)
        if name == NETWORKS[0]:
            assert row["gap"] == ""
        else:
            assert row["gap"] == pytest.approx(means[name, ipc] - means[NETWORKS[0], ipc], abs=2e-3)
