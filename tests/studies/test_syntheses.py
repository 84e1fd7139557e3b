"""The studies of variants: what their block may say, the chains of a ladder, and gains worked out again."""

from __future__ import annotations

import statistics
from typing import Any

import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from dcpipe import studies
from dcpipe.studies.ladder import LadderStudy
from dcpipe.studies.syntheses import BYTES, MADE_BY, SynthesesStudy, VariantsBlock
from dcpipe.types import DataError

VARIANTS: dict[str, Any] = {
    "plain": {},
    "small-batch": {"evaluation": {"batch_size": 5}},
    "online": {"labels": "online"},
}


def study_of(kind: type[SynthesesStudy], name: str) -> SynthesesStudy:
    block = VariantsBlock.model_validate({"variants": VARIANTS, "ipc": [2, 1], "seeds": [0, 1, 5]})
    return kind(name, block, tiny.run_of("studies").params, tiny.PARAMS)


def test_every_variant_is_a_cell_at_every_ipc() -> None:
    cells = study_of(SynthesesStudy, "syntheses").cells
    assert [str(cell) for cell in cells] == [f"{name}-ipc{ipc}" for name in VARIANTS for ipc in (1, 2)]
    assert [cell.params.selection.ipc for cell in cells] == [1, 2, 1, 2, 1, 2]
    assert [(cell.params.evaluation.batch_size, cell.labels) for cell in cells[::2]] == [
        (10, "packed"),
        (5, "packed"),
        (10, "online"),
    ]


def test_in_a_ladder_each_adds_to_those_above_it() -> None:
    cells = study_of(LadderStudy, "ladder").cells
    assert [(cell.params.evaluation.batch_size, cell.labels) for cell in cells[::2]] == [
        (10, "packed"),
        (5, "packed"),
        (5, "online"),
    ]


def test_cells_that_agree_in_blocks_have_one_digest() -> None:
    plain, batch, online = study_of(SynthesesStudy, "syntheses").cells[::2]
    assert plain.digest("selection", "synthesis") == batch.digest("selection", "synthesis")
    assert plain.digest("evaluation") != batch.digest("evaluation") != online.digest("selection")


@pytest.mark.parametrize("name", ("syntheses", "ladder"))
@pytest.mark.parametrize(
    ("block", "sentence"),
    [
        ({}, "{}.variants is {{}}: give at least 1 entry"),
        (
            {"a": {"images": {}}},
            "unknown key '{}.variants.a.images'; valid keys are selection, synthesis, softlabels, ",
        ),
        ({"a": {"label": "hard"}}, "unknown key '{}.variants.a.label'; valid keys are selection, synthesis, softlabe"),
        ({"a": {"labels": "soft"}}, "{}.variants.a.labels is 'soft': input should be 'packed', 'online' or 'hard'"),
        ({"a": {"synthesis": "edc"}}, "{}.variants.a.synthesis is 'edc': input should be a valid dictionary"),
        ({"a": None}, "{}.variants.a is None: input should be a valid dictionary or instance of Variant"),
        ({"A b": {}}, "{}.variants.A b.[key] is 'A b': string should match pattern"),
    ],
)
def test_the_file_may_say_no_other_things(name: str, block: dict[str, Any], sentence: str) -> None:
    with pytest.raises(DataError) as error:
        studies.parse(name, {name: {"variants": block, "ipc": [1], "seeds": [0, 1, 2]}}, "s.yaml")
    assert str(error.value).startswith(f"s.yaml: {sentence.format(name)}") and "\n" not in str(error.value)


# --- the summary ---

ACCURACIES = st.lists(st.floats(0, 100), min_size=24, max_size=24)


@settings(deadline=None, max_examples=50)
@given(accuracies=ACCURACIES, cumulative=st.booleans(), order=st.permutations(range(24)))
def test_a_summary_is_mean_deviation_and_gain(accuracies: list[float], cumulative: bool, order: list[int]) -> None:
    """Four rungs at two ipc of three seeds, rows in any order; the rungs are as they first come."""
    cells = [(name, ipc) for name in ("c", "a", "d", "b") for ipc in (1, 10)]
    rows = [
        {"variant": cells[i // 3][0], "ipc": cells[i // 3][1], "seed": i % 3, "accuracy": accuracies[i]}
        | dict.fromkeys((*BYTES, *MADE_BY, "seconds", "label_seconds"), i // 3)
        for i in order
    ]
    found = (study_of(LadderStudy, "ladder") if cumulative else study_of(SynthesesStudy, "syntheses")).summary(rows)
    places = list(dict.fromkeys((row["variant"], row["ipc"]) for row in rows))
    assert [(row["variant"], row["ipc"]) for row in found] == places
    last: dict[int, float] = {}
    for row in found:
        place = cells.index((row["variant"], row["ipc"]))
        own = [accuracies[3 * place + seed] for seed in range(3)]
        assert row["accuracy"] == pytest.approx(statistics.mean(own), abs=1e-3)
        assert row["std"] == pytest.approx(statistics.stdev(own), abs=1e-3)
        assert (row["seeds"], row["image_bytes"], row["protocol"], row["seconds"]) == (3, place, place, place)
        assert row["label_seconds"] == place
        assert "seed" not in row
        if not cumulative:
            assert "gain" not in row
        elif row["ipc"] in last:
            assert row["gain"] == pytest.approx(statistics.mean(own) - last[row["ipc"]], abs=1e-3)
        else:
            assert row["gain"] == ""
        last[row["ipc"]] = statistics.mean(own)
    assert list(found[0])[:4] == ["variant", "ipc", "accuracy", "std"]
