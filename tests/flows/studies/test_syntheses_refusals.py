"""Studies of variants: everything that cannot be finished is refused before any work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from variant_studies import Calls, forbidden, in_scratch, run_of, run_study, write_study

from dcpipe.studies.variant_cells import VariantCellsStudy
from dcpipe.types import DataError
from flows.images import images_stage

REFUSED: list[tuple[dict[str, Any], str]] = [
    (
        {"synthesis": {"method": "best"}},
        ": params.yaml with its changes: synthesis.method: unknown synthesis method 'best'; choose one of none, rded, ",
    ),
    (
        {"synthesis": {"method": "edc", "options": {"steps": 1}}},
        ": params.yaml with its changes: synthesis.options: synthesis method 'edc' has no option 'steps'; ",
    ),
    (
        {"synthesis": {"method": "edc", "options": {"observers": ["main", "third"]}}},
        ": params.yaml with its changes: synthesis.options.observers names 'third', which is not in teacher.networks; ",
    ),
    (
        {"selection": {"method": "best"}},
        ": params.yaml with its changes: selection.method: unknown selector 'best'; choose one of random, ",
    ),
    (
        {"selection": {"method": "random", "options": {"alpha": 1}}},
        ": params.yaml with its changes: selection.options: selector 'random' takes no options; remove 'alpha'",
    ),
    (
        {"compression": {"codec": "best"}},
        ": params.yaml with its changes: compression.codec: unknown codec 'best'; choose one of cur, ",
    ),
    ({"compression": {"ratio": 1000.0}}, ", ipc 1: codec 'svd': its arrays take at least "),
    (
        {"evaluation": {"student": "convnet-5"}},
        ": params.yaml with its changes: evaluation.student: unknown network 'convnet-5'; ",
    ),
    ({"evaluation": {"protocol": "best"}}, ": params.yaml with its changes: evaluation.protocol is 'best': unknow"),
    ({"evaluation": {"epochs": 0}}, ": params.yaml with its changes: evaluation.epochs is 0: input should be gre"),
    ({"evaluation": {"seeds": [1, 2, 3]}}, ": a variant may not set evaluation.seeds: the study sets it for all "),
    ({"labels": "packed", "softlabels": {"method": "none"}}, ": labels is packed but softlabels.method is none; "),
]


def nothing_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(VariantCellsStudy, "make_images", forbidden)
    monkeypatch.setattr(VariantCellsStudy, "students", forbidden)


@pytest.mark.parametrize(("variant", "sentence"), REFUSED)
def test_what_cannot_be_finished_is_refused_before_any_work(
    variant: dict[str, Any],
    sentence: str,
    studied: tuple[Path, Calls],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "data").symlink_to(studied[0] / "data")
    in_scratch(monkeypatch, tmp_path)
    nothing_is_made(monkeypatch)
    for name in ("syntheses", "ladder"):
        write_study(name, {"right": {}, "wrong": variant})
        with pytest.raises(DataError) as error:
            run_study(name)
        assert str(error.value).startswith(f"studies/params.yaml: {name}, wrong{sentence}")
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"ipc": [1, 500]}, r"^studies/params.yaml: syntheses: selection.ipc is 500 but class '\d' has \d+ images; "),
        (
            {"seeds": [0, 1]},
            r"^studies/params.yaml: syntheses.seeds is \[0, 1\]: give at least 3 entries",
        ),
        (
            {"ipc": [1, 2, 1]},
            r"^studies/params.yaml: syntheses.ipc is \[1, 2, 1\]: 1 is listed more than once; ",
        ),
    ],
)
def test_impossible_sizes_are_refused(
    changes: dict[str, Any], sentence: str, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing_is_made(monkeypatch)
    write_study(**changes)
    with pytest.raises(DataError, match=sentence):
        run_study("syntheses")


def test_an_empty_split_is_refused(workspace: Path) -> None:
    images_stage(run_of("images", images={"minival": 0.0}))
    write_study(split="minival")
    with pytest.raises(DataError) as error:
        run_study("syntheses")
    assert str(error.value) == (
        "studies/params.yaml: syntheses.split is minival, which is empty; raise images.minival, or use test"
    )


def test_a_machine_without_matplotlib_is_refused_first(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nothing_is_made(monkeypatch)
    monkeypatch.setattr("dcpipe.reports.figures.base.find_spec", lambda name: None)
    with pytest.raises(
        DataError, match=r"^figures need matplotlib, which is not installed; install dcpipe\[pipeline\]$"
    ):
        run_study("syntheses")


def test_what_a_method_refuses_names_its_variant(workspace: Path) -> None:
    write_study(named={"wrong": {"synthesis": {"method": "edc", "options": {"alpha": 2.0}}}})
    with pytest.raises(DataError) as error:
        run_study("syntheses")
    sentence = (
        "studies/params.yaml: syntheses, wrong: params.yaml with its changes: synthesis.options.alpha is 2.0: input "
        "should be less than or equal to 1"
    )
    assert str(error.value) == sentence
