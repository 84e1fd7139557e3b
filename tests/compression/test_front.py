"""Packing arrays: the pipeline's bytes and logits, without its folders."""

from __future__ import annotations

import doctest
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from codec_cases import KINDS, name_of

import dcpipe
from dcpipe import views
from dcpipe.compression import CODECS, front, rebuild
from dcpipe.types import BudgetError, DataError, ViewPolicy

N, K, C = 12, 20, 10


def logits(shape: tuple[int, int, int] = (N, K, C)) -> np.ndarray:
    draw = np.random.default_rng(1)
    n, k, c = shape
    return draw.normal(size=(n, 1, c)) * 3 + draw.normal(size=(n, k, 1)) * draw.normal(size=(n, 1, c))


@pytest.mark.parametrize("kind", list(KINDS))
def test_the_file_keeps_to_its_budget_and_gives_the_same_logits(kind: str, tmp_path: Path) -> None:
    name, options = name_of(kind), KINDS[kind]
    ratio = None if name == "none" else 1.2
    labels = front.compress(logits(), name, ratio, **options)
    path = tmp_path / "labels.safetensors"
    assert labels.save(path) == path.stat().st_size == labels.n_bytes
    assert ratio is None or labels.n_bytes <= 2 * N * K * C / ratio
    again = front.load_labels(path)
    assert (again.codec, again.settings, again.shape) == (name, labels.settings, labels.shape)
    assert again.n_bytes == labels.n_bytes and again.pack.ids.tolist() == list(range(N))
    if name in ("prune", "prune_topk"):
        return
    decoded = labels.decode()
    assert decoded.shape == (N, K, C) and decoded.dtype == np.float32
    assert np.array_equal(again.decode(), decoded, equal_nan=True)
    assert np.array_equal(labels.decode(np.array([7, 2])), decoded[[7, 2]])


def test_without_a_codec_labels_come_back_to_the_bit() -> None:
    given = logits().astype(np.float16)
    assert np.array_equal(front.compress(given, "none").decode(), given.astype(np.float32))


def test_logits_are_those_that_the_codec_decodes_one_by_one() -> None:
    labels = front.compress(logits(), "svd", 2)
    codec, pack = rebuild(labels.pack, CODECS), labels.pack
    arrays = {name: torch.from_numpy(np.asarray(array)) for name, array in pack.arrays.items()}
    seen = views.views_of(pack.policy, pack.ids)
    whole = labels.decode()
    for image, view in ((0, 0), (3, 7), (N - 1, K - 1)):
        one = np.array([image]), np.array([view])
        assert np.array_equal(
            whole[image, view], codec.decode(arrays, *one, pack.shape, seen.parameters(*one))[0].numpy()
        )


def test_the_field_needs_the_views_that_the_teacher_saw() -> None:
    """Labels that follow the crops are reproduced with the policy that drew them, and worse with another."""
    policy, ids = ViewPolicy(scale_min=0.3, seed=4), np.arange(100, 100 + N)
    drawn = views.draw(policy, ids.repeat(60), np.tile(np.arange(60), N), N)
    given = (drawn.box @ np.random.default_rng(0).normal(size=(4, C)) * 4).reshape(N, 60, C)
    errors = [
        float(np.square(front.compress(given, "field", 8, views=law, ids=ids).decode() - given).mean())
        for law in (policy, ViewPolicy(scale_min=0.3, seed=5))
    ]
    assert errors[0] < errors[1] / 4


