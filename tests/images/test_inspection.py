"""Reports of parts: statistics, fingerprints, duplicates."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dcpipe import images
from dcpipe.images import inspection
from dcpipe.types import DataError


def report_of(source, rows, size, shift=0):
    rows = np.asarray(rows)
    return images.inspect_part(source, rows, source.classes, size, rows + shift)


def test_rows_are_what_the_source_gave(make_source):
    source, _ = make_source(n=9)
    rows, report = report_of(source, [1, 4, 8], 6, shift=100)
    assert rows == [(100 + r, *source.items[r], int(source.labels[r])) for r in (1, 4, 8)]
    assert report.ids == (101, 104, 108)
    assert report.count == 3


def test_statistics_equal_a_float64_reference(make_source):
    source, pixels = make_source(n=150, size=5)
    reports = [report_of(source, rows, 5)[1] for rows in (np.arange(0, 70), np.arange(70, 71), np.arange(71, 150))]
    mean, std = images.merge_reports(reports)
    flat = pixels.reshape(-1, 3).astype(np.float64) / 255
    np.testing.assert_allclose(mean, flat.mean(axis=0), rtol=1e-13)
    np.testing.assert_allclose(std, flat.std(axis=0), rtol=1e-12)
    assert images.merge_reports(reports[::-1]) == (mean, std)


def test_statistics_are_those_of_the_decoded_size(make_source):
    source, _ = make_source(n=4, size=11)
    _, report = report_of(source, range(4), 7)
    decoded = np.stack([images.decode(data, 7, name) for data, name in source.items]).reshape(-1, 3)
    assert report.pixels == 4 * 49
    assert report.sums == tuple(decoded.sum(axis=0, dtype=np.int64).tolist())
    assert report.squares == tuple((decoded.astype(np.int64) ** 2).sum(axis=0).tolist())


@settings(deadline=None, max_examples=30)
@given(value=st.integers(0, 255), pixels=st.integers(1, 10**12))
def test_a_flat_colour_has_no_spread_even_over_a_trillion_pixels(value, pixels):
    report = images.PartReport(1, pixels, (value * pixels,) * 3, (value * value * pixels,) * 3, (0,), ("",))
    mean, std = images.merge_reports([report])
    assert mean[0] == pytest.approx(value / 255, abs=1e-15)
    assert std == (1e-6, 1e-6, 1e-6)


def test_merging_nothing():
    with pytest.raises(
        DataError, match=r"^pixel statistics need at least one image, but the train split is empty; check its path$"
    ):
        images.merge_reports([])


def test_reports_survive_json(make_source):
    source, _ = make_source()
    _, report = report_of(source, range(40), 6)
    assert images.PartReport.from_json(json.loads(json.dumps(report.to_json()))) == report


def test_fingerprint_is_the_stated_one(make_source):
    source, pixels = make_source(n=2)
    _, report = report_of(source, range(2), 6)
    data = (6).to_bytes(4, "little") * 2 + pixels[1].tobytes()
    assert report.hashes[1] == hashlib.blake2b(data, digest_size=16).hexdigest()
    assert inspection.pixel_hash(np.arange(18, dtype=np.uint8).reshape(2, 3, 3)) == GOLDEN_HASH
    # The same bytes in another shape are another image, and the fingerprint is of the native resolution.
    assert inspection.pixel_hash(np.zeros((2, 3, 3), np.uint8)) != inspection.pixel_hash(np.zeros((3, 2, 3), np.uint8))
    assert report_of(source, range(2), 3)[1].hashes == report.hashes


GOLDEN_HASH = "53484f739fada79dc059ce4fc300a5aa"


def test_duplicates_are_found_across_encodings(make_source, png):
    train, pixels = make_source(n=20)
    test, _ = make_source(n=6, seed=1)
    items = list(test.items)
    items[2] = (png(pixels[5], "BMP"), "renamed.bmp")
    items[4] = (png(pixels[5], "TIFF"), "again.tif")
    items[5] = (png(pixels[17]), "17.png")
    test = replace(test, items=items)
    reports = [report_of(train, range(10), 6)[1], report_of(train, range(10, 20), 6)[1]]
    found = images.duplicates(reports[::-1], [report_of(test, range(6), 6)[1]])
    assert found == {"train_images": 2, "test_images": 3, "pairs": 3, "first": [[5, 2], [5, 4], [17, 5]]}
    assert json.loads(json.dumps(found)) == found
    assert images.duplicates(reports, [])["pairs"] == 0


def test_only_the_first_hundred_pairs_are_listed(make_source):
    source, _ = make_source(n=120)
    _, report = report_of(source, range(120), 6)
    found = images.duplicates([report], [report])
    assert found["pairs"] == found["train_images"] == 120
    assert found["first"] == [[i, i] for i in range(100)]


def test_corrupt_images_are_reported_with_id_and_reason_and_all_others_measured(make_source):
    source, _ = make_source(n=10)
    items = list(source.items)
    items[7], items[9] = (items[7][0][:40], "folder/seven.png"), (b"GIF, said he", "nine.png")
    rows, report = report_of(replace(source, items=items), range(5, 10), 6, shift=1000)
    assert [image.id for image in rows] == [1005, 1006, 1008]
    assert [image[:2] for image in report.corrupt] == [(1007, "folder/seven.png"), (1009, "nine.png")]
    assert report.corrupt[0].reason and "seven" not in report.corrupt[0].reason
    assert report.corrupt[1].reason == ("its 12 bytes are none of the formats BMP, GIF, JPEG, PNG, PPM, TIFF, WEBP")
    assert replace(report, corrupt=()) == report_of(source, [5, 6, 8], 6, shift=1000)[1]
    assert images.PartReport.from_json(json.loads(json.dumps(report.to_json()))) == report


def test_a_part_without_an_intact_image(make_source):
    source, _ = make_source(n=3)
    rows, report = report_of(replace(source, items=[(b"", f"{row}") for row in range(3)]), range(3), 6)
    assert rows == [] and len(report.corrupt) == 3
    assert (report.count, report.pixels, report.sums, report.squares) == (0, 0, (0, 0, 0), (0, 0, 0))


def test_sides_and_grey_images_are_noted(make_source, png):
    source, _ = make_source(n=4)
    grey = np.random.default_rng(0).integers(0, 256, (9, 5), dtype=np.uint8)
    tinted = np.repeat(grey[..., None], 3, axis=2)
    tinted[8, 4] = 1, 2, 3
    items = [(png(grey), "grey"), (png(tinted), "tinted"), (png(np.repeat(grey[..., None], 3, axis=2)), "rgb")]
    _, report = report_of(replace(source, items=[*items, source.items[3]]), range(4), 6)
    assert report.grey == 2 and report.sides == ((5, 9), (5, 9), (5, 9), (6, 6))


def test_labels_and_ids_are_checked(make_source):
    source, _ = make_source(n=8)
    with pytest.raises(DataError, match=r"^part: labels span 0\.\.3 but there are 2 classes; check the class list$"):
        images.inspect_part(source, np.arange(8), ("a", "b"), 6, np.arange(8))
    with pytest.raises(DataError, match=r"^a part has 8 rows but 7 ids; give one id per row$"):
        images.inspect_part(source, np.arange(8), source.classes, 6, np.arange(7))
