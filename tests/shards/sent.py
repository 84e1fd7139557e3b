"""What is sent to a worker: how many bytes a shard takes, and artifacts on disk for jobs to open."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dcpipe import networks, store
from dcpipe.shards import in_turn, is_shard, remote
from dcpipe.store.encoding import encode_png
from dcpipe.types import EncodedImage, ImageSet, Teacher, ViewPolicy

# The names of ImageNet's classes have 21 characters on average.
CLASS_NAMES = tuple(f"{number:04d} great white shark" for number in range(1000))
ROOT = "/mnt/shared/condensed/imagenet-ipc50"
STAGING = f"{ROOT}/.dcpipe/scratch/data-stage-0123456789abcdef"
DIGEST = 64 * "0"
POLICY = ViewPolicy(scale_min=0.4, seed=3)


def sent_bytes(work: Callable[[Any], Any], items: Sequence[Any]) -> int:
    """The size of a call as `Cluster.call` sends it; the shard and its items come out of it as they went in."""
    assert is_shard(work)
    call = remote.Call(partial(in_turn, work), items, "name", 2, remote.setting_of(torch.device("cpu")))
    content = pickle.dumps(call)
    read = pickle.loads(content)
    assert (read.item, read.setting) == (items, call.setting)
    return len(content)


def imagenet_set() -> store.SetFile:
    """A set of 1,000 classes."""
    images = ImageSet(
        np.zeros((1000, 8, 8, 3), np.uint8), np.arange(1000), np.arange(1000, dtype=np.int64), CLASS_NAMES
    )
    return store.SetFile.at(Path(ROOT) / "data/synthesis/images.parquet", images)


def publish_images(
    out: Path, pixels: np.ndarray, labels: np.ndarray, ids: np.ndarray, classes: Sequence[str], part_rows: int
) -> store.Artifact:
    """An artifact `images` whose splits train and test are the same images."""
    folder = out.with_name(f"{out.name}.made")
    folder.mkdir(parents=True)
    names = []
    for part, start in enumerate(range(0, len(ids), part_rows)):
        rows = [
            EncodedImage(int(ids[row]), encode_png(pixels[row]), f"{row}.png", int(labels[row]))
            for row in range(start, min(start + part_rows, len(ids)))
        ]
        names.append(f"part-{part}.parquet")
        store.write_part(folder / names[-1], rows, classes)
    meta = {
        "classes": list(classes),
        "size": pixels.shape[1],
        "part_rows": part_rows,
        "mean": [0.4, 0.5, 0.6],
        "std": [0.2, 0.25, 0.3],
        "splits": {"train": names, "test": names, "minival": []},
    }
    return store.publish(folder, out, "images", meta, {})


def make_teacher(classes: Sequence[str], size: int, seed: int = 0) -> Teacher:
    torch.manual_seed(seed)
    network = networks.build("convnet-d1-w5", len(classes), size)
    return Teacher("convnet-d1-w5", network.state_dict(), tuple(classes), (0.4, 0.5, 0.6), (0.2, 0.25, 0.3), size, {})


def publish_teacher(out: Path, teacher: Teacher) -> store.Artifact:
    """An artifact `teacher`."""
    folder = out.with_name(f"{out.name}.made")
    folder.mkdir(parents=True)
    return store.publish(folder, out, "teacher", store.save_teacher(folder, teacher), {})
