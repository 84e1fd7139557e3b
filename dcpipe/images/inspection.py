"""Decode every image once before anything is built on it: find damaged files, sum up pixels, find duplicates in test,
and measure what the report of the images says (`dcpipe.images.report`).

Sums are integers, so the reports of parts merge to the same mean and deviation in any order. The fingerprint of an
image is the BLAKE2b hash of its height, its width and its upright RGB pixels at the original resolution. So a train
image that was renamed or re-encoded without loss is still recognised in test.
"""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np

from dcpipe.images.base import Source
from dcpipe.images.decoding import Pixels, fit, in_threads, named, open_rgb
from dcpipe.types import Colour, DataError, EncodedImage, IntArray, check_labels, require

_STD_FLOOR = 1e-6
_SHOWN_PAIRS = 100

Triple = tuple[int, int, int]


class Corrupt(NamedTuple):
    """An image that cannot be decoded: its id, its path in the source, and the reason."""

    id: int
    file: str
    reason: str


@dataclass(frozen=True)
class PartReport:
    """Measurements of one part, of the images that can be decoded.

    `sums` and `squares` are per channel, over the u8 values of `pixels` pixels at the decoded size. `hashes` has 32 hex
    digits per image, in the order of `ids`; `sides` has the width and height of each, upright, before it is resized.
    `grey` images have equal channels. `corrupt` are the other images.
    """

    count: int
    pixels: int
    sums: Triple
    squares: Triple
    ids: tuple[int, ...]
    hashes: tuple[str, ...]
    sides: tuple[tuple[int, int], ...] = ()
    grey: int = 0
    corrupt: tuple[Corrupt, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The report as JSON values, which `from_json` reads."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> PartReport:
        """The report from the values that `to_json` returned."""
        return cls(
            count=content["count"],
            pixels=content["pixels"],
            sums=_triple(content["sums"]),
            squares=_triple(content["squares"]),
            ids=tuple(content["ids"]),
            hashes=tuple(content["hashes"]),
            sides=tuple((width, height) for width, height in content["sides"]),
            grey=content["grey"],
            corrupt=tuple(Corrupt(*entry) for entry in content["corrupt"]),
        )


def inspect_part(
    source: Source, rows: IntArray, classes: Sequence[str], size: int, ids: IntArray
) -> tuple[list[EncodedImage], PartReport]:
    """Read ascending `rows` of a source, decode every image once in threads, and measure.

    `ids` i64 [m] are the ids that the rows get. Images that cannot be decoded are not returned; the report names them.
    Raises `DataError` for labels outside `classes`. Memory: the encoded part, and a few decoded images per thread.
    """
    require(len(rows) == len(ids), f"a part has {len(rows)} rows but {len(ids)} ids; give one id per row")
    labels = source.labels[rows]
    check_labels(labels, classes, "part")
    encoded = source.read(rows)

    def measure(chunk: slice) -> PartReport:
        found, sides, grey, corrupt = dict[int, str](), list[tuple[int, int]](), 0, list[Corrupt]()
        pixels = np.empty((chunk.stop - chunk.start, size, size, 3), dtype=np.uint8)
        for row in range(chunk.start, chunk.stop):
            data, path = encoded[row]
            image_id = int(ids[row])
            try:
                image = open_rgb(data, named(path, image_id))
            except DataError as error:
                corrupt.append(Corrupt(image_id, path, _reason(error, named(path, image_id))))
                continue
            whole = np.asarray(image)
            pixels[len(found)] = whole if whole.shape == pixels.shape[1:] else fit(image, size)
            found[image_id] = pixel_hash(whole)
            sides.append(image.size)
            grey += _is_grey(whole)
        n = len(found)
        sums, squares = _sums(pixels[:n])
        ids_of, hashes = tuple(found), tuple(found.values())
        return PartReport(n, n * size * size, sums, squares, ids_of, hashes, tuple(sides), grey, tuple(corrupt))

    report = _joined(in_threads(measure, len(encoded)))
    intact, images = set(report.ids), zip(ids.tolist(), encoded, labels.tolist(), strict=True)
    return [EncodedImage(i, data, path, label) for i, (data, path), label in images if i in intact], report


def _joined(reports: Sequence[PartReport]) -> PartReport:
    """The report of consecutive pieces of a part."""
    return PartReport(
        count=sum(report.count for report in reports),
        pixels=sum(report.pixels for report in reports),
        sums=_add(report.sums for report in reports),
        squares=_add(report.squares for report in reports),
        ids=tuple(image_id for report in reports for image_id in report.ids),
        hashes=tuple(text for report in reports for text in report.hashes),
        sides=tuple(side for report in reports for side in report.sides),
        grey=sum(report.grey for report in reports),
        corrupt=tuple(image for report in reports for image in report.corrupt),
    )


def _reason(error: DataError, name: str) -> str:
    """Why an image of this name cannot be decoded: the error without the name and the remedy."""
    sentence = str(error).removeprefix("corrupt ").removeprefix(f"image {name}").lstrip(": ")
    return sentence.rpartition("; ")[0] or sentence


def _is_grey(pixels: Pixels) -> bool:
    """Whether all channels of u8 [h, w, 3] are equal. A few pixels tell that most photographs are not grey."""
    red, green, blue = (pixels[..., channel] for channel in range(3))
    few = np.s_[:: max(1, pixels.shape[0] // 8), :: max(1, pixels.shape[1] // 8)]
    return all(
        np.array_equal(red[part], green[part]) and np.array_equal(red[part], blue[part]) for part in (few, np.s_[:, :])
    )


def pixel_hash(pixels: Pixels) -> str:
    """The hash of u8 [h, w, 3] in 32 hex digits: BLAKE2b-128 of h, w (4 bytes each, little-endian) and the pixels."""
    height, width, _ = pixels.shape
    state = hashlib.blake2b(height.to_bytes(4, "little") + width.to_bytes(4, "little"), digest_size=16)
    state.update(np.ascontiguousarray(pixels).data)
    return state.hexdigest()


def _sums(pixels: Pixels) -> tuple[Triple, Triple]:
    """Sum and sum of squares of u8 [m, s, s, 3] per channel, exact for chunks of m <= 2^16 images.

    The sum is taken over images first, along contiguous memory. This is 18 times faster than summing over all pixels of
    three channels at once.
    """
    flat = pixels.reshape(len(pixels), math.prod(pixels.shape[1:]))
    squares = np.square(flat, dtype=np.uint16)  # 255^2 fits
    sums, total = (
        values.sum(axis=0, dtype=np.uint32).reshape(-1, 3).sum(axis=0, dtype=np.int64) for values in (flat, squares)
    )
    return _triple(sums.tolist()), _triple(total.tolist())


def _triple(values: Sequence[int]) -> Triple:
    red, green, blue = values
    return red, green, blue


def _add(triples: Iterable[Triple]) -> Triple:
    return _triple(np.array(list(triples), dtype=np.int64).reshape(-1, 3).sum(axis=0).tolist())


def merge_reports(
    reports: Sequence[PartReport],
) -> tuple[Colour, Colour]:
    """(mean, standard deviation) per channel of all pixels in [0, 1]; a deviation is at least 1e-6.

    N * sum(x^2) - sum(x)^2 is computed in integers, so neither order nor cancellation changes the result. Raises
    `DataError` if there are no pixels.
    """
    n = sum(report.pixels for report in reports)
    require(n > 0, "pixel statistics need at least one image, but the train split is empty; check its path")
    sums = [sum(report.sums[channel] for report in reports) for channel in range(3)]
    squares = [sum(report.squares[channel] for report in reports) for channel in range(3)]
    mean = [total / (255 * n) for total in sums]
    spread = [(n * square - total * total) / (255 * n) ** 2 for total, square in zip(sums, squares, strict=True)]
    std = [max(value**0.5, _STD_FLOOR) for value in spread]
    return (mean[0], mean[1], mean[2]), (std[0], std[1], std[2])


def duplicates(train: Iterable[PartReport], test: Iterable[PartReport]) -> dict[str, Any]:
    """Find train images that equal a test image in every pixel.

    Returns `train_images` and `test_images` (how many images of each split are also in the other), `pairs` (the number
    of pairs) and `first` (up to 100 pairs [train id, test id], ascending).
    """
    in_test: dict[str, list[int]] = defaultdict(list)
    for report in test:
        for image_id, text in zip(report.ids, report.hashes, strict=True):
            in_test[text].append(image_id)
    pairs = sorted(
        (train_id, test_id)
        for report in train
        for train_id, text in zip(report.ids, report.hashes, strict=True)
        for test_id in in_test.get(text, ())
    )
    return {
        "train_images": len({train_id for train_id, _ in pairs}),
        "test_images": len({test_id for _, test_id in pairs}),
        "pairs": len(pairs),
        "first": [list(pair) for pair in pairs[:_SHOWN_PAIRS]],
    }
