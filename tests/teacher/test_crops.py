"""Crops of whole images: against a slow reference in float64, and the same however they are dealt out."""

from __future__ import annotations

import io
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dcpipe import store, teacher, views
from dcpipe.images import stream
from dcpipe.teacher.crops import Crops, after_crops, resized
from dcpipe.training import Group
from dcpipe.types import EncodedImage, ImageTable, ViewPolicy
from dcpipe.views.draw import draw_boxes

CPU = torch.device("cpu")
POLICY = ViewPolicy(seed=5)
SIZE, N = 4, 21


def encoded(pixels: np.ndarray, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", **options)
    return buffer.getvalue()


def picture(row: int) -> np.ndarray:
    """Images of different sizes, wide ones and tall ones."""
    source = np.random.default_rng(row)
    return source.integers(0, 256, (*source.integers(3, 24, 2), 3), dtype=np.uint8)


@pytest.fixture
def table(tmp_path: Path) -> ImageTable:
    ids, names = np.random.default_rng(0).permutation(10 * N)[:N], []
    for start in range(0, N, 8):
        rows = range(start, min(start + 8, N))
        names.append(tmp_path / f"part-{start}.parquet")
        store.write_part(
            names[-1],
            [EncodedImage(int(ids[r]), encoded(picture(r)), f"{r}.png", r % 3) for r in rows],
            ("a", "b", "c"),
        )
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
    return ImageTable(tuple(names), 8, ids, np.arange(N) % 3, ("a", "b", "c"), SIZE, mean, std)


def along(pixels: np.ndarray, start: float, length: float, size: int) -> np.ndarray:
    """The first axis of f64 [n, ...], antialiased bilinear between two places, rounded as Pillow does: triangles as
    wide as a pixel of the result, over the pixels that the box touches."""
    low, high = int(np.floor(start)), min(int(np.ceil(start + length)), len(pixels))
    scale = length / size
    out = []
    for place in range(size):
        centre = start + (place + 0.5) * scale
        weights = [max(0.0, 1 - abs(source + 0.5 - centre) / max(scale, 1.0)) for source in range(low, high)]
        out.append(np.tensordot(np.array(weights) / sum(weights), pixels[low:high], 1))
    return np.floor(np.stack(out) + 0.5)


def slow_crop(pixels: np.ndarray, box: np.ndarray, size: int) -> np.ndarray:
    height, width, _ = pixels.shape
    left, top, wide, tall = box * [width, height, width, height]
    across = along(pixels.astype(np.float64).swapaxes(0, 1), left, wide, size).swapaxes(0, 1)
    return along(across, top, tall, size)


@settings(deadline=None, max_examples=25)
@given(row=st.integers(0, 500), size=st.integers(1, 9), view=st.integers(0, 50))
def test_a_crop_is_an_antialiased_box_of_the_whole_image(row: int, size: int, view: int) -> None:
    pixels = picture(row)
    aspect = np.array([pixels.shape[1] / pixels.shape[0]])
    [box] = draw_boxes(POLICY, np.array([row]), np.array([view]), aspect)
    found = resized(Image.fromarray(pixels), box, size)
    assert found.shape == (size, size, 3)
    np.testing.assert_allclose(found, slow_crop(pixels, box, size), atol=2)


def test_the_whole_image_at_its_size_is_not_changed() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    np.testing.assert_array_equal(resized(Image.fromarray(pixels), np.array([0.0, 0.0, 1.0, 1.0]), 6), pixels)


def test_boxes_have_their_area_and_aspect_in_pixels() -> None:
    """torchvision's rule: the share of the image's own area, and between 3/4 and 4/3 in its pixels."""
    n = 2000
    ids, aspects = np.arange(n), np.random.default_rng(1).uniform(0.5, 2.0, n)
    left, top, width, height = draw_boxes(POLICY, ids, np.zeros(n, dtype=np.int64), aspects).T
    assert (
        (left >= 0).all() and (top >= 0).all() and (left + width < 1 + 1e-9).all() and (top + height < 1 + 1e-9).all()
    )
    shape = width / height * aspects
    assert shape.min() > 3 / 4 - 1e-9 and shape.max() < 4 / 3 + 1e-9 and shape.std() > 0.1
    area = width * height
    assert area.min() < 0.12 and area.max() > 0.9 and 0.35 < area.mean() < 0.6
    square = draw_boxes(POLICY, ids, np.zeros(n, dtype=np.int64))
    np.testing.assert_array_equal(square, views.draw(POLICY, ids, np.zeros(n, dtype=np.int64), n).box)
    np.testing.assert_array_equal(square, draw_boxes(POLICY, ids, np.zeros(n, dtype=np.int64), np.ones(n)))


def test_an_image_that_no_box_fits_gives_its_largest_centred_one() -> None:
    """At 30 to 1, no tenth attempt of an area of 0.9 or more fits."""
    policy = ViewPolicy(scale_min=0.9)
    for aspect, wanted in (
        (30.0, [(1 - 4 / 90) / 2, 0.0, 4 / 90, 1.0]),
        (1 / 30, [0.0, (1 - 4 / 90) / 2, 1.0, 4 / 90]),
    ):
        box = draw_boxes(policy, np.array([3]), np.array([0]), np.array([aspect]))
        np.testing.assert_allclose(box, [wanted], atol=1e-12)


def test_crops_depend_on_id_and_epoch_alone(table: ImageTable) -> None:
    def epoch(number: int, seed: int, batch_size: int) -> dict[int, bytes]:
        batches = stream(table, seed, number, batch_size, decode_some=Crops(POLICY, number))
        return {int(i): image.tobytes() for pixels, _, ids in batches for image, i in zip(pixels, ids, strict=True)}

    first = epoch(2, 0, 5)
    assert len(first) == N and first == epoch(2, 7, 8)  # another order, other batches
    assert sum(first[i] == other for i, other in epoch(3, 0, 5).items()) < 3
    for row, image_id in enumerate(table.ids):
        pixels = picture(row)
        aspect = np.array([pixels.shape[1] / pixels.shape[0]])
        [box] = draw_boxes(POLICY, table.ids[row : row + 1], np.array([2]), aspect)
        assert first[int(image_id)] == resized(Image.fromarray(pixels), box, SIZE).tobytes()


@pytest.mark.parametrize("world", [2, 3])
def test_processes_crop_their_shares_of_the_same_batches(table: ImageTable, world: int) -> None:
    feed_of = partial(teacher.feed_of, table, 7, 3, CPU, full_crops=POLICY)
    alone, shares = feed_of(), [feed_of(Group(rank, world)) for rank in range(world)]
    for epoch in (0, 4):
        whole, sizes = list(alone(epoch)), teacher.batch_sizes(table, 7, full_crops=True)
        assert [len(ids) for _, _, ids in whole] == sizes == [7, 7, 7]
        for batch, *parts in zip(whole, *(share(epoch) for share in shares), strict=True):
            assert torch.equal(torch.cat([pixels for pixels, _, _ in parts]), batch[0])
            assert np.concatenate([ids for _, _, ids in parts]).tolist() == batch[2].tolist()


def test_batches_are_the_crops_flipped_and_normalised(table: ImageTable) -> None:
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
    feed = teacher.feed_of(table, 7, 3, CPU, full_crops=POLICY)
    batches = teacher.training_batches(feed, POLICY, SIZE, mean, std, full_crops=True)
    flipped = 0
    for (inputs, labels), (pixels, same, ids) in zip(batches(4), feed(4), strict=True):
        assert labels.tolist() == same.tolist()
        flip = views.draw(POLICY, ids, np.full(len(ids), 4, dtype=np.int64), N).flip
        shown = pixels.permute(0, 3, 1, 2).float() / 255
        shown = torch.where(torch.from_numpy(flip)[:, None, None, None], shown.flip(3), shown)
        torch.testing.assert_close(inputs, views.normalise(shown, mean, std), rtol=0, atol=1e-5)
        flipped += int(flip.sum())
    assert 3 < flipped < N - 3


def test_what_remains_of_a_view_is_all_but_its_crop() -> None:
    policy = ViewPolicy(randaugment=2, siamese="color_cutout")
    drawn = views.draw(policy, np.arange(5), np.zeros(5, dtype=np.int64), 5)
    rest = after_crops(drawn)
    assert rest.box.tolist() == [[0, 0, 1, 1]] * 5
    assert rest.flip is drawn.flip and rest.ops is drawn.ops and rest.after is drawn.after
