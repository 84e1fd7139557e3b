"""Multi-formation: decoding and arranging against loops, owners of cells, subsets, and sets of grids."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dcpipe.types import DataError, ImageSet
from dcpipe.views import multiformation
from dcpipe.views.multiformation import Segment, arrange, decode, decoded, owners, plan, subset

# factor -> sides that it leaves a pixel in every cell of
SIDES = {f: [s for s in range(f, 12) if (f - 1) * -(-s // f) < s] for f in (1, 2, 3, 4)}
FORMS = [("single", None), ("multi", None), ("bound", 12)]


@st.composite
def shapes(draw: st.DrawFn) -> tuple[int, int, int, int]:
    """(n, factor, height, width)"""
    factor = draw(st.sampled_from(sorted(SIDES)))
    return draw(st.integers(1, 3)), factor, draw(st.sampled_from(SIDES[factor])), draw(st.sampled_from(SIDES[factor]))


def random_images(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def tents(cell: int, side: int) -> np.ndarray:
    """Bilinear interpolation as a matrix [side, cell]: each small pixel is a tent of width 1 around its centre."""
    matrix = np.zeros((side, cell))
    for pixel in range(side):
        place = min(max((pixel + 0.5) * cell / side - 0.5, 0), cell - 1)
        for neighbour in range(cell):
            matrix[pixel, neighbour] = max(0.0, 1 - abs(place - neighbour))
    return matrix


def slow_decode(images: np.ndarray, factor: int, fill: float = 0.5) -> np.ndarray:
    """One cell of one image at a time, cell-major: [n*f*f, 3, h, w]."""
    height, width = images.shape[2:]
    tall, wide = -(-height // factor), -(-width // factor)
    out = []
    for row in range(factor):
        for column in range(factor):
            for image in images:
                sheet = np.full((3, factor * tall, factor * wide), fill)
                sheet[:, :height, :width] = image
                cell = sheet[:, row * tall : (row + 1) * tall, column * wide : (column + 1) * wide]
                out.append([tents(tall, height) @ channel @ tents(wide, width).T for channel in cell])
    return np.array(out)


def slow_arrange(images: np.ndarray, factor: int) -> np.ndarray:
    """One pixel at a time: [n, 3, h, w]."""
    n, (height, width) = len(images) // factor**2, images.shape[2:]
    tall, wide = -(-height // factor), -(-width // factor)
    out = np.full((n, 3, height, width), np.nan)
    for i in range(n):
        for k in range(factor**2):
            top, left = k // factor * tall, k % factor * wide
            bottom, right = min(top + tall, height), min(left + wide, width)
            for y in range(top, bottom):
                for x in range(left, right):
                    shown = (y - top) * height // (bottom - top), (x - left) * width // (right - left)
                    out[i, :, y, x] = images[k * n + i, :, shown[0], shown[1]]
    return out


# --- decode and arrange ---


@settings(deadline=None, max_examples=60)
@given(shape=shapes(), fill=st.sampled_from([0.5, -2.0]))
def test_decoding_is_the_loop_over_cells(shape: tuple[int, int, int, int], fill: float) -> None:
    n, factor, height, width = shape
    images = random_images(n, 3, height, width)
    found = decode(images, factor, fill=fill)
    assert found.shape == (n * factor**2, 3, height, width)
    np.testing.assert_allclose(found, slow_decode(images.numpy(), factor, fill), rtol=0, atol=1e-12)
    single = decode(images.float(), factor, fill=fill)
    assert single.dtype == torch.float32
    np.testing.assert_allclose(single, found, rtol=0, atol=1e-5)


@settings(deadline=None, max_examples=60)
@given(shape=shapes())
def test_arranging_is_the_loop_over_pixels(shape: tuple[int, int, int, int]) -> None:
    n, factor, height, width = shape
    images = random_images(n * factor**2, 3, height, width)
    found = arrange(images, factor)
    np.testing.assert_array_equal(found, slow_arrange(images.numpy(), factor))
    bytes_ = (images * 255).to(torch.uint8)
    assert torch.equal(arrange(bytes_, factor), torch.from_numpy(slow_arrange(bytes_.numpy(), factor)).to(torch.uint8))


@pytest.mark.parametrize("side", [32, 224])
@pytest.mark.parametrize("factor", [1, 2, 3])
def test_the_papers_sizes(factor: int, side: int) -> None:
    images = random_images(2, 3, side, side)
    np.testing.assert_allclose(decode(images, factor), slow_decode(images.numpy(), factor), rtol=0, atol=1e-12)
    whole = random_images(factor**2, 3, side, side)
    assert torch.equal(arrange(whole, factor)[0, :, 0, 0], whole[0, :, 0, 0])
    cell = -(-side // factor)
    widths = [min(cell, side - k * cell) for k in range(factor)]
    assert widths == {(1, 224): [224], (2, 224): [112, 112], (3, 224): [75, 75, 74]}.get((factor, side), widths)
    marks = torch.arange(factor**2, dtype=torch.float64)[:, None, None, None].expand(-1, 3, side, side)
    sheet = arrange(marks, factor)[0, 0]
    assert [int((sheet == k).sum()) for k in range(factor**2)] == [a * b for a in widths for b in widths]
    # Back to the images that went in, but for pixels that the padding reaches.
    inside = side if side % factor == 0 else int((cell - 2 + 0.5) * side / cell - 0.5) + 1
    back = decode(arrange(marks, factor), factor)
    torch.testing.assert_close(back[..., :inside, :inside], marks[..., :inside, :inside], rtol=0, atol=1e-12)
    assert inside > 0.9 * side - 3


@settings(deadline=None, max_examples=30)
@given(n=st.integers(1, 4), factor=st.integers(1, 4), cell=st.integers(1, 4), seed=st.integers(0, 99))
def test_plain_images_come_back_in_their_order(n: int, factor: int, cell: int, seed: int) -> None:
    shades = random_images(n * factor**2, 3, 1, 1, seed=seed).expand(-1, -1, cell * factor, cell * factor)
    torch.testing.assert_close(decode(arrange(shades, factor), factor), shades, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("kind", "bound"), FORMS)
def test_classes_decode_alike(kind: Any, bound: int | None) -> None:
    images = random_images(2, 4, 3, 7, 5)
    found = decode(images, 2, kind, bound)
    for label in range(2):
        torch.testing.assert_close(found[label], decode(images[label], 2, kind, bound), rtol=0, atol=1e-14)
    whole = random_images(2, 12, 3, 7, 5)
    assert torch.equal(arrange(whole, 2)[1], arrange(whole[1], 2))
    assert torch.equal(decode(images[None], 2, kind, bound)[0], found)


@pytest.mark.parametrize(("kind", "bound"), FORMS)
def test_gradients(kind: Any, bound: int | None) -> None:
    images = random_images(4, 3, 5, 4).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: decode(x, 2, kind, bound), (images,))
    assert torch.autograd.gradcheck(lambda x: arrange(x, 2), (images,))


# --- parts, owners, subsets ---


def test_the_counts_of_the_official_code() -> None:
    assert plan(20, 3, "bound", 128) == (Segment(3, 0, 12), Segment(2, 12, 15), Segment(1, 15, 20))
    assert plan(20, 3, "bound", 256) == (Segment(3, 0, 20),)
    assert plan(50, 2, "bound", 128) == (Segment(2, 0, 19), Segment(1, 19, 50))
    assert [len(owners(20, 3, "bound", bound)) for bound in (128, 256)] == [125, 180]
    assert plan(10, 3) == (Segment(3, 0, 10),)
    assert plan(10, 3, "multi") == (Segment(1, 0, 10), Segment(2, 0, 10), Segment(3, 0, 10))


@settings(deadline=None, max_examples=100)
@given(n=st.integers(1, 60), factor=st.integers(1, 4), more=st.integers(0, 300))
def test_a_bound_is_kept_and_no_part_could_take_one_more(n: int, factor: int, more: int) -> None:
    parts = plan(n, factor, "bound", n + more)
    assert parts[0].start == 0 and parts[-1].stop == n
    assert all(a.stop == b.start and a.factor > b.factor for a, b in pairwise(parts))
    counts = {g: stop - start for g, start, stop in parts}
    assert sum(count * g**2 for g, count in counts.items()) <= n + more
    left, used = n, 0
    for g in range(factor, 1, -1):
        count = counts.get(g, 0)
        # With one more of this factor there would be no room for one each of those left: too many.
        assert count == left or used + (count + 1) * g**2 + left > n + more
        left, used = left - count, used + count * g**2


@settings(deadline=None, max_examples=40)
@given(n=st.integers(1, 6), factor=st.integers(1, 3), form=st.sampled_from(FORMS))
def test_owners_are_the_images_that_decoded_ones_show(n: int, factor: int, form: Any) -> None:
    shades = torch.arange(n, dtype=torch.float64)[:, None, None, None].expand(-1, 3, 6, 6)
    who = owners(n, factor, *form)
    assert who.dtype == torch.int64
    shown = decode(shades, factor, *form)
    torch.testing.assert_close(shown[:, 0, 0, 0], who.double(), rtol=0, atol=1e-12)


def test_subsets_of_ten_images_in_grids_of_two() -> None:
    """The two meanings of S[n]; the official code's is of cells: S[3] has two top-right ones."""

    pixels = np.zeros((10, 4, 4, 3), dtype=np.uint8)
    images = ImageSet(pixels, np.zeros(10, dtype=np.int64), np.arange(10), ("only",), grid=2)

    def shown(n: int, by: Any = None, of: ImageSet = images) -> list[tuple[int, int]]:
        return [divmod(int(name), of.grid**2) for name in subset(of, n, by).decoded_ids]  # (image, cell)

    assert shown(1, "cells") == [(0, 0), (1, 0), (2, 0), (3, 0)]
    assert shown(3, "cells") == sorted([(i, 0) for i in range(10)] + [(0, 1), (1, 1)])
    assert shown(1) == [(0, 0), (0, 1), (0, 2), (0, 3)]
    assert shown(3) == [(i, k) for i in range(3) for k in range(4)]
    assert shown(10) == shown(10, "cells") == [(i, k) for i in range(10) for k in range(4)]
    single = replace(images, grid=1)
    assert shown(4, of=single) == shown(4, "cells", single) == [(i, 0) for i in range(4)]


