"""The study of compressions: its cells and settings, its summary worked out again, and what is refused."""

from __future__ import annotations

import statistics
from typing import Any

import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from dcpipe.studies.compressions import FROM, SIZES, CompressionsBlock, CompressionsStudy, summarise_compressions
from dcpipe.types import DataError, NotApplicableError

CONTENT: dict[str, Any] = {
    "variants": {"plain": {}, "small-batch": {"evaluation": {"batch_size": 5}}},
    "codecs": {"svd": {}, "fresh": {"codec": "field", "options": {"fresh": True}}},
    "ratios": [5, 1.25],
    "ipc": [2, 1],
    "seeds": [0, 1, 5],
}
PACKINGS = ["uncompressed", "mean label", "svd-1.25x", "svd-5x", "fresh-1.25x", "fresh-5x"]
NOTHING = "softlabels.method is none: there are no labels to compress; choose stored"


def study_of(content: dict[str, Any] = tiny.PARAMS, **changes: Any) -> CompressionsStudy:
    block = CompressionsBlock.model_validate({**CONTENT, **changes})
    return CompressionsStudy("compressions", block, tiny.run_of("studies", content=content).params, content)


def test_every_variant_is_a_cell_at_every_ipc_whatever_the_budget_of_the_workspace() -> None:
    study = study_of()
    assert [str(cell) for cell in study.cells] == ["plain-ipc1", "plain-ipc2", "small-batch-ipc1", "small-batch-ipc2"]
    assert [str(packing) for packing in study.packings] == PACKINGS
    assert (study.block.tests, study.block.split) == (0, "test")
    other = study_of(tiny.changed(tiny.PARAMS, compression={"ratio": 1.25}))
    assert other.settings == study.settings, "the budget of params.yaml is not used"


def test_packings_of_a_cell_share_images_and_the_labels_of_teachers() -> None:
    cell = study_of().cells[0]
    packed = [cell.packed_as(packing) for packing in study_of().packings]
    assert [str(one) for one in packed] == [f"plain-ipc1-{name}" for name in PACKINGS]
    assert {one.digest("selection", "synthesis", "softlabels") for one in packed} == {
        cell.digest("selection", "synthesis", "softlabels")
    }
    assert len({one.digest("compression") for one in packed}) == len(PACKINGS), "but students are their own"


def test_the_settings_have_everything_that_results_depend_on() -> None:
    plain = study_of().settings
    changes: list[dict[str, Any]] = [
        {"ratios": [5]},
        {"codecs": {"svd": {}}},
        {"codecs": {"svd": {}, "fresh": {"codec": "field"}}},
        {"variants": {"plain": {}}},
        {"ipc": [1]},
        {"tests": 2},
        {"seeds": [0, 1, 2]},
        {"split": "minival"},
    ]
    assert study_of().settings == plain
    for change in changes:
        assert study_of(**change).settings != plain, change


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"variants": {"right": {}, "wrong": {"compression": {"ratio": 2.0}}}},
            "wrong: a variant may not change compression: codecs and ratios of this study say how labels are packed; "
            "remove it",
        ),
        (
            {"variants": {"wrong": {"labels": "online"}}},
            "wrong: labels is online, but this study compresses stored labels; remove labels",
        ),
        (
            {"variants": {"wrong": {"labels": "hard"}}},
            "wrong: labels is hard, but this study compresses stored labels; remove labels",
        ),
        ({"variants": {"wrong": {"softlabels": {"method": "none"}}}}, f"wrong: {NOTHING}"),
        ({"codecs": {"svd": {"options": {"bits": 8}}}}, "svd: codec 'svd' takes no options; remove 'bits'"),
        (
            {"codecs": {"uncompressed": {"codec": "svd"}}},
            "uncompressed: 'uncompressed' is the name of the rows of uncompressed labels; give the codec another name",
        ),
        (
            {"variants": {"wrong": {"evaluation": {"seeds": [1, 2, 3]}}}},
            "wrong: a variant may not set evaluation.seeds: the study sets it for all variants, or does not use it",
        ),
    ],
)
def test_what_makes_no_sense_is_refused_by_its_place(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(DataError) as error:
        _ = study_of(**changes).cells
    assert str(error.value) == f"studies/params.yaml: compressions, {sentence}"
    assert not isinstance(error.value, NotApplicableError)


def test_without_soft_labels_there_is_no_study_unless_variants_have_them() -> None:
    content = tiny.changed(tiny.PARAMS, softlabels={"method": "none"})
    with pytest.raises(NotApplicableError, match=f"^studies/params.yaml: compressions, plain: {NOTHING}$"):
        _ = study_of(content).cells
    [cell] = study_of(content, variants={"own": {"softlabels": {"method": "stored"}}}, ipc=[1]).cells
    assert cell.params.softlabels.views == tiny.PARAMS["softlabels"]["views"]


# --- the summary ---

PLACES = [(variant, ipc) for variant in ("b", "a") for ipc in (1, 10)]
ROWS = [("uncompressed", ""), ("mean label", ""), ("svd", 5.0), ("svd", 50.0)]


@settings(deadline=None, max_examples=50)
@given(accuracies=st.lists(st.floats(0, 100), min_size=48, max_size=48), order=st.permutations(range(48)))
def test_a_summary_is_mean_deviation_and_drop(accuracies: list[float], order: list[int]) -> None:
    """Two variants at two ipc, four packings of which the last is not reached, three seeds, rows in any order."""
    rows: list[dict[str, Any]] = []
    for i in order:
        (variant, ipc), (codec, ratio), seed = PLACES[i // 12], ROWS[i // 3 % 4], i % 3
        place = {"variant": variant, "ipc": ipc, "codec": codec, "ratio": ratio, "seed": seed}
        missed = ratio == 50.0
        told = {"accuracy": "" if missed else accuracies[i], "note": "too few bytes" if missed else ""}
        rows.append({**place, **told, **dict.fromkeys((*SIZES, *FROM), i // 3)})
    found = summarise_compressions(rows)
    assert [(row["variant"], row["ipc"], row["codec"], row["ratio"]) for row in found] == list(
        dict.fromkeys((row["variant"], row["ipc"], row["codec"], row["ratio"]) for row in rows)
    )
    for row in found:
        first = 12 * PLACES.index((row["variant"], row["ipc"]))
        group = first + 3 * ROWS.index((row["codec"], row["ratio"]))
        assert {row[key] for key in (*SIZES, *FROM)} == {group // 3}
        if row["ratio"] == 50.0:
            assert (row["note"], row["seeds"]) == ("too few bytes", 0)
            assert {row[key] for key in ("accuracy", "std", "drop", "drop_std")} == {""}
            continue
        own, whole = accuracies[group : group + 3], accuracies[first : first + 3]
        lost = [before - after for before, after in zip(whole, own, strict=True)]
        for key, expected in (
            ("accuracy", statistics.mean(own)),
            ("std", statistics.stdev(own)),
            ("drop", statistics.mean(lost)),
            ("drop_std", statistics.stdev(lost)),
        ):
            assert row[key] == pytest.approx(expected, abs=1e-3), key
        assert (row["note"], row["seeds"]) == ("", 3)
    assert list(found[0]) == [
        *("variant", "ipc", "codec", "ratio", "accuracy", "std", "drop", "drop_std", "seeds"),
        *("image_bytes", "label_bytes", "bytes_per_image", "fp16_label_bytes", "synthesis", "student", "protocol"),
        "note",
    ]
