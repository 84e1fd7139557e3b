"""Budgets: bytes computed again, plans that stay within them on disk, and what no codec can do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dcpipe import store
from dcpipe.compression.budget import Budget
from dcpipe.types import BudgetError, DataError, LabelPack, LabelShape, SoftLabels, ViewPolicy, run_in_turn

SHAPE = LabelShape(12, 20, 30)


@given(n=st.integers(1, 50), k=st.integers(1, 50), c=st.integers(2, 50), ratio=st.floats(1, 100))
def test_a_ratio_is_to_two_or_four_bytes_a_logit(n: int, k: int, c: int, ratio: float) -> None:
    shape = LabelShape(n, k, c)
    assert Budget("svd", ratio=ratio).limit(shape) == int(2 * n * k * c / ratio)
    assert Budget("svd", ratio=ratio, reference="fp32").limit(shape) == int(4 * n * k * c / ratio)
    assert Budget("svd", bytes_per_image=ratio).limit(shape) == int(ratio * n)
    assert Budget().limit(shape) is None


@pytest.mark.parametrize(
    ("budget", "limit"),
    [
        (Budget("svd", ratio=3.0), SHAPE.reference_bytes // 3),
        (Budget("svd", ratio=6.0, reference="fp32"), SHAPE.reference_bytes // 3),
        (Budget("prune", ratio=4.0), SHAPE.reference_bytes // 4),
        (Budget("prune", bytes_per_image=500.0), 6000),
        (Budget("rpca", bytes_per_image=600.5), 7206),
    ],
)
def test_a_planned_pack_keeps_to_its_budget_on_disk(budget: Budget, limit: int, tmp_path: Path) -> None:
    codec = budget.plan(SHAPE, ViewPolicy())
    arrays = {name: np.zeros(shape, dtype=dtype) for name, (shape, dtype) in codec.specs(SHAPE).items()}
    pack = LabelPack(budget.codec, codec.settings, arrays, SHAPE, ViewPolicy(), np.arange(12))
    size = store.save_pack(tmp_path / "labels.safetensors", pack)
    assert 0.6 * limit < size <= limit


def test_no_codec_needs_no_budget() -> None:
    codec = Budget().plan(SHAPE, ViewPolicy())
    assert codec.specs(SHAPE) == {"logits": ((12, 20, 30), "float16")}


def test_a_budget_below_the_smallest_file_is_refused_before_any_work(tmp_path: Path) -> None:
    logits = np.zeros((12, 20, 30), dtype=np.float16)
    labels = SoftLabels(logits, ViewPolicy(), np.arange(12), tuple(map(str, range(30))), ("main",))
    budget = Budget("svd", ratio=10_000.0)
    with pytest.raises(BudgetError, match=r"^codec 'svd': its arrays take at least \d+ bytes"):
        budget.plan(SHAPE, ViewPolicy())
    with pytest.raises(BudgetError):
        budget.compress(labels, tmp_path, torch.device("cpu"), run_in_turn)
    assert not list(tmp_path.iterdir())


def test_a_killed_compression_resumes_from_its_blocks(tmp_path: Path) -> None:
    logits = np.random.default_rng(0).normal(0, 3, (12, 20, 30)).astype(np.float16)
    labels = SoftLabels(logits, ViewPolicy(), np.arange(12), tuple(map(str, range(30))), ("main",))
    budget, done = Budget("svd", {}, ratio=3.0), list[int]()

    def dying(work: Any, items: Any, label: Any, **options: Any) -> list[Any]:
        for item in items:
            if len(done) == 3:
                raise KeyboardInterrupt
            done.append(item)
            work(item)
        return []

    with pytest.raises(KeyboardInterrupt):
        budget.compress(labels, tmp_path, torch.device("cpu"), dying)
    times = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert len(times) == 3
    broken = budget.compress(labels, tmp_path, torch.device("cpu"), run_in_turn)
    assert all(path.stat().st_mtime_ns == time for path, time in times.items()), "blocks are not encoded again"
    (tmp_path / "whole").mkdir()
    whole = budget.compress(labels, tmp_path / "whole", torch.device("cpu"), run_in_turn)
    for name, array in whole.arrays.items():
        assert np.array_equal(broken.arrays[name][:], array[:])


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            {"codec": "svd"},
            "codec 'svd' takes one of ratio and bytes_per_image, but neither was given; give one of them",
        ),
        (
            {"codec": "svd", "ratio": 2.0, "bytes_per_image": 9.0},
            "codec 'svd' takes one of ratio and bytes_per_image, but ratio and bytes_per_image were given; give one of "
            "them",
        ),
        ({"ratio": 2.0}, "codec 'none' takes no budget, but ratio was given; leave ratio out"),
        ({"codec": "svd", "ratio": 0.0}, "codec 'svd': ratio is 0; give a number above 0"),
        ({"codec": "svd", "ratio": float("inf")}, "codec 'svd': ratio is inf; give a number above 0"),
        ({"codec": "svd", "ratio": "2"}, "codec 'svd': ratio is '2'; give a number above 0"),
        ({"codec": "svd", "ratio": True}, "codec 'svd': ratio is True; give a number above 0"),
        ({"codec": "svd", "ratio": 2, "reference": "fp64"}, "codec 'svd': reference is 'fp64'; give fp16 or fp32"),
        ({"codec": "svd", "bytes_per_image": -1.0}, "codec 'svd': bytes_per_image is -1; give a number above 0"),
    ],
)
def test_a_budget_is_one_number_above_zero(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(DataError) as error:
        Budget(**options)
    assert str(error.value) == sentence
