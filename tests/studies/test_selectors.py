"""Studies: what `studies/params.yaml` may say, the entries it makes, and means worked out again."""

from __future__ import annotations

import copy
import json
import statistics
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dcpipe.studies import selectors
from dcpipe.studies.selectors import Entry
from dcpipe.types import DataError, LabelShape

LEGAL: dict[str, Any] = {
    "selection": {
        "selectors": {"random": {}, "score": {"options": {"alpha": 5}}, "flat": {"method": "score", "options": {}}},
        "ipc": [10, 1],
        "seeds": [0, 1, 2],
    },
    "coefficients": {
        "base": {"alpha": 5, "beta": 0.1},
        "alpha": [5, 0],
        "beta": [0.1, 1.0e-3],
        "options": {"eps2": 0.5},
        "ipc": 10,
        "seeds": [3, 4, 5, 6],
    },
    "labels": {
        "codecs": {"svd": {}, "fresh": {"codec": "field", "options": {"fresh": True}}},
        "ratios": [30, 10],
        "students": ["fresh"],
        "seeds": [0, 1, 2],
    },
    "resilience": {
        "selectors": {"random": {}, "flat": {"method": "score", "options": {"beta": 0}}},
        "ratios": [20, 1.25],
        "ipc": 10,
        "seeds": [0, 1, 2],
    },
    "syntheses": {
        "variants": {"real": {}, "edc": {"synthesis": {"method": "edc", "options": {"flat": 0.0}}, "labels": "online"}},
        "ipc": [10, 1],
        "seeds": [0, 1, 2],
    },
    "ladder": {"variants": {"small-batch": {"evaluation": {"batch_size": 5}}}, "ipc": [1], "seeds": [0, 1, 2]},
    "sizes": {
        "methods": {"mdc": {"synthesis": {"method": "mdc"}}, "idc": {"baselines": ["A", "C"]}},
        "ipc": 10,
        "sizes": [10, 1],
        "seeds": [0, 1, 2],
    },
}


def changed(path: str, value: Any) -> dict[str, Any]:
    """LEGAL with one key set; None removes it."""
    content = copy.deepcopy(LEGAL)
    *blocks, last = path.split(".")
    block = content
    for name in blocks:
        block = block[name]
    if value is None:
        del block[last]
    else:
        block[last] = value
    return content


def test_entries_of_a_selection_are_its_selectors_by_name() -> None:
    study = selectors.parse("selection", LEGAL)
    assert study.entries == (
        Entry("random", "random", {}),
        Entry("score", "score", {"alpha": 5}),
        Entry("flat", "score", {}),
    )
    assert (study.name, study.ipc, study.seeds, study.split) == ("selection", (1, 10), (0, 1, 2), "test")
    assert not study.sweeps
    assert study.place(study.entries[1]) == {"selector": "score"}


def test_entries_of_coefficients_are_random_and_two_sweeps_in_order() -> None:
    study = selectors.parse("coefficients", LEGAL)
    assert study.entries == (
        Entry("random", "random", {}),
        Entry("alpha-0", "score", {"eps2": 0.5, "alpha": 0.0, "beta": 0.1}, "alpha"),
        Entry("alpha-5", "score", {"eps2": 0.5, "alpha": 5.0, "beta": 0.1}, "alpha"),
        Entry("beta-0.001", "score", {"eps2": 0.5, "alpha": 5.0, "beta": 0.001}, "beta"),
        Entry("beta-0.1", "score", {"eps2": 0.5, "alpha": 5.0, "beta": 0.1}, "beta"),
    )
    assert (study.ipc, study.seeds, study.split, study.sweeps) == ((10,), (3, 4, 5, 6), "minival", True)
    assert study.place(study.entries[0]) == {"selector": "random", "swept": "", "alpha": None, "beta": None}
    assert study.place(study.entries[1]) == {"selector": "alpha-0", "swept": "alpha", "alpha": 0.0, "beta": 0.1}


def test_entries_of_resilience_are_its_selectors_and_ratios_ascend() -> None:
    study = selectors.parse("resilience", LEGAL)
    assert study.entries == (Entry("random", "random", {}), Entry("flat", "score", {"beta": 0}))
    assert (study.ratios, study.ipc, study.seeds, study.split) == ((1.25, 20.0), (10,), (0, 1, 2), "test")
    assert selectors.parse("selection", LEGAL).ratios == selectors.parse("coefficients", LEGAL).ratios == ()


