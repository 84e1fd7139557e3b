"""The drop: paired by seed, computed again from a slow table, and empty for ratios that were not reached."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from dcpipe.studies.resilience import ResilienceBlock, ResilienceStudy, summarise_drops
from dcpipe.types import DataError

SEEDS = (3, 0, 7)
RATIOS = ("", 1.25, 10.0)  # "": uncompressed


def row(selector: str, ratio: Any, seed: int, accuracy: Any, size: int = 100, note: str = "") -> dict[str, Any]:
    codec = "uncompressed" if ratio == "" else "svd"
    place = {
        "selector": selector,
        "ipc": 10,
        "codec": codec,
        "ratio": ratio,
        "seed": seed,
        "picks": "p",
        "label_rate": 1.5,
    }
    return {**place, "accuracy": accuracy, "image_bytes": 50, "label_bytes": size, "note": note}


@settings(deadline=None, max_examples=50)
@given(accuracies=st.lists(st.floats(0, 100), min_size=18, max_size=18), shuffle=st.integers(0, 100))
def test_a_drop_is_of_the_same_seed_whatever_the_order_of_rows(accuracies: list[float], shuffle: int) -> None:
    table = np.array(accuracies).reshape(2, 3, 3)  # selector, ratio, seed
    rows = [
        row(name, ratio, seed, table[i, j, k])
        for i, name in enumerate(("b", "a"))
        for j, ratio in enumerate(RATIOS)
        for k, seed in enumerate(SEEDS)
    ]
    random.Random(shuffle).shuffle(rows)
    found = {(its["selector"], its["ratio"]): its for its in summarise_drops(rows, 1000, 20)}
    assert len(found) == 6
    for i, name in enumerate(("b", "a")):
        for j, ratio in enumerate(RATIOS):
            its, own, drops = found[name, ratio], table[i, j], table[i, 0] - table[i, j]
            assert its["accuracy"] == pytest.approx(own.mean(), abs=1e-3)
            assert its["std"] == pytest.approx(own.std(ddof=1), abs=1e-3)
            # The mean of drops is the drop of means; the deviation is of the differences.
            assert its["drop"] == pytest.approx(table[i, 0].mean() - own.mean(), abs=1e-3)
            assert its["drop_std"] == pytest.approx(drops.std(ddof=1), abs=1e-3)
            assert (its["seeds"], its["fp16_label_bytes"]) == (3, 1000)
        assert (found[name, ""]["drop"], found[name, ""]["drop_std"]) == (0, 0)


def test_coresets_of_unequal_accuracy_that_lose_the_same_have_no_deviation() -> None:
    rows = [row("a", "", s, 50.0 + 10 * s) for s in SEEDS] + [row("a", 2.0, s, 48.0 + 10 * s) for s in SEEDS]
    its = summarise_drops(rows, 1, 4)[1]
    assert (its["drop"], its["drop_std"], its["std"]) == (2, 0, pytest.approx(35.119, abs=1e-3))


def test_rows_keep_their_order_and_bytes_are_means() -> None:
    rows = [row(name, ratio, seed, 50.0, size=100 + seed) for name in "ba" for ratio in RATIOS for seed in SEEDS]
    found = summarise_drops(rows, 1, 4)
    assert [(its["selector"], its["ratio"]) for its in found] == [(name, ratio) for name in "ba" for ratio in RATIOS]
    assert [its["label_bytes"] for its in found] == [103] * 6
    assert [its["bytes_per_image"] for its in found] == [25.75] * 6
    assert (found[0]["image_bytes"], found[0]["label_rate"], found[0]["ipc"]) == (50, 1.5, 10)


def test_a_ratio_that_is_not_reached_has_a_note_and_no_numbers() -> None:
    rows = [row("a", "", s, 50.0) for s in SEEDS] + [row("a", 2.0, s, "", 0, "too few bytes") for s in SEEDS]
    line = summarise_drops(rows, 1, 4)[1]
    assert (line["note"], line["seeds"], line["label_bytes"], line["image_bytes"]) == ("too few bytes", 0, 0, 50)
    assert {line[key] for key in ("accuracy", "std", "drop", "drop_std")} == {""}
    assert list(line) == [
        *(
            "selector",
            "ipc",
            "codec",
            "ratio",
            "accuracy",
            "std",
            "drop",
            "drop_std",
            "seeds",
            "image_bytes",
            "label_bytes",
        ),
        *("bytes_per_image", "fp16_label_bytes", "label_rate", "note"),
    ]


# --- what it runs ---

CONTENT: dict[str, Any] = {
    "selectors": {"random": {}, "flat": {"method": "score", "options": {"beta": 0}}},
    "ratios": [20, 1.25],
    "ipc": 10,
    "seeds": [0, 1, 2],
}
OPTIONS = {"sparse_share": 0.25}


def study_of(**blocks: Any) -> ResilienceStudy:
    block = ResilienceBlock.model_validate(CONTENT)
    return ResilienceStudy("resilience", block, tiny.run_of("studies", **blocks).params, tiny.PARAMS)


def test_entries_are_its_selectors_and_ratios_ascend() -> None:
    study = study_of(compression={"codec": "rpca", "ratio": 3.0, "reference": "fp32", "options": OPTIONS})
    assert [(entry.name, entry.method, entry.options) for entry in study.entries] == [
        ("random", "random", {}),
        ("flat", "score", {"beta": 0}),
    ]
    assert (study.sizes, len(study.cells)) == ([10], 6)
    budgets = [(name, b.codec, b.ratio, b.reference, b.options) for name, b in study.budgets.items()]
    assert budgets == [
        ("uncompressed", "none", None, "fp16", {}),
        ("mean label", "mean_label", 1.0, "fp16", {}),
        ("rpca-1.25x", "rpca", 1.25, "fp16", OPTIONS),
        ("rpca-20x", "rpca", 20.0, "fp16", OPTIONS),
    ]
    assert [study.place(name) for name in study.budgets] == [
        {"codec": "uncompressed", "ratio": ""},
        {"codec": "mean label", "ratio": ""},
        {"codec": "rpca", "ratio": 1.25},
        {"codec": "rpca", "ratio": 20.0},
    ]


@pytest.mark.parametrize(
    ("blocks", "sentence"),
    [
        ({"softlabels": {"method": "none"}}, "softlabels.method is none: there are no labels to compress; choose "),
        ({"compression": {"codec": "none"}}, "compression.codec is none: nothing would be compressed; choose a codec"),
    ],
)
def test_where_nothing_is_compressed_there_is_no_study(blocks: dict[str, Any], sentence: str) -> None:
    with pytest.raises(DataError) as error:
        _ = study_of(**blocks).cells
    assert str(error.value).startswith(sentence)
