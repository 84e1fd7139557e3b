"""Tables back to pixels: parts, rows, all, and the stream."""

from __future__ import annotations

import io
import threading
import tracemalloc
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_tables import write_table

from dcpipe import images
from dcpipe.images import parquet, reading
from dcpipe.types import DataError, Decoding, ImageTable, Selection


def test_round_trip_from_source_to_pixels(make_source, make_table):
    source, pixels = make_source(n=40)
    table = make_table(source)
    np.testing.assert_array_equal(images.read_all(table), pixels)
    assert table.decoded_bytes == pixels.nbytes
    for part, rows in enumerate((slice(0, 16), slice(16, 32), slice(32, 40))):
        got, labels, ids = images.read_part(table, part)
        np.testing.assert_array_equal(got, pixels[rows])
        np.testing.assert_array_equal(labels, source.labels[rows])
        np.testing.assert_array_equal(ids, table.ids[rows])


def test_other_sizes_equal_decode(make_source, make_table):
    source, _ = make_source(n=10, size=9)
    table = make_table(source, size=5)
    expected = np.stack([images.decode(data, 5, name) for data, name in source.items])
    np.testing.assert_array_equal(images.read_all(table), expected)


def test_the_next_part_is_decoded_while_one_is_in_use(make_source, make_table, monkeypatch):
    source, pixels = make_source(n=40)
    table, decoded, decode = make_table(source), [threading.Event() for _ in range(3)], reading.decode_into

    def telling(out, encoded, ids, decode_some):
        decode(out, encoded, ids, decode_some)
        decoded[(ids[0] - 1000) // 16].set()

    monkeypatch.setattr(reading, "decode_into", telling)
    parts = images.read_parts(table)
    first, _ = next(parts)
    assert decoded[1].wait(timeout=60) and not decoded[2].is_set()
    np.testing.assert_array_equal(np.concatenate([first, *(part for part, _ in parts)]), pixels)


def test_a_table_says_how_it_is_decoded(make_source, make_table):
    source, _ = make_source(n=20, size=16)
    table = replace(make_table(source, size=6), decoding=Decoding("exact", 0.75))
    wanted = np.stack([images.decode(data, 6, name, table.decoding) for data, name in source.items])
    assert (wanted != images.read_all(replace(table, decoding=Decoding()))).any()
    np.testing.assert_array_equal(images.read_all(table), wanted)
    np.testing.assert_array_equal(images.read_rows(table, np.arange(20)), wanted)
    np.testing.assert_array_equal(np.concatenate([part for part, _ in images.read_parts(table)]), wanted)
    for pixels, _, ids in images.stream(table, 0, 0, 7):
        np.testing.assert_array_equal(pixels, wanted[ids - 1000])


def test_rows_in_any_order_and_repeated(make_source, make_table):
    source, pixels = make_source(n=40)
    table = make_table(source)
    for rows in ([39, 0, 17, 17, 3], [5], list(range(40)), []):
        wanted = np.array(rows, dtype=np.int64)
        np.testing.assert_array_equal(images.read_rows(table, wanted), pixels[wanted])
    for rows in ([40], [-1]):
        with pytest.raises(DataError, match=r"^rows must lie within 0\.\.39; look them up in the ids of this table$"):
            images.read_rows(table, np.array(rows))


def test_only_the_needed_row_groups_are_read(make_source, make_table, monkeypatch):
    source, pixels = make_source(n=700, size=2)
    table = make_table(source, size=2, part_rows=600)  # 18 row groups of 32 and one of 24; then 3 of 32 and one of 4
    groups = []
    real = parquet._images

    def spy(file, group, column):
        groups.append((file.metadata.num_rows, group, column))
        return real(file, group, column)

    monkeypatch.setattr(parquet, "_images", spy)
    rows = np.array([650, 599, 255, 0])
    np.testing.assert_array_equal(images.read_rows(table, rows), pixels[rows])
    assert groups == [(600, 0, "image"), (600, 7, "image"), (600, 18, "image"), (100, 1, "image")]


class Counted(io.FileIO):
    """A file that counts the bytes that are read from it."""

    def __init__(self, path: Path, sizes: list[int]) -> None:
        super().__init__(path)
        self.sizes = sizes

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(-1 if size is None else size)
        self.sizes.append(len(data))
        return data


def bytes_read(table: ImageTable, rows: list[int], monkeypatch: pytest.MonkeyPatch) -> int:
    sizes: list[int] = []
    wanted = np.array(rows)
    with monkeypatch.context() as patched, ExitStack() as files:  # pyarrow closes only what it opened
        patched.setattr(
            parquet.Shard,
            "open",
            lambda shard: pq.ParquetFile(files.enter_context(Counted(shard.file, sizes)), metadata=shard.footer),
        )
        found = images.read_rows(table, wanted)
    assert len(found) == len(rows)
    return sum(sizes)


@pytest.fixture(scope="module")
def noisy(tmp_path_factory) -> ImageTable:
    """2,048 images of about 1 kB in one part."""
    rng, n = np.random.default_rng(0), 2048
    pixels = rng.integers(0, 256, (n, 18, 18, 3), dtype=np.uint8)
    return write_table(tmp_path_factory.mktemp("noisy"), pixels, np.zeros(n, np.int64), np.arange(n), n, ("cat",))


def test_a_pick_reads_a_few_neighbours_and_no_more(noisy, monkeypatch):
    [part] = noisy.parts
    meta = pq.read_metadata(part)
    column = sum(meta.row_group(g).column(c).total_compressed_size for g in range(meta.num_row_groups) for c in (1, 2))
    footer = 2 * meta.serialized_size + 2**16  # pyarrow reads the end of a file first, and the footer if it is longer
    for rows in ([5], [0, 31], [0, 32], list(range(0, 2048, 200))):
        groups = len({row // 32 for row in rows})
        read = bytes_read(noisy, rows, monkeypatch)
        assert groups / 64 * column <= read + 2**12 and read <= 1.02 * groups / 64 * column + footer, rows
    assert bytes_read(noisy, [5], monkeypatch) < 0.06 * part.stat().st_size


def test_parts_in_groups_of_another_size_are_read(noisy, monkeypatch):
    [part] = noisy.parts
    rows = [2047, 3, 700, 256, 255]
    wanted, small = images.read_rows(noisy, np.array(rows)), bytes_read(noisy, rows, monkeypatch)
    former = noisy.parts[0].with_name("former.parquet")
    pq.write_table(pq.read_table(part), former, compression="NONE", row_group_size=256, use_dictionary=False)
    table = replace(noisy, parts=(former,))
    np.testing.assert_array_equal(images.read_rows(table, np.array(rows)), wanted)
    assert bytes_read(table, rows, monkeypatch) > 4 * small  # as before: four of eight groups instead of five of 64


def test_a_part_that_is_not_there(make_source, make_table):
    table = make_table(make_source()[0])
    with pytest.raises(DataError, match=r"^image table has no part 3; choose one of 0\.\.2$"):
        images.read_part(table, 3)


def test_damage_on_disk_is_named(make_source, make_table):
    table = make_table(make_source()[0])
    table.parts[1].write_bytes(b"PAR1 but not really")
    with pytest.raises(DataError, match=r"part-00001\.parquet cannot be read as Parquet \(.+\); download or build"):
        images.read_all(table)


@pytest.mark.parametrize("batch_size", [1, 7, 16, 100])
def test_a_stream_shows_every_row_once_with_its_own_label(make_source, make_table, batch_size):
    source, pixels = make_source(n=133, size=3)
    table = make_table(source, size=3)
    sizes, seen = [], []
    for batch, labels, ids in images.stream(table, 0, 0, batch_size):
        rows = ids - 1000
        np.testing.assert_array_equal(batch, pixels[rows])
        np.testing.assert_array_equal(labels, source.labels[rows])
        sizes.append(len(ids))
        seen += rows.tolist()
    assert sorted(seen) == list(range(133))
    assert set(sizes[:-1]) <= {batch_size}
    assert 1 <= sizes[-1] <= batch_size


def order_of(table, seed, epoch, batch_size=8):
    return np.concatenate([ids for _, _, ids in images.stream(table, seed, epoch, batch_size)])


def test_a_stream_is_decided_by_seed_and_epoch(make_source, make_table):
    table = make_table(make_source(n=133, size=2)[0], size=2)
    first = order_of(table, 3, 1)
    np.testing.assert_array_equal(first, order_of(table, 3, 1))
    assert (first != order_of(table, 3, 2)).any()
    assert (first != order_of(table, 4, 1)).any()


def test_the_order_of_a_stream_never_changes(make_source, make_table):
    table = make_table(make_source(n=11, size=2)[0], size=2, part_rows=2)
    assert (order_of(table, 5, 9, batch_size=3) - 1000).tolist() == GOLDEN_ORDER


GOLDEN_ORDER = [8, 7, 4, 0, 5, 6, 10, 3, 9, 2, 1]


def test_a_stream_mixes_parts(make_source, make_table):
    table = make_table(make_source(n=160, size=2)[0], size=2)  # 10 parts of 16
    position = np.empty((60, 160))
    for epoch in range(60):
        order = order_of(table, 0, epoch) - 1000
        position[epoch, order] = np.arange(160)
        parts = (order // 16).reshape(-1, 16)
        mixed = [len(set(block)) for block in parts]
        assert np.mean(mixed) > 3, "a part's worth of consecutive rows should come from several parts"
    # Every row is as likely early as late: 160 means of 60 uniform positions.
    assert abs(position.mean(axis=0) - 79.5).max() < 5 * 46.2 / np.sqrt(60)


def test_a_stream_holds_a_few_parts_only(make_source, make_table):
    source, _ = make_source(n=160, size=32)
    table = make_table(source, size=32, part_rows=4)  # 40 parts of 12 KiB
    part = 4 * 32 * 32 * 3
    tracemalloc.start()
    try:
        for _ in images.stream(table, 0, 0, 2):
            pass
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert reading.MIXED_PARTS * part < peak < (reading.MIXED_PARTS + 2) * part + 400_000


@pytest.mark.parametrize(("world", "batch_size"), [(1, 7), (2, 8), (3, 10)])
def test_shares_of_a_stream_decode_every_row_once(make_source, make_table, monkeypatch, world, batch_size):
    """Together they are the batches of the stream, and no process decodes the rows of another."""
    table = make_table(make_source(n=133, size=2)[0], size=2)
    decoded, decode = [], reading.decode_into

    def counting(out, encoded, ids, decode_some):
        decoded.append(len(ids))
        decode(out, encoded, ids, decode_some)

    whole = list(images.stream(table, 3, 1, batch_size))
    monkeypatch.setattr(reading, "decode_into", counting)
    shares = [
        images.stream(table, 3, 1, batch_size, lambda n, rank=rank: slice(rank, n, world)) for rank in range(world)
    ]
    for batch, *parts in zip(whole, *shares, strict=True):
        for found, expected in zip(zip(*parts, strict=True), batch, strict=True):
            for rank, part in enumerate(found):
                np.testing.assert_array_equal(part, expected[rank::world])
    assert sum(decoded) == 133


def test_an_abandoned_or_empty_stream_ends(make_source, make_table):
    table = make_table(make_source()[0])
    batches = images.stream(table, 0, 0, 4)
    next(batches)
    batches.close()
    with pytest.raises(DataError, match=r"^batch_size must be at least 1, got 0; raise it$"):
        next(images.stream(table, 0, 0, 0))


def test_parts_keep_the_hugging_face_convention(make_source, make_table):
    table = make_table(make_source()[0])
    again = parquet.parquet(path=str(table.parts[0].parent), train="part", test="part")["train"]
    assert again.classes == table.classes
    np.testing.assert_array_equal(again.labels, table.labels)
    assert pq.ParquetFile(table.parts[0]).schema_arrow.names == ["id", "image", "label"]


# --- a selection ---

CLASSES = ("ant", "bee", "cow")


@pytest.fixture(scope="module")
def table_pixels(tmp_path_factory: pytest.TempPathFactory) -> tuple[ImageTable, np.ndarray]:
    """20 images in 3 parts, whose ids are neither sorted nor positions."""
    source = np.random.default_rng(0)
    pixels = source.integers(0, 256, (20, 8, 8, 3), dtype=np.uint8)
    labels = np.tile(np.arange(len(CLASSES)), 7)[:20]
    folder = tmp_path_factory.mktemp("table")
    return write_table(folder, pixels, labels, source.permutation(60)[:20], 8, CLASSES), pixels


@settings(deadline=None, max_examples=20)
@given(rows=st.lists(st.integers(0, 19), min_size=1, max_size=20, unique=True))
def test_selected_images_come_in_pick_order(rows: list[int], table_pixels: tuple[ImageTable, np.ndarray]) -> None:
    table, pixels = table_pixels
    chosen = Selection(table.ids[rows], table.labels[rows], np.zeros(len(rows)), "score")
    found = images.read_selection(table, chosen)
    assert np.array_equal(found.images, pixels[rows])
    assert found.ids.tolist() == table.ids[rows].tolist() and found.labels.tolist() == table.labels[rows].tolist()
    assert found.classes == CLASSES


@pytest.mark.parametrize("where", ["below", "between", "above"])
def test_picks_that_the_table_lacks_are_refused(where: str, table_pixels: tuple[ImageTable, np.ndarray]) -> None:
    table, _ = table_pixels
    absent = {
        "below": -1,
        "between": next(i for i in range(60) if i not in table.ids and table.ids.min() < i < table.ids.max()),
        "above": 1000,
    }
    chosen = Selection(np.array([table.ids[0], absent[where]]), np.array([0, 1]), np.zeros(2), "score")
    with pytest.raises(DataError) as error:
        images.read_selection(table, chosen)
    sentence = f"image {absent[where]} is not in this table of images; run `dvc repro` to pick from it again"
    assert str(error.value) == sentence
