"""Variants: the laws of merging, chains merged by hand, and what is refused."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dcpipe.config import params
from dcpipe.config.changes import ANEW
from dcpipe.studies import variants
from dcpipe.studies.variants import BLOCKS, Variant, changed
from dcpipe.types import DataError

CONTENT: dict[str, Any] = {
    "images": {"source": "digits", "size": 8},
    "teacher": {"networks": {"main": {"network": "convnet-d1-w8"}}, "training": {"epochs": 1}},
    "features": {"teacher": "main"},
    "selection": {"method": "score", "ipc": 10, "seed": 3, "options": {"alpha": 0.1, "beta": 0.2}},
    "synthesis": {"method": "edc", "seed": 4, "options": {"iterations": 50, "flip": 0.0}},
    "softlabels": {"teachers": ["main"], "views": 8, "augmentation": {"scale_min": 0.6, "flip": 0.0}},
    "compression": {"codec": "rpca", "ratio": 4, "reference": "fp32", "options": {"sparse_share": 0.25}},
    "evaluation": {"student": "convnet-d1-w4", "seeds": [7, 8, 9], "epochs": 5, "batch_size": 10, "lr": 0.005},
    "release": {"name": "tiny"},
}
NAMES = st.sampled_from("abc")
LEAVES = st.integers() | st.text(max_size=2) | st.lists(st.integers(), max_size=2)
TREES = st.recursive(LEAVES, lambda inner: st.dictionaries(NAMES, inner, max_size=3), max_leaves=8)
MAPPINGS = st.dictionaries(NAMES, TREES, max_size=3)
CHANGES = st.dictionaries(
    NAMES,
    st.recursive(LEAVES | st.none(), lambda inner: st.dictionaries(NAMES, inner, max_size=3), max_leaves=8),
    max_size=3,
)


def content_of(**blocks: dict[str, Any]) -> dict[str, Any]:
    return {**copy.deepcopy(CONTENT), **blocks}


def leaves(tree: dict[str, Any], place: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    """A tree as its paths; an empty mapping is a leaf."""
    found: dict[tuple[str, ...], Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            found |= leaves(value, (*place, key))
        else:
            found[(*place, key)] = value
    return found


def slowly(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """`old` with one path of `new` set after the other."""
    result = copy.deepcopy(old)
    for path, value in leaves(new).items():
        node = result
        for key in path[:-1]:
            if not isinstance(node.get(key), dict):
                node[key] = {}
            node = node[key]
        if value is None:
            node.pop(path[-1], None)
        elif value == {} and isinstance(value, dict):
            if not isinstance(node.get(path[-1]), dict):
                node[path[-1]] = {}
        else:
            node[path[-1]] = value
    return result


# --- merging ---


@given(block=MAPPINGS, name=st.sampled_from(BLOCKS))
def test_an_empty_variant_changes_nothing(block: dict[str, Any], name: str) -> None:
    content = content_of(**{name: block})
    assert changed(content, Variant()) == content
    assert changed(content, Variant(**{name: {}})) == content


@given(old=MAPPINGS, new=CHANGES, name=st.sampled_from(BLOCKS))
def test_mappings_are_merged_at_every_depth_and_null_removes(
    old: dict[str, Any], new: dict[str, Any], name: str
) -> None:
    content = content_of(**{name: old})
    found = changed(content, Variant(**{name: new}))
    assert found[name] == slowly(old, new)
    assert {key: block for key, block in found.items() if key != name} == {
        key: block for key, block in content.items() if key != name
    }
    assert None not in leaves(found[name]).values(), "null is a word for the default, never a value"


@given(old=MAPPINGS, new=CHANGES)
def test_merging_twice_is_merging_once(old: dict[str, Any], new: dict[str, Any]) -> None:
    variant = Variant(softlabels=new)
    once = changed(content_of(softlabels=old), variant)
    assert changed(once, variant) == once


@given(old=MAPPINGS, new=CHANGES, name=st.sampled_from(BLOCKS), key=st.sampled_from(["x", "method", "protocol"]))
def test_nothing_that_is_given_is_touched(old: dict[str, Any], new: dict[str, Any], name: str, key: str) -> None:
    content, variant = content_of(**{name: old}), Variant(**{name: {**new, key: {"a": {"b": None}}}})
    before, asked = copy.deepcopy(content), copy.deepcopy(variant.model_dump())
    changed(content, variant)
    assert content == before and variant.model_dump() == asked


@pytest.mark.parametrize("name", sorted({*ANEW} & {*BLOCKS}))
@pytest.mark.parametrize("value", ["other", "the same", None])
def test_a_choice_discards_the_block_except_for_what_is_kept(name: str, value: str | None) -> None:
    chooses, kept = ANEW[name]
    assert set(kept) < set(params.Params.model_fields[name].annotation.model_fields), "keys that the block has"
    old = {chooses: "the same", "options": {"a": 1}, "stray": 2, **dict.fromkeys(kept, "kept")}
    found = changed(content_of(**{name: old}), Variant(**{name: {chooses: value, "options": {"b": 3, "c": None}}}))
    expected = {**dict.fromkeys(kept, "kept"), chooses: value, "options": {"b": 3}}
    assert found[name] == {key: its for key, its in expected.items() if its is not None}


def test_without_a_new_choice_a_block_is_merged() -> None:
    found = changed(CONTENT, Variant(synthesis={"options": {"flip": None, "lr": 0.1}}, selection={"seed": 5}))
    assert found["synthesis"] == {"method": "edc", "seed": 4, "options": {"iterations": 50, "lr": 0.1}}
    assert found["selection"] == {**CONTENT["selection"], "seed": 5}


def test_another_codec_keeps_the_budget_and_none_of_the_options() -> None:
    found = changed(CONTENT, Variant(compression={"codec": "svd"}))
    assert found["compression"] == {"codec": "svd", "ratio": 4, "reference": "fp32"}


# --- settings ---

LADDER = {
    "first": {"selection": {"method": "random"}, "synthesis": {"method": "gvbsm", "options": {"pad": 0, "flip": 0.0}}},
    "second": {"synthesis": {"options": {"lr": 0.05}}, "labels": "online"},
    "third": {"synthesis": {"method": "edc", "options": {"alpha": 0.5}}, "evaluation": {"zeta": 2.0}},
    "fourth": {"evaluation": {"zeta": None, "batch_size": 5}, "labels": "hard"},
}


def chain_of(*contents: dict[str, Any]) -> list[Variant]:
    return [Variant.model_validate(content) for content in contents]


def parsed(content: dict[str, Any], ipc: int) -> params.Params:
    return params.parse({**content, "selection": {**content["selection"], "ipc": ipc}})


def test_in_a_ladder_each_adds_to_those_above_it() -> None:
    own = {
        "selection": {"method": "random", "ipc": 2, "seed": 3},
        "synthesis": {"method": "gvbsm", "seed": 4, "options": {"pad": 0, "flip": 0.0}},
    }
    by_hand = [
        (own, "packed"),
        (
            {**own, "synthesis": {"method": "gvbsm", "seed": 4, "options": {"pad": 0, "flip": 0.0, "lr": 0.05}}},
            "online",
        ),
        (
            {
                **own,
                "synthesis": {"method": "edc", "seed": 4, "options": {"alpha": 0.5}},
                "evaluation": {**CONTENT["evaluation"], "zeta": 2.0},
            },
            "online",
        ),
        (
            {
                **own,
                "synthesis": {"method": "edc", "seed": 4, "options": {"alpha": 0.5}},
                "evaluation": {**CONTENT["evaluation"], "batch_size": 5},
            },
            "hard",
        ),
    ]
    for rungs, (blocks, labels) in enumerate(by_hand, 1):
        chain = chain_of(*list(LADDER.values())[:rungs])
        assert variants.settings(chain, 2, CONTENT) == (params.parse({**CONTENT, **blocks}), labels)


@settings(deadline=None, max_examples=25)
@given(chain=st.permutations(list(LADDER)), ipc=st.integers(1, 50))
def test_chains_are_merges_one_after_another_and_others_stand_alone(chain: list[str], ipc: int) -> None:
    content, labels, below = content_of(), None, list[Variant]()
    for one in chain_of(*(LADDER[name] for name in chain)):
        alone = parsed(changed(CONTENT, one), ipc)
        assert variants.settings([one], ipc, CONTENT) == (alone, one.labels or "packed")
        content, labels = changed(content, one), one.labels or labels
        below.append(one)
        assert variants.settings(below, ipc, CONTENT) == (parsed(content, ipc), labels or "packed")


def test_the_sizes_of_the_workspace_are_none_of_a_studys() -> None:
    """They may be more than the study's ipc has, and no cell would change for them."""
    evaluation = {**CONTENT["evaluation"], "sizes": [1, 5, 10]}
    found = variants.settings([Variant()], 2, content_of(evaluation=evaluation))
    assert found == variants.settings([Variant()], 2, CONTENT)
    with pytest.raises(DataError, match=r"^a variant may not set evaluation\.sizes: "):
        variants.settings(chain_of({"evaluation": {"sizes": [1]}}), 2, CONTENT)