def test_a_set_says_itself_what_its_smaller_sizes_are() -> None:
    images = grids(2, 4)
    by_cells = replace(images, by="cells")
    assert subset(by_cells, 1).ids.tolist() == subset(images, 1, "cells").ids.tolist()
    assert subset(by_cells, 1, "images").ids.tolist() == subset(images, 1).ids.tolist()
    assert subset(by_cells, 1).ids.tolist() != subset(images, 1).ids.tolist()
    assert by_cells.prefix(1).by == "cells" and decoded(by_cells).by == "images"


# --- sets ---


def grids(factor: int, side: int, counts: tuple[int, ...] = (3, 2, 4), seed: int = 0) -> ImageSet:
    """Rows of the classes in any order; ids are not positions."""
    source = np.random.default_rng(seed)
    labels = source.permutation(np.repeat(np.arange(len(counts)), counts))
    pixels = source.integers(0, 256, (len(labels), side, side + 1, 3), dtype=np.uint8)
    ids = source.permutation(100)[: len(labels)]
    return ImageSet(pixels, labels, ids, tuple("abcdefg"[: len(counts)]), factor)


@pytest.mark.parametrize(("factor", "side"), [(2, 4), (2, 5), (3, 5), (3, 7), (1, 3)])
def test_decoded_pixels_are_exact(factor: int, side: int) -> None:
    """In fractions, rounded halves up."""
    images = grids(factor, side, (1, 1))
    found = decoded(images).images.reshape(2, factor, factor, side, side + 1, 3)

    def weights(cell: int, size: int, pixel: int) -> dict[int, Fraction]:
        place = min(max((pixel + Fraction(1, 2)) * cell / size - Fraction(1, 2), Fraction(0)), Fraction(cell - 1))
        return {j: 1 - abs(place - j) for j in range(cell) if abs(place - j) < 1}

    tall, wide = -(-side // factor), -(-(side + 1) // factor)
    for i, row, column, y, x in np.ndindex(found.shape[:-1]):
        value = Fraction(0)
        for a, one in weights(tall, side, y).items():
            for b, two in weights(wide, side + 1, x).items():
                place = row * tall + a, column * wide + b
                inside = place[0] < side and place[1] < side + 1
                value += one * two * (int(images.images[(i, *place, 0)]) if inside else Fraction(255, 2))
        assert found[i, row, column, y, x, 0] == (value + Fraction(1, 2)).__floor__()


@settings(deadline=None, max_examples=30)
@given(factor=st.integers(2, 3), side=st.integers(5, 9), seed=st.integers(0, 99), data=st.data())
def test_decoded_sets(factor: int, side: int, seed: int, data: st.DataObject) -> None:
    images = grids(factor, side, seed=seed)
    found, cells = decoded(images), factor**2
    assert found.grid == 1 and len(found) == 9 * cells and found.classes == images.classes
    # What a synthesis sees, but for the rounding; there the order is cell-major.
    pixels = torch.from_numpy(images.images).permute(0, 3, 1, 2).double() / 255
    seen = decode(pixels, factor).reshape(cells, 9, 3, side, side + 1) * 255
    ours = found.images.reshape(9, cells, side, side + 1, 3).transpose(1, 0, 4, 2, 3)
    assert float((torch.from_numpy(ours.astype(np.float64)) - seen).abs().max()) <= 0.5 + 1e-9
    assert found.ids.reshape(9, cells).tolist() == [[i * cells + k for k in range(cells)] for i in images.ids.tolist()]
    assert found.labels.reshape(9, cells).tolist() == [[label] * cells for label in images.labels.tolist()]
    ipc = data.draw(st.integers(1, 2))
    small, part = decoded(images.prefix(ipc)), found.prefix(ipc * cells)
    for name in ("images", "labels", "ids"):
        np.testing.assert_array_equal(getattr(small, name), getattr(part, name))


def test_rounds_of_stored_images_are_rounds_of_decoded_ones() -> None:
    images = grids(2, 4, (3, 3))
    order = np.argsort(images.ranks, kind="stable")
    ordered = ImageSet(images.images[order], images.labels[order], images.ids[order], images.classes, 2)
    assert np.bincount(decoded(ordered).labels[: 1 * 2 * 4]).tolist() == [4, 4]


def test_decoding_goes_by_blocks_and_wide_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    images = grids(3, 7)
    whole = decoded(images).images
    monkeypatch.setattr(multiformation, "_BLOCK_BYTES", 2 * 4 * 9 * 7 * 8 * 3)  # two images at a time
    np.testing.assert_array_equal(decoded(images).images, whole)
    white = ImageSet(np.full((1, 2, 530_000, 3), 255, np.uint8), np.array([0]), np.array([0]), ("a",), 2)
    assert decoded(white).images.min() == 255  # 32 bits could not hold the sums
    plain = ImageSet(images.images, images.labels, images.ids, images.classes)
    assert decoded(plain) is plain


@pytest.mark.parametrize("ipc", [1, 2])
def test_subsets_of_a_set(ipc: int) -> None:
    images, whole = grids(2, 4), decoded(grids(2, 4))
    part = subset(images, ipc)
    assert part.grid == 2 and part.ids.tolist() == images.prefix(ipc).ids.tolist()
    wanted = set()
    for label in range(3):
        rows = np.flatnonzero(images.labels == label)
        in_order = [int(images.ids[row]) * 4 + k for k in range(4) for row in rows]  # cell-major, as `decode`
        wanted |= set(in_order[: ipc * 4])
    cells = subset(images, ipc, "cells")
    assert cells.grid == 1 and len(cells) == 3 * 4 * ipc
    keep = [row for row, name in enumerate(whole.ids.tolist()) if name in wanted]
    for name in ("images", "labels", "ids"):
        np.testing.assert_array_equal(getattr(cells, name), getattr(whole, name)[keep])


# --- refusals ---


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (
            lambda: plan(0, 2),
            "multi-formation: n is 0 and factor is 2; both must be at least 1",
        ),
        (
            lambda: plan(3, 2, "twice"),  # type: ignore[arg-type]
            "multi-formation: kind is 'twice'; choose one of single, multi, bound",
        ),
        (
            lambda: plan(3, 2, "multi", 9),
            "multi-formation: kind 'multi' takes no bound, got 9; leave it out",
        ),
        (
            lambda: plan(3, 2, "bound", 2),
            "multi-formation: bound is 2, but 3 images decode to at least 3; give 3 or more",
        ),
        (
            lambda: plan(3, 2, "bound"),
            "multi-formation: bound is None, but 3 images decode to at least 3; give 3 or more",
        ),
        (
            lambda: decode(torch.zeros(1, 3, 4, 4), 3),
            "multi-formation: 3 cells of 2 pixels leave no pixel of a side of 4 to the last cell; choose a smaller "
            "factor or larger images",
        ),
        (
            lambda: arrange(torch.zeros(6, 3, 4, 4), 2),
            "multi-formation: 6 images do not fill grids of 2 x 2; give a multiple of 4",
        ),
        (lambda: multiformation.cell_side(4, 0), "multi-formation: factor is 0; give 1 or more"),
        (
            lambda: subset(grids(2, 4), 1, "rows"),  # type: ignore[arg-type]
            "multi-formation: by is 'rows'; choose one of images, cells",
        ),
        (lambda: subset(grids(2, 4), 5, "cells"), "ipc is 5, but this set has up to 4 images per class; choose 1..4"),
        (lambda: subset(grids(2, 4), 5), "ipc is 5, but this set has up to 4 images per class; choose 1..4"),
    ],
)
def test_refusals(call: Callable[[], object], sentence: str) -> None:
    with pytest.raises(DataError) as error:
        call()
    assert str(error.value) == sentence
