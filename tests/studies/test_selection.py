"""The study of selectors: its entries, cells, rows and conditions."""

from __future__ import annotations

from typing import Any

import pytest
import tiny

from dcpipe.studies.coresets import Entry, conditions
from dcpipe.studies.selection import SelectionBlock, SelectionStudy, packed
from dcpipe.types import NotApplicableError

CONTENT: dict[str, Any] = {
    "selectors": {"random": {}, "score": {"options": {"alpha": 5}}, "flat": {"method": "score", "options": {}}},
    "ipc": [10, 1],
    "seeds": [0, 1, 2],
}


def study_of(own: dict[str, Any] | None = None, **blocks: Any) -> SelectionStudy:
    """The study with these keys of its own block and these blocks of params.yaml."""
    block = SelectionBlock.model_validate({**CONTENT, **(own or {})})
    return SelectionStudy("selection", block, tiny.run_of("studies", **blocks).params, tiny.PARAMS)


def test_entries_are_its_selectors_by_name() -> None:
    study = study_of()
    assert study.entries == [
        Entry("random", "random", {}),
        Entry("score", "score", {"alpha": 5}),
        Entry("flat", "score", {}),
    ]
    assert (study.sizes, study.block.split) == ([1, 10], "test")
    assert study.budgets == {"svd": study.params.compression} and study.params.compression.ratio == 1.5


def test_an_entry_without_options_gets_those_of_params_yaml_for_the_same_method() -> None:
    selectors = {"random": {}, "score": {}, "flat": {"method": "score", "change": {"alpha": 0}}, "plain": {}}
    selectors["plain"] = {"method": "score", "options": {}}
    block = SelectionBlock.model_validate({**CONTENT, "selectors": selectors})

    def options(**chosen: Any) -> list[dict[str, Any]]:
        params = tiny.run_of("studies", selection=chosen).params
        study = SelectionStudy("selection", block, params, tiny.PARAMS)
        found = [entry.options for entry in study.entries]
        named = study.settings["study"]["selectors"]
        assert [named[name] for name in selectors] == [
            {"method": entry.get("method"), "options": given}
            for entry, given in zip(selectors.values(), found, strict=True)
        ]
        return found

    own = {"alpha": 5.0, "eps2": 0.25}
    assert options(options=own) == [{}, own, {"alpha": 0, "eps2": 0.25}, {}]
    assert options(method="random") == [{}, {}, {"alpha": 0}, {}]
    herding = {"method": "herding", "options": {"normalise": False}}
    assert options(**herding) == [{}, {}, {"alpha": 0}, {}]


def test_cells_are_every_entry_at_every_ipc_with_every_seed() -> None:
    cells = study_of().cells
    assert [str(cell) for cell in cells[:4]] == [
        "random-ipc1-seed0",
        "random-ipc1-seed1",
        "random-ipc1-seed2",
        "random-ipc10-seed0",
    ]
    assert len(set(map(str, cells))) == len(cells) == 3 * 2 * 3


def test_teachers_label_unless_labels_are_hard() -> None:
    assert study_of().teachers == ["main"]
    assert study_of(softlabels={"method": "none"}).teachers == []
    assert study_of({"labels": ["hard"]}).teachers == []
    assert study_of({"labels": ["hard", "packed"]}).teachers == ["main"]


def test_each_kind_of_labels_is_a_budget_and_hard_labels_have_none() -> None:
    packs = {"svd": study_of().params.compression}
    assert list(study_of({"labels": ["packed", "hard"]}).budgets.items()) == [*packs.items(), ("hard labels", None)]
    assert list(study_of({"labels": ["hard", "packed"]}).budgets.items()) == [("hard labels", None), *packs.items()]
    for study in (study_of({"labels": ["hard"]}), study_of(softlabels={"method": "none"})):
        assert study.budgets == {"hard labels": None} and len(study.cells) == 18
    with pytest.raises(NotApplicableError) as error:
        _ = study_of({"labels": ["packed", "hard"]}, softlabels={"method": "none"}).cells
    assert str(error.value) == (
        "softlabels.method is none: there are no labels to pack; choose stored, or take packed out of selection.labels "
        "in studies/params.yaml"
    )


def test_kinds_of_labels_and_the_reference_are_settings_only_where_they_are_used() -> None:
    plain = study_of().settings
    assert set(plain["study"]) == {"seeds", "split", "selectors", "ipc"}
    assert study_of({"labels": ["packed"], "against": None}).settings == plain
    own = study_of({"labels": ["packed", "hard"], "against": "flat"}).settings["study"]
    assert (own["labels"], own["against"]) == (["packed", "hard"], "flat")


def test_the_table_shows_differences_and_says_to_what() -> None:
    row = {"selector": "score", "ipc": "1", "labels": "hard", "accuracy": "50.0", "std": "1.0", "seeds": "3"}
    row |= {"image_bytes": "9", "label_bytes": "0", "fp16_label_bytes": "0", "seconds": "0.1"}
    compared = {"against": "random", "difference": "-1.25", "difference_se": "0.5", "difference_ci": "2.151"}
    itself = {"against": "", "difference": "", "difference_se": "", "difference_ci": ""}
    names = ["selector", "ipc", "accuracy", "images", "labels", "in fp16", "seconds"]
    plain = {key: value for key, value in row.items() if key != "labels"}
    assert [column.name for column in SelectionStudy.columns([plain])] == names
    assert SelectionStudy.heading([plain]) == "top-1 in percent, mean ± std over 3 seeds"
    rows = [row | itself, row | compared, row | compared | {"difference_ci": ""}]
    columns = SelectionStudy.columns(rows)
    assert [column.name for column in columns] == [*names[:2], "label kind", "accuracy", "difference", *names[3:]]
    assert [columns[2].show(row) for row in rows] == ["hard"] * 3
    assert [columns[4].show(row) for row in rows] == ["", "-1.2 ± 2.2", "-1.2"]
    assert SelectionStudy.heading(rows) == (
        "top-1 in percent, mean ± std over 3 seeds\ndifference to random: mean and 95 % interval over paired seeds"
    )


@pytest.mark.parametrize(
    ("blocks", "sentence"),
    [
        ({}, "convnet-d1-w4, 2 epochs; 12 views per image, labelled by main; svd, 1.5 times smaller"),
        (
            {"compression": {"ratio": None, "bytes_per_image": 60.0}},
            "convnet-d1-w4, 2 epochs; 12 views per image, labelled by main; svd, 60 bytes per image",
        ),
        (
            {"compression": {"codec": "none", "ratio": None}},
            "convnet-d1-w4, 2 epochs; 12 views per image, labelled by main; uncompressed",
        ),
        ({"softlabels": {"method": "none"}}, "convnet-d1-w4, 2 epochs, hard labels"),
    ],
)
def test_the_figure_says_under_which_conditions(blocks: dict[str, Any], sentence: str) -> None:
    params = study_of(**blocks).params
    assert conditions(params, packed(params.compression)) == sentence
    assert conditions(params, "") == "convnet-d1-w4, 2 epochs, hard labels"


def test_what_the_pipeline_alone_uses_is_no_setting_of_a_study() -> None:
    settings = study_of().settings
    assert study_of(evaluation={"seeds": [7, 8, 9], "baselines": []}, selection={"ipc": 1}).settings == settings
    assert study_of(evaluation={"epochs": 1}).settings != settings
    assert study_of(compression={"ratio": 2.0}).settings != settings