def test_a_budget_may_be_bytes_per_image_or_relative_to_fp32() -> None:
    labels = front.compress(logits(), "svd", bytes_per_image=300)
    assert 0.9 * 300 * N < labels.n_bytes <= 300 * N
    twice = front.compress(logits(), "svd", 4, reference="fp32")
    assert twice.n_bytes == front.compress(logits(), "svd", 2).n_bytes
    assert dcpipe.compress is front.compress and dcpipe.load_labels is front.load_labels


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"codec": "svdd", "ratio": 2}, f"unknown codec 'svdd'; choose one of {', '.join(CODECS)}; did you mean 'svd'?"),
    ({"ratio": 2, "alpha": 1}, "codec 'field' has no option 'alpha'; its options are bits, base_bits, residual_bits, "),
    ({"codec": "svd"}, "codec 'svd' takes one of ratio and bytes_per_image, but neither was given"),
    (
        {"codec": "svd", "ratio": 2, "bytes_per_image": 9},
        "codec 'svd' takes one of ratio and bytes_per_image, but ratio and bytes_per_image were given",
    ),
    ({"codec": "none", "ratio": 2}, "codec 'none' takes no budget, but ratio was given"),
    ({"logits": np.zeros((3, 4)), "ratio": 2}, "logits must be [images, views, classes], but are [3, 4]"),
    (
        {"logits": np.full((2, 3, 4), 1e6), "ratio": 2},
        "soft labels of image 0 (row 0) contain NaN, infinity or a number beyond fp16 (65504) in view 0; check the ",
    ),
    (
        {"logits": np.zeros((2, 3, 4)), "ratio": 2, "ids": np.arange(3)},
        "ids must be 2 whole numbers, one for each image, but are int64 [3]",
    ),
    ({"logits": np.zeros((0, 3, 4)), "ratio": 2}, "logits are empty, [0, 3, 4]; give at least one image, view and"),
    ({"logits": np.zeros((2, 3, 4)) * 1j, "ratio": 2}, "logits must be real numbers, but are complex128; convert them"),
    ({"logits": np.zeros((2, 3, 4)), "ratio": 2, "device": "gpu"}, "device 'gpu' is unknown; use auto, cpu, cuda, "),
    ({"logits": np.zeros((2, 3, 4)), "ratio": 2, "views": {}}, "views is {}; give a dcpipe.ViewPolicy, or leave it"),
]


@pytest.mark.parametrize(("change", "sentence"), REFUSED)
def test_what_cannot_be_packed_is_refused(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(DataError) as error:
        front.compress(**{"logits": logits(), **change})
    assert str(error.value).startswith(sentence)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e5, -1e5])
@pytest.mark.parametrize("codec", CODECS)
def test_no_codec_packs_labels_that_fp16_cannot_store(codec: str, bad: float) -> None:
    """`field` and `lowrank_int8` would decode the whole image to zeros, and `zipf` to garbage."""
    given = logits()
    given[7, 3, 2] = bad
    with pytest.raises(DataError) as error:
        front.compress(given, codec, None if codec == "none" else 1.2, ids=np.arange(100, 100 + N))
    assert str(error.value) == (
        "soft labels of image 107 (row 7) contain NaN, infinity or a number beyond fp16 (65504) in view 3; check the "
        "teacher's weights and normalisation, then compute the labels again"
    )


def test_the_largest_numbers_of_fp16_are_packed() -> None:
    given = logits()
    given[7, 3, 2] = -65504
    assert front.compress(given, "none").decode()[7, 3, 2] == -65504


def test_a_budget_that_is_too_small_and_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(BudgetError, match=r"^codec 'svd': its arrays take at least \d+ bytes"):
        front.compress(logits(), "svd", 1000)
    with pytest.raises(DataError, match=r"labels.safetensors not found; give the path of a saved file$"):
        front.load_labels(tmp_path / "labels.safetensors")


def test_the_example_runs() -> None:
    results = doctest.testmod(front)
    assert results.attempted >= 6 and results.failed == 0


@pytest.mark.parametrize("rows", [[-1], [N], [0.5], [[0]], [True], "a"])
def test_only_rows_that_exist_are_decoded(rows: Any) -> None:
    labels = front.compress(logits(), "none")
    with pytest.raises(DataError, match=rf"^rows must be whole numbers in 0\.\.{N - 1}, \[m\]; correct them$"):
        labels.decode(rows)
    assert labels.decode(torch.tensor([2])).shape == (1, K, C) and labels.decode([]).shape == (0, K, C)
