"""Properties of every selector of the registry."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from pools import pool_of, stable

from dcpipe.selection import SELECTORS, USES_LOGITS, USES_SEED, Candidates, Progress, uses_logits, uses_seed
from dcpipe.types import DataError


def made(sizes: list[int], d: int = 4) -> Candidates:
    n, c = sum(sizes), len(sizes)
    numbers = stable(n, d + c, 3)
    return pool_of(numbers[:, :d], 4 * numbers[:, d:], sizes, np.abs(numbers[:, 0]))


@pytest.mark.parametrize("name", list(SELECTORS))
def test_rounds_are_balanced_and_nothing_is_picked_twice(name: str) -> None:
    candidates = made([9, 7, 8])
    for ipc in (1, 4, 7):
        picks = SELECTORS[name](candidates, ipc, 0, Progress())
        labels = np.searchsorted(candidates.offsets, picks.rows, side="right") - 1
        assert labels.tolist() == [0, 1, 2] * ipc
        assert len(set(picks.rows.tolist())) == len(picks.rows)
        assert picks.rows.dtype == np.int64 and picks.gains.dtype == np.float64 and np.isfinite(picks.gains).all()


@pytest.mark.parametrize("name", list(SELECTORS))
def test_the_same_call_gives_the_same_picks(name: str) -> None:
    first, again = (SELECTORS[name](made([9, 7, 8]), 4, 5, Progress()) for _ in range(2))
    assert first.rows.tolist() == again.rows.tolist() and first.gains.tobytes() == again.gains.tobytes()


@pytest.mark.parametrize("name", sorted(set(SELECTORS) - USES_SEED))
def test_selectors_without_randomness_ignore_the_seed(name: str) -> None:
    picks = {tuple(SELECTORS[name](made([30, 20]), 6, seed, Progress()).rows.tolist()) for seed in range(8)}
    assert len(picks) == 1


def test_the_seed_matters_for_selectors_that_use_it() -> None:
    options = {"k_center": {"start": "random"}, "gradmatch": {"ridge": 0.0}}
    for name in USES_SEED:
        candidates = made([30, 20])
        if name == "gradmatch":  # what it draws is how to fill up when no gradient is left to match
            candidates = Candidates(
                candidates.vectors, 0 * candidates.logits, candidates.label_rate, candidates.offsets
            )
            candidates.vectors[:] = 1.0
        picks = {
            tuple(SELECTORS[name](candidates, 6, seed, Progress(), **options.get(name, {})).rows.tolist())
            for seed in range(8)
        }
        assert len(picks) > 1, name


@pytest.mark.parametrize("name", list(SELECTORS))
def test_more_images_than_a_class_has_is_an_error(name: str) -> None:
    with pytest.raises(DataError) as error:
        SELECTORS[name](made([5, 3]), 4, 0, Progress())
    assert str(error.value) == "selection.ipc is 4 but class '1' has 3 images; use ipc <= 3"


class Forbidden:
    """Logits that nobody may look at."""

    def __init__(self, logits: Any) -> None:
        self.shape, self.dtype = logits.shape, logits.dtype

    def __getitem__(self, index: Any) -> Any:
        raise AssertionError("the logits were read")


@pytest.mark.parametrize("name", list(SELECTORS))
def test_logits_are_read_by_the_selectors_that_say_so_and_by_no_other(name: str) -> None:
    candidates = made([9, 7, 8])
    blind = replace(candidates, logits=Forbidden(candidates.logits))
    blind.check(4, logits=False)
    with pytest.raises(AssertionError, match="the logits were read"):
        blind.check(4)
    assert uses_logits(name) == (name in USES_LOGITS)
    if uses_logits(name):
        with pytest.raises(AssertionError, match="the logits were read"):
            SELECTORS[name](blind, 4, 0, Progress())
    else:
        seen, unseen = (SELECTORS[name](some, 4, 0, Progress()) for some in (candidates, blind))
        assert seen.rows.tolist() == unseen.rows.tolist()


def test_a_selector_of_another_package_may_use_everything() -> None:
    assert uses_logits("somebody_elses") and uses_seed("somebody_elses")