def test_without_soft_labels_students_learn_from_hard_ones() -> None:
    hard = content_of(softlabels={**CONTENT["softlabels"], "method": "none"})
    alone = chain_of({}, {"labels": "online"}, {"softlabels": {"method": "stored"}})
    assert [variants.settings([one], 1, hard)[1] for one in alone] == ["hard", "online", "packed"]


@pytest.mark.parametrize(
    ("variant", "sentence"),
    [
        (
            {"synthesis": {"optoins": {}}},
            "params.yaml with its changes: unknown key 'synthesis.optoins'; valid keys are method, seed, options; did "
            "you mean 'options'?",
        ),
        (
            {"evaluation": {"epochs": 0}},
            "params.yaml with its changes: evaluation.epochs is 0: input should be greater than or equal to 1",
        ),
        (
            {"evaluation": {"protocol": "edc/cifar11"}},
            "params.yaml with its changes: evaluation.protocol is 'edc/cifar11': unknown; choose one of edc/",
        ),
        ({"selection": {"method": None}}, "params.yaml with its changes: 'selection.method' is missing; add it"),
        (
            {"softlabels": {"teachers": ["second"]}},
            "params.yaml with its changes: softlabels.teachers names 'second', which is not in teacher.networks; ",
        ),
        (
            {"compression": {"bytes_per_image": 100.0}},
            "params.yaml with its changes: compression needs exactly one of ratio and bytes_per_image for codec 'rpca'",
        ),
        (
            {"labels": "packed", "softlabels": {"method": "none"}},
            "labels is packed but softlabels.method is none; choose online or hard, or softlabels: {method: stored}",
        ),
        (
            {"selection": {"ipc": 5}},
            "a variant may not set selection.ipc: the study sets it for all variants, or does not use it",
        ),
        (
            {"evaluation": {"seeds": [1, 2, 3]}},
            "a variant may not set evaluation.seeds: the study sets it for all variants, or does not use it",
        ),
        (
            {"evaluation": {"baselines": []}},
            "a variant may not set evaluation.baselines: the study sets it for all variants, or does not use it",
        ),
    ],
)
def test_what_params_yaml_could_not_hold_is_refused_in_one_sentence(variant: dict[str, Any], sentence: str) -> None:
    with pytest.raises(DataError) as error:
        variants.settings(chain_of(variant), 1, CONTENT)
    assert str(error.value).startswith(sentence) and "\n" not in str(error.value)


def test_an_error_below_in_a_ladder_is_an_error_above() -> None:
    wrong, right = chain_of({"evaluation": {"epochs": 0}}, {"evaluation": {"epochs": 3}})
    variants.settings([wrong, right], 1, CONTENT)  # the wrong value is never used here
    with pytest.raises(DataError, match=r"evaluation\.epochs is 0"):
        variants.settings([wrong], 1, CONTENT)
