"""A tiny condensed set with its teacher and labels, and its items worked out slowly: for `test_dataset.py`."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
import torch.nn.functional as F

from dcpipe import networks, softlabels, views
from dcpipe.compression import CODECS, rebuild
from dcpipe.dataset import CondensedDataset
from dcpipe.types import ImageSet, LabelPack, LabelShape, Mix, Teacher, ViewPolicy

CPU = torch.device("cpu")
CLASSES = ("ant", "bee", "cow", "dog", "elk")
IPC, SIZE, VIEWS, TEMPERATURE = 3, 8, 6, 4.0
N = IPC * len(CLASSES)
ALL = np.arange(N)
CODEC_KINDS = {"none": {}, "svd": {}, "rpca": {}, "prune": {}, "prune-batch": {"granularity": "batch", "batch_size": 2}}


@cache
def image_set() -> ImageSet:
    source = np.random.default_rng(0)
    pixels = source.integers(0, 256, (N, SIZE, SIZE, 3), dtype=np.uint8)
    labels = np.tile(np.arange(len(CLASSES)), IPC)
    return ImageSet(pixels, labels, source.permutation(90)[:N].astype(np.int64), CLASSES)


@cache
def teacher() -> Teacher:
    torch.manual_seed(0)
    network = networks.build("convnet-d1-w6", len(CLASSES), SIZE)
    weights = {name: 4 * value for name, value in network.state_dict().items()}  # confident, so that labels differ
    return Teacher("convnet-d1-w6", weights, CLASSES, (0.4, 0.5, 0.6), (0.2, 0.25, 0.3), SIZE, {})


def policy_of(mix: Mix) -> ViewPolicy:
    return ViewPolicy(scale_min=0.3, mix=mix, seed=7)


@cache
def network() -> torch.nn.Module:
    return networks.from_teacher(teacher(), CPU)


@cache
def logits_of(images: ImageSet, mix: Mix) -> np.ndarray:
    return softlabels.label_block(
        [network()],
        [teacher()],
        torch.from_numpy(images.images),
        images.ids,
        np.arange(len(images)),
        policy=policy_of(mix),
        n_views=VIEWS,
        size=SIZE,
        batch_size=16,
    )


def pack_of(images: ImageSet, mix: Mix, kind: str = "none") -> LabelPack:
    policy, shape = policy_of(mix), LabelShape(len(images), VIEWS, len(CLASSES))
    name = kind.split("-")[0]
    budget = shape.reference_bytes if kind == "none" else int(shape.reference_bytes / 1.5)
    codec = CODECS[name].plan(shape, budget, **CODEC_KINDS[kind])
    numbers = np.tile(np.arange(VIEWS), len(images))
    drawn = views.draw(policy.labelling, np.repeat(images.ids, VIEWS), numbers, len(images))
    logits = torch.from_numpy(logits_of(images, mix)).float()
    arrays = codec.encode(logits, np.arange(len(images)), shape, drawn)
    return LabelPack(name, codec.settings, dict(arrays), shape, policy, images.ids)


@cache
def dataset_of(mix: Mix) -> CondensedDataset:
    return CondensedDataset.from_pack(image_set(), pack_of(image_set(), mix), temperature=TEMPERATURE)


def in_grids(images: ImageSet, grid: int = 2) -> ImageSet:
    """The same stored images, said to be grids."""
    return ImageSet(images.images, images.labels, images.ids, images.classes, grid)


def decoded_by_hand(images: ImageSet) -> ImageSet:
    """The training images of a set of grids, one cell of one image at a time; the grid divides the side."""
    pixels, labels, ids = [], [], []
    side, grid = images.images.shape[1], images.grid
    cell = side // grid
    for image, label, name in zip(images.images, images.labels, images.ids, strict=True):
        for row, column in np.ndindex(grid, grid):
            crop = image[row * cell : (row + 1) * cell, column * cell : (column + 1) * cell].astype(np.float64)
            large = F.interpolate(torch.from_numpy(crop).permute(2, 0, 1)[None], (side, side), mode="bilinear")
            pixels.append(np.floor(large[0].permute(1, 2, 0).numpy() + 0.5).astype(np.uint8))
            labels.append(label)
            ids.append(name * grid**2 + row * grid + column)
    return ImageSet(np.stack(pixels), np.array(labels), np.array(ids), images.classes)


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp((logits - logits.max()) / TEMPERATURE)
    return powers / powers.sum()


def counted_share(policy: ViewPolicy, image: int, view: int) -> tuple[float, int]:
    """Share of pixels a view keeps of its own image, counted on a pasted white sheet; and the partner's row."""
    drawn = views.draw(policy, np.array([image]), np.array([view]), N)
    sheet = views.paste(torch.zeros(1, 3, SIZE, SIZE), torch.ones(1, 3, SIZE, SIZE), drawn)
    return 1.0 - float(sheet[0, 0].double().sum()) / SIZE**2, int(drawn.partner[0])


def item_by_hand(
    images: ImageSet, mix: Mix, row: int, view: int, stored: np.ndarray | None = None
) -> tuple[torch.Tensor, np.ndarray]:
    """One view of one image, and its label in float64."""
    policy = policy_of(mix)
    stored = (logits_of(images, mix) if stored is None else stored).astype(np.float64)
    pixels, _ = views.render(
        torch.from_numpy(images.images), policy, images.ids, np.array([row]), np.array([view]), SIZE
    )
    label = softmax(stored[row, view])
    if mix == "cutmix_labels":
        share, partner = counted_share(policy, int(images.ids[row]), view)
        label = share * label + (1 - share) * softmax(stored[partner, view])
    return pixels[0], label


def decoded(pack: LabelPack) -> np.ndarray:
    """Logits of every stored view, decoded one at a time; NaN where the codec dropped them."""
    codec, shape = rebuild(pack, CODECS), pack.shape
    arrays = {name: torch.from_numpy(np.asarray(array)) for name, array in pack.arrays.items()}
    logits = np.full((shape.images, shape.views, shape.classes), np.nan, dtype=np.float32)
    for row, view in np.ndindex(shape.images, shape.views):
        rows, stored = np.array([row]), np.array([view])
        if codec.holds(rows, stored, shape).all():
            drawn = views.draw(pack.policy.labelling, pack.ids[rows], stored, shape.images)
            logits[row, view] = codec.decode(arrays, rows, stored, shape, drawn)[0]
    return logits
