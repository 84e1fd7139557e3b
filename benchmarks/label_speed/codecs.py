"""Decoding and encoding of every codec at 30x (`none`: as it is; `mean_label`: one label per image), in labels per
second and MB/s of the fp16 labels, with the bytes per image of its arrays.

Labels are made up: rank 5, outliers and dense noise. Decoding is that of a training: batches of 128 of the items that
an epoch replays, to fp32 logits, packs on the device, views drawn beforehand. Encoding is that of all images, views
drawn beforehand; medians of interleaved rounds.
"""

from __future__ import annotations

import statistics
from functools import partial

import numpy as np
import torch

from dcpipe import views
from dcpipe.compression import CODECS, Codec, payload
from dcpipe.random import permutation
from dcpipe.types import DataError, IntArray, LabelShape, ViewPolicy
from label_speed import RATIO, Setting, interleaved, made_labels, planned

BATCH = 128
ROWS = 32  # images encoded at a time
Items = list[tuple[IntArray, IntArray, views.Views]]


def items_of(codec: Codec, shape: LabelShape, policy: ViewPolicy, epochs: int) -> Items:
    """Batches of what some epochs replay, shuffled, with their drawn views."""
    batches = []
    for epoch in range(epochs):
        rows, stored = codec.replay(epoch, shape)
        order = permutation(0, epoch, len(rows))
        for start in range(0, len(order), BATCH):
            some = order[start : start + BATCH]
            batches.append((rows[some], stored[some], views.draw(policy, rows[some], stored[some], shape.images)))
    return batches


def encode(codec: Codec, labels: torch.Tensor, shape: LabelShape, drawn: views.Views) -> list[dict[str, np.ndarray]]:
    """All images, block by block."""
    blocks = []
    for start in range(0, shape.images, ROWS):
        rows = np.arange(start, min(start + ROWS, shape.images))
        span = slice(start * shape.views, (int(rows[-1]) + 1) * shape.views)
        blocks.append(codec.encode(labels[start : start + len(rows)], rows, shape, drawn[span]))
    return blocks


def decode(codec: Codec, arrays: dict[str, torch.Tensor], shape: LabelShape, items: Items) -> None:
    """Every batch."""
    for rows, stored, drawn in items:
        codec.decode(arrays, rows, stored, shape, drawn)


def report(setting: Setting, shape: LabelShape, epochs: int, rounds: tuple[int, int]) -> None:
    """A line for each codec."""
    device, policy = setting.device, ViewPolicy()
    labels = made_labels(shape.images, shape.views, shape.classes, 0.3, seed=0).to(device)
    rows, numbers = np.arange(shape.images), np.arange(shape.views)
    drawn = views.draw(policy, np.repeat(rows, shape.views), np.tile(numbers, shape.images), shape.images)
    encoding, decoding, counts, each, refused = {}, {}, {}, {}, {}
    for name in CODECS:
        try:
            codec = planned(name, shape, policy)
        except DataError as error:
            refused[name] = error
            continue
        blocks = encode(codec, labels, shape, drawn)
        arrays = {key: torch.from_numpy(np.concatenate([block[key] for block in blocks])) for key in blocks[0]}
        items = items_of(codec, shape, policy, epochs)
        encoding[name] = partial(encode, codec, labels, shape, drawn)
        decoding[name] = partial(decode, codec, {key: array.to(device) for key, array in arrays.items()}, shape, items)
        counts[name] = sum(len(item[0]) for item in items)
        each[name] = payload(codec.specs(shape)) / shape.images
    encoded = interleaved(encoding, rounds[0], device, warm=True)  # all have been called to make `decoding`
    decoded = interleaved(decoding, rounds[1], device)
    print(f"codecs, labels [{shape.images}, {shape.views}, {shape.classes}], {RATIO}x of fp16 (none: 1x)")
    print(
        f"  {'codec':12s} {'decode labels/s':>16s} {'MB/s':>8s} {'encode labels/s':>16s} {'MB/s':>8s} "
        f"{'bytes/image':>12s}"
    )
    for name, count in counts.items():
        decode_rate = count / statistics.median(decoded[name])
        encode_rate = shape.images * shape.views / statistics.median(encoded[name])
        megabytes = 2e-6 * shape.classes
        print(
            f"  {name:12s} {decode_rate:16,.0f} {decode_rate * megabytes:8,.0f} "
            f"{encode_rate:16,.0f} {encode_rate * megabytes:8,.0f} {each[name]:12,.0f}"
        )
    for name, error in refused.items():
        print(f"  {name:12s} refused: {error}")


def section(setting: Setting) -> None:
    """Print both tables."""
    if setting.quick:
        report(setting, LabelShape(8, 300, 50), epochs=2, rounds=(1, 1))
        return
    report(setting, LabelShape(500, 100, 50), epochs=20, rounds=(3, 5))
    report(setting, LabelShape(64, 300, 1000), epochs=20, rounds=(1, 5))
