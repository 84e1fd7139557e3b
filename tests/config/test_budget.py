"""Budgets against what codecs can do, as soon as the number of classes is known."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from dcpipe.config import budget, params, presets
from dcpipe.types import DataError, LabelShape

DIGITS = yaml.safe_load(presets.text("digits"))


def parameters(**blocks: dict[str, Any]) -> params.Params:
    """The demo's, with keys of blocks changed."""
    return params.parse({**DIGITS, **{name: {**DIGITS[name], **block} for name, block in blocks.items()}})


def refusal(given: params.Params, n_classes: int = 10) -> str:
    with pytest.raises(DataError) as error:
        budget.planned(given, n_classes)
    return str(error.value)


def test_what_is_planned_keeps_to_the_budget() -> None:
    planned = budget.planned(parameters(), 10)
    assert planned is not None and planned.shape == LabelShape(100, 100, 10)
    assert 0.9 * 50_000 < planned.n_bytes <= 50_000
    none = budget.planned(parameters(compression={"codec": "none", "ratio": None}), 10)
    assert none is not None and 200_000 < none.n_bytes < 201_000
    assert budget.planned(parameters(softlabels={"method": "none"}), 10) is None


@pytest.mark.parametrize(
    ("synthesis", "cells"),
    [
        ({"method": "rded", "options": {"factor": 2}}, 1),
        ({"method": "idc"}, 4),
        ({"method": "dream", "options": {"factor": 3}}, 9),
        ({"method": "dm"}, 1),
        ({"method": "mdc", "options": {"base": "idc", "options": {"factor": 3}}}, 9),
        ({"method": "mdc", "options": {"base": "dream"}}, 4),
    ],
)
def test_grids_have_labels_for_each_of_their_images(synthesis: dict[str, Any], cells: int) -> None:
    planned = budget.planned(parameters(synthesis={"options": {}, **synthesis}), 10)
    assert planned is not None and planned.shape.images == 100 * cells


def test_a_ratio_that_is_too_large_names_the_largest_and_the_codecs_that_reach_it() -> None:
    sentence = refusal(parameters(compression={"ratio": 12}))
    assert sentence == (
        "compression.ratio 12 leaves 16,666 bytes for labels of 100 images x 100 views x 10 classes, but codec 'rpca' "
        "needs 22,512; choose ratio 8.88 or less, or codec field, lowrank_int8, mean_label, prune, prune_topk "
        "or zipf"
    )
    assert budget.planned(parameters(compression={"ratio": 8.88}), 10) is not None
    refusal(parameters(compression={"ratio": 8.89}))
    for codec in ("field", "lowrank_int8", "prune", "prune_topk", "zipf"):
        assert budget.planned(parameters(compression={"ratio": 12, "codec": codec}), 10) is not None
    for codec in ("cur", "rsvd", "svd", "topk"):
        assert "choose ratio" in refusal(parameters(compression={"ratio": 12, "codec": codec}))


def test_bytes_for_an_image_that_are_too_few_name_the_least() -> None:
    sentence = refusal(parameters(compression={"ratio": None, "bytes_per_image": 100.0}))
    least = re.search(r"choose bytes_per_image ([\d.]+) or more, or codec", sentence)
    assert least is not None and sentence.startswith(
        "compression.bytes_per_image 100 leaves 10,000 bytes for labels of "
    )
    enough = float(least[1])
    assert budget.planned(parameters(compression={"ratio": None, "bytes_per_image": enough}), 10) is not None
    refusal(parameters(compression={"ratio": None, "bytes_per_image": enough - 0.02}))


def test_a_ratio_that_nothing_reaches_says_so() -> None:
    sentence = refusal(parameters(compression={"ratio": 1000}))
    assert sentence.endswith(
        "needs 22,512; choose ratio 8.88 or less; no other codec reaches this budget with its defaults"
    )
    # A header may be larger than all labels.
    tiny = parameters(compression={"ratio": 2}, softlabels={"views": 1}, selection={"ipc": 1})
    assert refusal(tiny).endswith(
        "choose codec none without ratio; no other codec reaches this budget with its defaults"
    )


def test_a_ratio_may_be_against_fp32() -> None:
    given = parameters(compression={"ratio": 17.7, "reference": "fp32"})
    assert budget.planned(given, 10) is not None
    assert "choose ratio 17.76 or less" in refusal(parameters(compression={"ratio": 20, "reference": "fp32"}))


