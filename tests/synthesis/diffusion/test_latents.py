"""Latents class by class: every image once and in order, within memory, in few passes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dcpipe.synthesis import SynthesisContext
from dcpipe.synthesis.diffusion import latents
from dcpipe.synthesis.diffusion.latents import by_class, passes

LABELS = st.lists(st.integers(0, 5), min_size=1, max_size=40)


def most_open(labels: np.ndarray, group: list[int]) -> int:
    """The most images of classes of a group that have begun and not ended, at any row."""
    rows = {label: np.flatnonzero(labels == label) for label in group}
    return max(sum(len(own) for own in rows.values() if own[0] <= row <= own[-1]) for row in range(len(labels)))


@given(LABELS, st.integers(1, 20))
def test_passes_take_every_class_once_within_memory(drawn: list[int], most: int) -> None:
    labels = np.array(drawn)
    wanted = sorted(set(drawn))
    groups = passes(labels, wanted, most)
    assert sorted(label for group in groups for label in group) == wanted
    for group in groups:
        assert most_open(labels, group) <= max(most, *(int((labels == label).sum()) for label in group))


def test_classes_in_order_take_one_pass_and_mixed_ones_as_many_as_fit() -> None:
    assert passes(np.repeat(np.arange(6), 5), list(range(6)), 5) == [list(range(6))]
    assert passes(np.tile(np.arange(6), 5), list(range(6)), 10) == [[0, 1], [2, 3], [4, 5]]
    assert passes(np.tile(np.arange(2), 5), [0, 1, 7], 3) == [[0], [1]], "a class without images is in none"


@pytest.mark.parametrize("mixed", [False, True])
def test_every_image_is_encoded_once_with_others_of_its_class_and_part(
    monkeypatch: pytest.MonkeyPatch, mixed: bool
) -> None:
    monkeypatch.setattr(latents, "MOST_BYTES", 16 * 8)
    labels = np.tile(np.arange(4), 6) if mixed else np.repeat(np.arange(4), 6)
    images = np.arange(24, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 3), np.uint8)
    read: list[int] = []

    def real() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for first in range(0, 24, 10):
            read.append(first)
            yield images[first : first + 10], labels[first : first + 10]

    def batches(wanted: list[int]) -> tuple[dict[int, list[int]], list[list[int]]]:
        seen: list[list[int]] = []

        def encode(some: np.ndarray) -> np.ndarray:
            seen.append(some[:, 0, 0, 0].tolist())
            return np.float32(some[:, :1, :1, 0])

        context = SynthesisContext({}, real, labels, torch.device("cpu"))
        made = {label: found[:, 0, 0].tolist() for label, found in by_class(context, wanted, encode, 2, 16)}
        return made, seen

    made, seen = batches([0, 1, 2, 3])
    assert made == {label: np.flatnonzero(labels == label).tolist() for label in range(4)}
    assert sorted(row for batch in seen for row in batch) == list(range(24))
    assert all(
        len(batch) <= 2 and len({*labels[batch]}) == 1 and len({row // 10 for row in batch}) == 1 for batch in seen
    )
    assert len(read) == (12 if mixed else 3), "four passes, or one"
    read.clear()
    _, alone = batches([1])
    assert [batch for batch in seen if labels[batch[0]] == 1] == alone, "batches do not depend on what else is wanted"
    assert read == ([0, 10, 20] if mixed else [0, 10]), "reading ends with the last image that is wanted"