@pytest.mark.parametrize("name", selectors.STUDIES)
def test_a_study_needs_its_own_block_alone(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(content: dict[str, Any]) -> Any:
        if name in selectors.VARIANTS:
            path.write_text(json.dumps(content), encoding="utf-8")
            return selectors.load_variants(name)
        if name == "sizes":
            path.write_text(json.dumps(content), encoding="utf-8")
            return selectors.load_sizes()
        return selectors.parse_labels(content) if name == "labels" else selectors.parse(name, content)

    path = tmp_path / selectors.FILE
    path.parent.mkdir()
    monkeypatch.chdir(tmp_path)
    assert load({name: LEGAL[name]}) == load(LEGAL)
    with pytest.raises(DataError) as error:
        load({key: block for key, block in LEGAL.items() if key != name})
    assert str(error.value) == f"studies/params.yaml: '{name}' is missing; add it"


def test_codecs_are_no_study_of_selectors() -> None:
    with pytest.raises(DataError) as error:
        selectors.parse("labels", LEGAL)
    assert str(error.value) == "study 'labels' is of codecs, not of selectors; run `dcpipe study labels`"


@pytest.mark.parametrize("name", [*selectors.VARIANTS, "sizes"])
def test_variants_are_no_study_of_selectors(name: str) -> None:
    with pytest.raises(DataError) as error:
        selectors.parse(name, LEGAL)
    assert str(error.value) == f"study {name!r} is of variants, not of selectors; run `dcpipe study {name}`"


def test_other_studies_are_not_of_variants(tmp_path: Path) -> None:
    for name in (*set(selectors.STUDIES) - set(selectors.VARIANTS), "stairs"):
        with pytest.raises(DataError) as error:
            selectors.load_variants(name, tmp_path)
        assert str(error.value) == f"study {name!r} is not of variants; choose one of syntheses, ladder"


def test_a_study_of_variants_is_its_block(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(json.dumps(LEGAL), encoding="utf-8")
    study = selectors.load_variants("syntheses", path)
    assert list(study.variants) == ["real", "edc"]
    assert study.variants["edc"].synthesis == {"method": "edc", "options": {"flat": 0.0}}
    assert (study.variants["real"].labels, study.variants["edc"].labels) == (None, "online")
    assert (study.ipc, study.seeds, study.split) == ([10, 1], [0, 1, 2], "test")


REFUSED = [
    ("selection.selectors", {}, "selection.selectors is {}: dictionary should have at least 1 item after validation"),
    ("selection.ipc", [], "selection.ipc is []: list should have at least 1 item after validation, not 0"),
    ("selection.ipc", [0], "selection.ipc.0 is 0: input should be greater than or equal to 1"),
    ("selection.ipc", [1, 10, 1], "selection.ipc is [1, 10, 1] and repeats [1]; say each once"),
    ("selection.seeds", [0, 1], "selection.seeds is [0, 1]: list should have at least 3 items after validation, not 2"),
    ("selection.seeds", [0, 1, 1], "selection.seeds is [0, 1, 1] and repeats [1]; say each once"),
    ("selection.seeds", None, "'selection.seeds' is missing; add it"),
    ("selection.split", "train", "selection.split is 'train': input should be 'test' or 'minival'"),
    (
        "selection.selectors.score.alpha",
        5,
        "unknown key 'selection.selectors.score.alpha'; legal ones are method, options",
    ),
    ("selection.selectors.a/b", {}, "selection.selectors.a/b.[key] is 'a/b': string should match pattern"),
    ("selection.epochs", 5, "unknown key 'selection.epochs'; legal ones are selectors, ipc, seeds, split"),
    (
        "selections",
        {},
        "unknown key 'selections'; legal ones are selection, coefficients, labels, resilience, syntheses, ladder, "
        "sizes; did you mean 'selection'?",
    ),
    ("coefficients", None, "'coefficients' is missing; add it"),
    ("coefficients.base.beta", None, "'coefficients.base.beta' is missing; add it"),
    ("coefficients.alpha", [-1.0], "coefficients.alpha.0 is -1.0: input should be greater than or equal to 0"),
    ("coefficients.alpha", [1, 1.0], "coefficients.alpha is [1.0, 1.0] and repeats [1.0]; say each once"),
    ("coefficients.beta", [], "coefficients.beta is []: list should have at least 1 item after validation, not 0"),
    ("coefficients.seeds", [1], "coefficients.seeds is [1]: list should have at least 3 items after validation, not 1"),
    ("syntheses.ipc", [1, 1], "syntheses.ipc is [1, 1] and repeats [1]; say each once"),
    ("syntheses.seeds", [0, 1], "syntheses.seeds is [0, 1]: list should have at least 3 items after validation, not 2"),
    ("ladder.split", "train", "ladder.split is 'train': input should be 'test' or 'minival'"),
    ("ladder.steps", {}, "unknown key 'ladder.steps'; legal ones are variants, ipc, seeds, split"),
    ("sizes.sizes", [1, 1], "sizes.sizes is [1, 1] and repeats [1]; say each once"),
    ("sizes.ipc", None, "'sizes.ipc' is missing; add it"),
    ("resilience.ratios", [], "resilience.ratios is []: list should have at least 1 item after validation, not 0"),
    ("resilience.ratios", [5, 0.8], "resilience.ratios.1 is 0.8: input should be greater than or equal to 1"),
    ("resilience.ratios", [5, 2, 5], "resilience.ratios is [5.0, 2.0, 5.0] and repeats [5.0]; say each once"),
    ("resilience.ipc", [1, 10], "resilience.ipc is [1, 10]: input should be a valid integer"),
    ("resilience.seeds", [0, 1], "resilience.seeds is [0, 1]: list should have at least 3 items after validation"),
    ("coefficients.options.beta", 1, "coefficients.options has 'beta'; say it in coefficients.base"),
    (
        "coefficients.alpha",
        ["1e-3"],
        "coefficients.alpha.0 is '1e-3': input should be a valid number; YAML wants a point, as in 1.0e-3",
    ),
]


@pytest.mark.parametrize(("path", "value", "sentence"), REFUSED)
def test_what_is_wrong_is_told_in_one_sentence(path: str, value: Any, sentence: str) -> None:
    with pytest.raises(DataError) as error:
        selectors.parse("coefficients", changed(path, value), "s.yaml")
    assert str(error.value).startswith(f"s.yaml: {sentence}")
    assert "\n" not in str(error.value)


def test_unknown_studies_list_the_known() -> None:
    for name in selectors.STUDIES:
        selectors.check_name(name)
    known = "selection, coefficients, labels, resilience, syntheses, ladder, sizes"
    with pytest.raises(DataError, match=rf"^unknown study 'codecs'; choose one of {known}$"):
        selectors.load("codecs")
    with pytest.raises(DataError, match=rf"^name a study: {known}$"):
        selectors.check_name(None)


def test_the_study_of_sizes_is_its_block(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(json.dumps(LEGAL), encoding="utf-8")
    study = selectors.load_sizes(path)
    assert (list(study.methods), study.methods["idc"].baselines) == (["mdc", "idc"], ["A", "C"])
    assert (study.ipc, study.judged, study.seeds, study.split) == (10, (1, 10), [0, 1, 2], "test")
    path.write_text(json.dumps(changed("sizes.sizes", [1, 11])), encoding="utf-8")
    with pytest.raises(DataError) as error:
        selectors.load_sizes(path)
    sentence = f"{path}: sizes.sizes has [11], but sizes.ipc is 10; raise it, or drop them"
    assert str(error.value) == sentence


def test_a_file_that_is_absent_or_holds_no_blocks_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    with pytest.raises(DataError) as error:
        selectors.load("selection", path)
    sentence = f"{path} not found; change to the workspace's folder, or copy studies/ of dcpipe there"
    assert str(error.value) == sentence
    path.write_text("- a\n", encoding="utf-8")
    with pytest.raises(DataError) as error:
        selectors.load("selection", path)
    assert str(error.value) == f"{path} must hold one block a study: {', '.join(selectors.STUDIES)}"


def test_the_study_of_codecs_is_its_block() -> None:
    study = selectors.parse_labels(LEGAL)
    assert [(name, entry.codec, entry.options) for name, entry in study.codecs.items()] == [
        ("svd", None, {}),
        ("fresh", "field", {"fresh": True}),
    ]
    assert (study.ratios, study.temperatures, study.students, study.split) == ([30, 10], [1, 4, 20], ["fresh"], "test")


@pytest.mark.parametrize(
    ("path", "value", "sentence"),
    [
        ("labels", None, "'labels' is missing; add it"),
        ("labels.codecs", {}, "labels.codecs is {}: dictionary should have at least 1 item after validation, not 0"),
        ("labels.ratios", [0.5], "labels.ratios.0 is 0.5: input should be greater than or equal to 1"),
        ("labels.ratios", [10, 10.0], "labels.ratios is [10.0, 10.0] and repeats [10.0]; say each once"),
        ("labels.temperatures", [0], "labels.temperatures.0 is 0: input should be greater than 0"),
        ("labels.students", ["svd", "rpca"], "labels.students names ['rpca'], which is not in labels.codecs; add it"),
        ("labels.seeds", [1, 2], "labels.seeds is [1, 2]: list should have at least 3 items after validation, not 2"),
    ],
)
def test_what_is_wrong_with_the_study_of_codecs_is_told(path: str, value: Any, sentence: str) -> None:
    with pytest.raises(DataError) as error:
        selectors.parse_labels(changed(path, value), "s.yaml")
    assert str(error.value).startswith(f"s.yaml: {sentence}")


@settings(deadline=None, max_examples=50)
@given(
    size=st.integers(0, 10**7),
    accuracies=st.just([]) | st.lists(st.floats(0, 100), min_size=3, max_size=5),
    shape=st.builds(LabelShape, st.integers(1, 50), st.integers(1, 300), st.integers(2, 1000)),
)
def test_a_row_of_the_study_of_codecs_counts_bytes_in_every_unit(
    size: int, accuracies: list[float], shape: LabelShape
) -> None:
    facts = {"codec": "svd", "ratio": 10.0, "bytes": size, "note": "", "seconds": 1.0, "kl_t4": 0.25, "held": 3.0}
    row = selectors.label_row(facts, shape, [4], accuracies)
    entries = shape.images * shape.views * shape.classes
    assert (row["fp16_bytes"], row["fp32_bytes"]) == (2 * entries, 4 * entries)
    assert row["times_fp16"] == (pytest.approx(2 * entries / size, abs=0.00501) if size else "")
    assert row["bits_per_class"] == pytest.approx(8 * size / shape.classes, abs=0.0501)
    assert (row["kl_t4"], row["agreement"], row["seeds"]) == (0.25, "", len(accuracies))
    if accuracies:
        assert row["accuracy"] == pytest.approx(statistics.fmean(accuracies), abs=1e-3)
        assert row["std"] == pytest.approx(statistics.stdev(accuracies), abs=1e-3)
    else:
        assert row["accuracy"] == row["std"] == ""


@settings(deadline=None, max_examples=50)
@given(
    accuracies=st.lists(st.floats(0, 100), min_size=12, max_size=12),
    sizes=st.lists(st.integers(1, 10**9), min_size=12, max_size=12),
)
def test_a_summary_is_mean_and_deviation_by_entry_and_ipc(accuracies: list[float], sizes: list[int]) -> None:
    """Rows of one entry and ipc need not stand together."""
    places = [(name, ipc) for _ in range(3) for name in ("b", "a") for ipc in (1, 10)]
    rows = [
        {
            "selector": name,
            "ipc": ipc,
            "seed": i // 4,
            "accuracy": accuracies[i],
            "image_bytes": sizes[i],
            "label_bytes": 7,
            "seconds": i / 8,
        }
        for i, (name, ipc) in enumerate(places)
    ]
    found = selectors.summary(rows, {1: 100, 10: 1000})
    assert [(row["selector"], row["ipc"]) for row in found] == places[:4]
    for index, row in enumerate(found):
        own = rows[index::4]
        assert row["accuracy"] == pytest.approx(statistics.mean(r["accuracy"] for r in own), abs=1e-3)
        assert row["std"] == pytest.approx(statistics.stdev(r["accuracy"] for r in own), abs=1e-3)
        assert row["seconds"] == pytest.approx(statistics.mean(r["seconds"] for r in own), abs=1e-3)
        assert abs(row["image_bytes"] - statistics.mean(r["image_bytes"] for r in own)) <= 0.5
        assert (row["label_bytes"], row["fp16_label_bytes"], row["seeds"]) == (7, 100 * row["ipc"], 3)
        assert list(row)[:2] == ["selector", "ipc"]
