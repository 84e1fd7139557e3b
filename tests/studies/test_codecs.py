"""Codecs at several ratios: names, places and budgets of the rows, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
import tiny

from dcpipe.studies.codecs import BASELINES, CodecEntry, check_codecs, packings
from dcpipe.studies.labels import LabelsBlock, LabelsStudy
from dcpipe.types import DataError

ENTRIES = {"svd": CodecEntry(), "fresh": CodecEntry(codec="field", options={"fresh": True})}


def test_every_codec_is_packed_at_every_ratio_in_ascending_order() -> None:
    found = packings(ENTRIES, [20, 1.25])
    assert [str(packing) for packing in found] == ["svd-1.25x", "svd-20x", "fresh-1.25x", "fresh-20x"]
    assert [(p.block.codec, p.block.ratio, p.block.reference, p.block.options) for p in found] == [
        ("svd", 1.25, "fp16", {}),
        ("svd", 20, "fp16", {}),
        ("field", 1.25, "fp16", {"fresh": True}),
        ("field", 20, "fp16", {"fresh": True}),
    ]
    assert found[-1].place == {"codec": "fresh", "ratio": 20} and not found[-1].is_baseline


def test_baselines_have_no_ratio() -> None:
    assert [str(packing) for packing in BASELINES] == ["uncompressed", "mean label"]
    assert [packing.place for packing in BASELINES] == [
        {"codec": "uncompressed", "ratio": ""},
        {"codec": "mean label", "ratio": ""},
    ]
    assert all(packing.is_baseline for packing in BASELINES)
    assert [packing.block.codec for packing in BASELINES] == ["none", "mean_label"]


def test_ratios_that_differ_have_names_that_differ() -> None:
    names = [str(packing) for packing in packings({"svd": CodecEntry()}, [1_000_000.5, 1_000_001, 2.0000001, 2])]
    assert len(set(names)) == 4


@pytest.mark.parametrize(
    ("name", "entry", "sentence"),
    [
        ("best", {}, "unknown codec 'best'; choose one of "),
        ("svd", {"options": {"bits": 8}}, "codec 'svd' takes no options; remove 'bits'"),
        (
            "whole",
            {"codec": "none"},
            "codec 'none' takes no budget, and the row of uncompressed labels is always there; remove it",
        ),
        (
            "uncompressed",
            {"codec": "svd"},
            "'uncompressed' is the name of the rows of uncompressed labels; give the codec another name",
        ),
    ],
)
def test_a_wrong_entry_is_refused_by_its_place(name: str, entry: dict[str, Any], sentence: str) -> None:
    content = {"codecs": {"topk": {}, name: entry}, "ratios": [10], "seeds": [0, 1, 2]}
    block = LabelsBlock.model_validate(content)
    study = LabelsStudy("labels", block, tiny.run_of("studies").params, tiny.PARAMS)
    with pytest.raises(DataError) as error:
        check_codecs(study, block.codecs)
    assert str(error.value).startswith(f"studies/params.yaml: labels, {name}: ") and sentence in str(error.value)
    with pytest.raises(DataError):
        _ = study.cells
