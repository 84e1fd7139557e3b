"""The study of codecs: its cells, and bytes worked out again in every unit."""

from __future__ import annotations

import statistics
from typing import Any

import numpy as np
import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from dcpipe.studies.labels import BASELINES, LabelsBlock, LabelsStudy, results, spectra, summary_row
from dcpipe.types import DataError, ImageSet, LabelShape

CONTENT: dict[str, Any] = {
    "codecs": {"svd": {}, "fresh": {"codec": "field", "options": {"fresh": True}}},
    "ratios": [30, 10],
    "students": ["fresh"],
    "seeds": [0, 1, 2],
}


def study_of(content: dict[str, Any] = CONTENT, **blocks: Any) -> LabelsStudy:
    params = tiny.run_of("studies", **blocks).params
    return LabelsStudy("labels", LabelsBlock.model_validate(content), params, tiny.PARAMS)


def test_cells_are_baselines_and_every_codec_at_every_ratio() -> None:
    study = study_of()
    assert [str(cell) for cell in study.cells] == [*BASELINES, "svd-10x", "svd-30x", "fresh-10x", "fresh-30x"]
    assert [cell.place for cell in study.cells[2:6]] == [
        {"codec": "hard labels", "ratio": ""},
        {"codec": "mean label", "ratio": ""},
        {"codec": "svd", "ratio": 10.0},
        {"codec": "svd", "ratio": 30.0},
    ]
    budget = study.cells[-1].budget
    assert budget is not None and (budget.codec, budget.options) == ("field", {"fresh": True})
    assert (study.block.temperatures, study.block.split, study.teachers) == ([1, 4, 20], "test", ["main"])


def test_without_soft_labels_there_is_nothing_to_compress() -> None:
    sentence = r"^softlabels.method is none: there are no labels to compress; choose stored$"
    with pytest.raises(DataError, match=sentence):
        _ = study_of(softlabels={"method": "none"}).cells


def test_students_of_an_unknown_entry_are_refused() -> None:
    with pytest.raises(DataError) as error:
        LabelsBlock.model_validate({**CONTENT, "students": ["svd", "rpca"]}).check("labels")
    assert str(error.value) == "labels.students names ['rpca'], which is not in labels.codecs; add it there first"


@settings(deadline=None, max_examples=50)
@given(
    size=st.integers(0, 10**7),
    accuracies=st.just([]) | st.lists(st.floats(0, 100), min_size=3, max_size=5),
    shape=st.builds(LabelShape, st.integers(1, 50), st.integers(1, 300), st.integers(2, 1000)),
)
def test_a_row_counts_bytes_in_every_unit(size: int, accuracies: list[float], shape: LabelShape) -> None:
    measured = {"codec": "svd", "ratio": 10.0, "bytes": size, "note": "", "seconds": 1.0, "kl_t4": 0.25, "held": 3.0}
    row = summary_row({**measured, "accuracies": accuracies}, shape, [4])
    entries = shape.images * shape.views * shape.classes
    assert (row["fp16_bytes"], row["fp32_bytes"]) == (2 * entries, 4 * entries)
    assert row["times_fp16"] == (pytest.approx(2 * entries / size, abs=0.00501) if size else "")
    assert row["bytes_per_image"] == pytest.approx(size / shape.images, abs=0.00501)
    assert row["bits_per_class"] == pytest.approx(8 * size / shape.classes, abs=0.0501)
    assert (row["kl_t4"], row["agreement"], row["seeds"]) == (0.25, "", len(accuracies))
    if accuracies:
        assert row["accuracy"] == pytest.approx(statistics.fmean(accuracies), abs=1e-3)
        assert row["std"] == pytest.approx(statistics.stdev(accuracies), abs=1e-3)
    else:
        assert row["accuracy"] == row["std"] == ""


def test_results_are_a_row_a_student() -> None:
    rows = [
        {"codec": "uncompressed", "ratio": "", "accuracies": [50.0, 51.0]},
        {"codec": "svd", "ratio": 10.0, "accuracies": []},
    ]
    assert results(rows, [3, 5]) == [
        {"codec": "uncompressed", "ratio": "", "seed": 3, "accuracy": 50.0},
        {"codec": "uncompressed", "ratio": "", "seed": 5, "accuracy": 51.0},
    ]


def test_spectra_are_of_all_images_and_of_each_class_that_has_some() -> None:
    images = ImageSet(
        np.zeros((4, 2, 2, 3), dtype=np.uint8), np.array([2, 0, 2, 0]), np.arange(4) + 5, ("ant", "bee", "cow")
    )
    values = np.array([[1.0, 0.5, 0.1], [1.0, 0.2, 0.2], [1.0, 0.9, 0.8]])  # of the first three
    tables = spectra(images, values)
    assert [(row["class"], row["component"]) for row in tables["spectra"]] == [
        (name, component) for name in ("all", "ant", "cow") for component in (1, 2, 3)
    ]
    assert tables["spectra"][1]["median"] == 0.5 and tables["spectra"][4]["median"] == 0.2
    assert [(row["image"], row["class"], row["rank_0.9"], row["rank_0.99"]) for row in tables["ranks"]] == [
        (5, "cow", 2, 2),
        (6, "ant", 1, 3),
        (7, "cow", 3, 3),
    ]
