"""Rows of a set: the text of each class, prototypes and noise of its own, and the model of either layout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matching_scenes import start_of

from dcpipe.synthesis.diffusion import rows
from dcpipe.synthesis.diffusion.folder import CLASSES, TEXT, Folder
from dcpipe.synthesis.diffusion.prototypes import Prototypes
from dcpipe.types import DataError


def test_seeds_of_noise_are_32_bits_and_differ() -> None:
    seeds = rows.noise_seeds(5, 1000)
    assert len({*seeds.tolist()}) == 1000 and seeds.min() >= 0 and seeds.max() < 2**32
    assert np.array_equal(rows.noise_seeds(5, 3), seeds[:3])
    assert rows.noise_seeds(6, 1) != seeds[0]
    firsts = [int(rows.noise_seeds(seed, 1)[0]) for seed in range(3000)]
    late = int(np.argmax(firsts))
    n = 2**32 - firsts[late] + 2
    assert n < 10**7 and rows.noise_seeds(late, n)[-2:].tolist() == [0, 1], (
        "after the last number they start again at 0"
    )


@given(st.lists(st.integers(0, 3), min_size=1, max_size=30), st.integers(1, 4))
def test_the_rows_of_a_class_take_its_prototypes_in_turn(labels: list[int], count: int) -> None:
    latents = np.arange(4 * count, dtype=np.float32).reshape(4, count, 1, 1, 1) * np.ones((1, 1, 4, 2, 2), np.float32)
    found = {label: Prototypes(latents[label], np.ones(count, np.int64)) for label in range(4)}
    by_row = rows.ByRow(np.array(labels), found)
    given_out = by_row.latents(np.arange(len(labels)))[:, 0, 0, 0]
    seen = [0] * 4
    for row, label in enumerate(labels):
        assert given_out[row] == count * label + seen[label] % count
        seen[label] += 1
    some = np.arange(len(labels))[::-2]
    assert np.array_equal(by_row.latents(some)[:, 0, 0, 0], given_out[some])


def test_prompts_belong_to_names() -> None:
    assert rows.class_prompts("m", ("a", "b"), "a {}", {"b": "{} dog"}) == ["a a", "a {} dog"]
    for given_, sentence in (
        ({"c": "x"}, "m: prompts has 'c', which is no class of the images; the classes are a, b$"),
        ({"a": "b"}, "m: classes 'a' and 'b' have the same prompt 'b'; give each its own in prompts"),
    ):
        with pytest.raises(DataError, match=sentence):
            rows.class_prompts("m", ("a", "b"), "{}", given_)


def test_a_class_needs_as_many_images_as_prototypes() -> None:
    start, labels = start_of(4), np.array([0] * 9 + [1] * 4 + [2] * 3)
    assert rows.needed("m", start, labels, 3) == {0: 3, 1: 3, 2: 3} == rows.needed("m", start_of(3), labels, 50)
    with pytest.raises(DataError, match="class 'class 2' has 3 training images, fewer than its 4 prototypes; set pro"):
        rows.needed("m", start, labels, None)


def test_the_layout_says_which_model_and_guidance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "Diffusion", lambda *_: "by text")
    monkeypatch.setattr(rows, "ByClass", lambda *_: "by class")
    for layout, kind, usual in ((TEXT, "by text", 8.0), (CLASSES, "by class", 4.0)):
        folder = Folder(Path(), 16, 8, layout)
        assert rows.load(folder, None, False) == kind  # type: ignore[arg-type]
        assert (rows.usual_guidance(folder, None), rows.usual_guidance(folder, 0.0)) == (usual, 0.0)
