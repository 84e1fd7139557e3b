"""The table of a plan, its sentences, and the same as JSON."""

from __future__ import annotations

import json
from io import StringIO

import pytest
from planned import DIGITS, IMAGENET, Flat, setting
from rich.console import Console

from dcpipe.planning import table
from dcpipe.planning.forecast import Forecast, forecast, stages_of
from dcpipe.planning.machine import Machine


def planned(preset: str = "digits", machine: Machine = Machine(None, 2**40, 2**40)) -> Forecast:  # noqa: B008
    own = setting(preset, DIGITS if preset == "digits" else IMAGENET)
    return forecast(own, stages_of(own), Flat(1e-3), [1, 8], machine)


def shown(plan: Forecast) -> list[str]:
    text = StringIO()
    Console(file=text, width=250).print(table.table(plan))
    return text.getvalue().splitlines()


def test_every_stage_has_a_line_and_the_last_one_has_sums() -> None:
    plan = planned("imagenet-1k-ipc50")
    lines = [line.split() for line in shown(plan) if line.strip()]
    assert {stage.name for stage in plan.stages} <= {line[0] for line in lines}
    evaluation = next(line for line in lines if line[0] == "evaluation")
    assert "3.52M" in evaluation and evaluation[-3:] == ["students,", "shards,", "blocks"]
    assert next(line for line in lines if line[0] == "selection")[-1] == "no"
    assert lines[-1][0] == "all" and "3.52M" in lines[-1]


def test_sentences_name_the_bottleneck_what_is_not_spread_and_what_does_not_fit() -> None:
    told = table.sentences(planned("imagenet-1k-ipc50", Machine(10**11, 2**40, 10**10)))
    assert told[0].startswith("On 1 device, evaluation takes longest: ") and told[1].startswith("On 8 devices, ")
    assert told[2] == (
        "These run on one device, however many there are: teacher@resnet18, selection, synthesis, release."
    )
    unfit = [line for line in told if line.startswith("Will not fit: ")]
    assert len(unfit) == 2 and "images needs" in unfit[0] and "evaluation.batch_size" in unfit[1]
    assert told[-1] == "Costs: made up."


def test_json_has_the_numbers_of_the_table() -> None:
    plan = planned()
    content = json.loads(json.dumps(table.as_json(plan)))
    assert [row["stage"] for row in content["stages"]] == [stage.name for stage in plan.stages]
    assert content["hours"]["8"] == pytest.approx(sum(row["hours"]["8"] for row in content["stages"]))
    assert content["disk_at_peak"] == max(row["disk_at_peak"] for row in content["stages"])
    assert content["counts"]["train"] == 1294 and content["stages"][4]["spread"] is None


@pytest.mark.parametrize(
    ("hours", "text"),
    [(0, "0 s"), (0.001, "4 s"), (0.1, "6 min"), (1, "1.0 h"), (12.34, "12.3 h"), (2345.6, "2,346 h")],
)
def test_times(hours: float, text: str) -> None:
    assert table.clock(hours) == text


@pytest.mark.parametrize(
    ("number", "text"), [(0, ""), (999, "999"), (12_345, "12.3k"), (3_519_000, "3.52M"), (2 * 10**9, "2G")]
)
def test_counts(number: int, text: str) -> None:
    assert table.short(number) == text
