"""ImageNet-1K at 50 images a class, extrapolated: bytes of packs at 30x and seconds to encode them.

Measured on a slice: real images (where there are any), 300 views each, labelled by a network of 1,000 outputs. It is
trained for a minute at most, on the images' own 50 classes, so 950 of its outputs only learn that they never occur:
bytes depend on the budget alone and most codecs' seconds on shapes alone, but those of `rpca` also on the labels, which
a real teacher's are unlike. Views are small; no codec sees a pixel. Seconds count the draw of the views and the
writing of the file. What is told of all 50,000 images is the slice's times the ratio of the images.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from dcpipe import networks, softlabels, store, training, views
from dcpipe.training import Recipe
from dcpipe.types import LabelShape, Teacher, ViewPolicy
from label_speed import RATIO, Photographs, Setting, packed, photographs, seconds, soft_labels

IMAGES, VIEWS, CLASSES = 50_000, 300, 1000
CODECS = ("lowrank_int8", "field", "svd", "rpca")
MEAN, STD = (0.48, 0.45, 0.40), (0.28, 0.27, 0.28)


def teacher_of(photos: Photographs, classes: int, size: int, steps: int, device: torch.device) -> Teacher:
    """A network of `classes` outputs after `steps` batches of random crops."""
    torch.manual_seed(0)
    name = "convnet-d3-w32"
    network = networks.build(name, classes, size)
    pixels, policy, n = torch.from_numpy(photos.images.images).to(device), ViewPolicy(), len(photos.images)
    labels = torch.from_numpy(photos.images.labels).to(device)

    def batches(epoch: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for step in range(steps):
            rows = np.random.default_rng(step).integers(0, n, 128)
            inputs, _ = views.render(pixels, policy, photos.images.ids, rows, np.full(128, step), size)
            yield views.normalise(inputs, MEAN, STD), views.take(labels, rows)

    trained, _ = training.fit(network, batches, training.cross_entropy, Recipe(epochs=1), seed=0, device=device)
    names = tuple(str(c) for c in range(classes))
    weights = {key: value.cpu() for key, value in trained.state_dict().items()}
    return Teacher(name, weights, names, MEAN, STD, size, {})


def labels_of(
    photos: Photographs, noun: Teacher, n: int, n_views: int, policy: ViewPolicy, device: torch.device
) -> torch.Tensor:
    """fp16 [n, K, c] of the first n images."""
    network, pixels = networks.from_teacher(noun, device), torch.from_numpy(photos.images.images[:n]).to(device)
    blocks = [
        softlabels.label_block(
            [network], [noun], pixels, photos.images.ids[:n], np.arange(start, min(start + 16, n)),
            policy=policy, n_views=n_views, size=noun.size, batch_size=480,
        )
        for start in range(0, n, 16)
    ]  # fmt: skip
    return torch.from_numpy(np.concatenate(blocks))


def section(setting: Setting) -> None:
    """Print all lines."""
    n, n_views, classes, size, steps = (8, 300, 60, 16, 2) if setting.quick else (500, VIEWS, CLASSES, 32, 200)
    device, policy = setting.device, ViewPolicy()
    photos = photographs(n if setting.quick else 5000, size)
    noun = teacher_of(photos, classes, size, steps, device)
    logits = labels_of(photos, noun, n, n_views, policy, device)
    labels, shape = soft_labels(logits, policy, photos.images.ids[:n]), LabelShape(n, n_views, classes)
    times = IMAGES / n
    print(
        f"ImageNet-1K, 50 images a class, extrapolated from {n} {photos.source} at {size} pixels, K = {n_views}, "
        f"{classes} outputs of a {noun.network} trained for {steps} steps; {RATIO}x of fp16"
    )
    print(f"  fp16: slice {shape.reference_bytes:,} bytes; extrapolated {shape.reference_bytes * times / 1e9:.2f} GB")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "labels.safetensors"
        for name in CODECS:
            took = seconds(lambda name=name: store.save_pack(path, packed(name, labels, device)), device)
            size_on_disk = path.stat().st_size
            print(
                f"  {name:12s} slice: file of {size_on_disk:,} bytes in {took:6.1f} s; extrapolated: "
                f"{size_on_disk * times / 1e9:.3f} GB in {took * times / 60:5.0f} minutes",
                flush=True,
            )