def test_a_codec_that_cannot_serve_the_views_is_refused() -> None:
    given = parameters(
        compression={"codec": "prune", "ratio": 4, "options": {"granularity": "batch", "batch_size": 30}},
        softlabels={"mix": "cutmix_labels"},
    )
    assert refusal(given).startswith("codec 'prune' stores view 0 of only some images, but mix 'cutmix_labels' needs")


@pytest.mark.parametrize(("key", "value"), [("ratio", 4), ("bytes_per_image", 10.0)])
def test_a_budget_that_codec_none_cannot_reach_is_to_be_left_out(key: str, value: float) -> None:
    """It does not advise itself with the budget that it has just refused."""
    given = parameters(compression={"codec": "none", "ratio": None, key: value})
    assert f"choose codec none without {key}" in refusal(given)
    without = parameters(compression={"codec": "none", "ratio": None})
    assert budget.planned(without, 10) is not None


# --- the number of classes ---


def artifact(folder: Path, block: dict[str, Any], classes: int) -> None:
    """What the images stage leaves, as far as it matters here."""
    folder.mkdir(parents=True)
    meta = {"classes": [str(name) for name in range(classes)]}
    text = json.dumps({"meta": meta, "lineage": {"params": block}})
    (folder / "artifact.json").write_text(text, encoding="utf-8")


def test_classes_are_those_of_the_images_that_are_there(tmp_path: Path) -> None:
    given = parameters()
    block = given.images.content()
    assert budget.recorded(given.images, tmp_path / "none") is None
    artifact(tmp_path / "a", block, 7)
    assert budget.recorded(given.images, tmp_path / "a") == (7, None)
    artifact(tmp_path / "b", {**block, "size": 9}, 7)
    assert budget.recorded(given.images, tmp_path / "b") is None, "other images than params.yaml asks for"
    (tmp_path / "a" / "artifact.json").write_text("{", encoding="utf-8")
    assert budget.recorded(given.images, tmp_path / "a") is None


def test_small_classes_give_fewer_labels(tmp_path: Path) -> None:
    """The plan is for the images that there will be, once they are counted."""
    content = yaml.safe_load(presets.text("digits"))
    content["selection"] = {"method": "herding", "ipc": 10, "small_classes": "take_all"}
    given = params.parse(content)
    counts = [200, 3, 10, 9, *[50] * 6]
    assert budget.label_shape(given, 10, counts).images == 10 + 3 + 10 + 9 + 60
    assert budget.label_shape(given, 10).images == 100 == budget.label_shape(parameters(), 10, counts).images
    planned = budget.planned(given, 10, counts)
    assert planned is not None and planned.shape.images == 92 and planned.n_bytes <= planned.shape.reference_bytes / 4
    path = tmp_path / "images" / "artifact.json"
    artifact(tmp_path / "images", given.images.content(), 10)
    known = json.loads(path.read_text(encoding="utf-8"))
    known["lineage"]["report"] = {"per_class": {"counts": counts}}
    path.write_text(json.dumps(known), encoding="utf-8")
    assert budget.recorded(given.images, tmp_path / "images") == (10, counts)


def test_reaching_a_budget_is_what_the_plan_says() -> None:
    for ratio in (2, 4, 9, 12, 40):
        given = params.parse(yaml.safe_load(presets.text("digits").replace("ratio: 4", f"ratio: {ratio}")))
        try:
            reached = budget.planned(given, 10) is not None
        except DataError:
            reached = False
        assert budget.is_reached(given, 10) == reached


def test_a_file_next_to_its_images_is_checked_against_them(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    text = presets.text("digits").replace("ratio: 4", "ratio: 12")
    path.write_text(text, encoding="utf-8")
    assert params.load(path).compression.ratio == 12, "nothing is known of the classes yet"
    artifact(tmp_path / "data" / "images", parameters().images.content(), 10)
    with pytest.raises(DataError) as error:
        params.load(path)
    assert str(error.value).startswith(f"{path}: compression.ratio 12 leaves 16,666 bytes for labels of 100 images")


@pytest.mark.parametrize(
    ("block", "classes"),
    [
        ({"source": "digits"}, 10),
        ({"source": "torchvision", "options": {"name": "CIFAR100", "root": "nowhere"}}, 100),
        ({"source": "torchvision", "options": {"name": "FakeData", "root": "nowhere"}}, None),
    ],
)
def test_sources_count_their_classes(block: dict[str, Any], classes: int | None) -> None:
    images = params.Images(size=8, **block)
    assert budget.counted_classes(images) == classes
