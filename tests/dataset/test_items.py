"""Items of an epoch: their batches need nothing that is not on the device yet."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from codec_cases import KINDS, encode, labels, make, name_of
from condensed import CLASSES, SIZE, N, dataset_of, image_set, policy_of
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from dcpipe import views
from dcpipe.dataset import CondensedDataset, CondensedLoader
from dcpipe.dataset.targets import HardLabels, Labels, PackLabels, PrefixLabels
from dcpipe.types import MIXES, ImageSet, LabelPack, LabelShape, Mix, ViewPolicy

META = torch.device("meta")  # computes no values, but knows where every tensor is
SHAPE = LabelShape(N, 8, len(CLASSES))


class OnTheHost(TorchDispatchMode):
    """The operations that read or make a tensor in host memory."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        tensors = [leaf for leaf in tree_leaves((args, kwargs, result)) if isinstance(leaf, torch.Tensor)]
        if any(tensor.device.type == "cpu" for tensor in tensors):
            self.found.append(str(func))
        return result


def pack_on_meta(kind: str, policy: ViewPolicy) -> PackLabels:
    """A pack of these images with labels that nobody reads."""
    codec = make(kind, SHAPE)
    arrays = encode(codec, labels(SHAPE), np.arange(N), SHAPE)
    pack = LabelPack(name_of(kind), codec.settings, dict(arrays), SHAPE, policy, image_set().ids)
    return PackLabels(pack, META)


def host_operations(images: ImageSet, source: Labels, policy: ViewPolicy) -> list[str]:
    """Operations on tensors in host memory in the second of three normalised batches, with class numbers."""
    finish = partial(views.normalise, mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3))
    loader = CondensedLoader(CondensedDataset(images, source, policy, device=META), -(-len(images) // 3), finish=finish)
    batches = loader.with_hard(3)
    next(batches)
    with OnTheHost() as mode:
        inputs, (targets, hard) = next(batches)
    assert inputs.device == targets.device == hard.device == META and inputs.shape[1:] == (3, SIZE, SIZE)
    return mode.found


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_copies_nothing_to_the_device(kind: str) -> None:
    """For all codecs; with labels that are mixed, unless the codec cannot."""
    mix: Mix = "none" if "batch" in kind else "cutmix_labels"
    assert host_operations(image_set(), pack_on_meta(kind, policy_of(mix)), policy_of(mix)) == []


@pytest.mark.parametrize("mix", MIXES)
def test_a_batch_of_hard_labels_or_of_a_smaller_set_copies_nothing(mix: Mix) -> None:
    images = image_set()
    assert host_operations(images, HardLabels(images.labels, len(CLASSES), META), policy_of(mix)) == []
    small = images.prefix(2)
    rows = np.flatnonzero(np.isin(images.ids, small.ids))
    assert host_operations(small, PrefixLabels(pack_on_meta("svd", policy_of(mix)), rows), policy_of(mix)) == []


def test_operations_on_the_host_are_noticed() -> None:
    """Whatever computes on a CPU, and a copy to another device."""
    with OnTheHost() as mode:
        dataset_of("none").batch(np.arange(2))
    assert any("grid_sampler" in name for name in mode.found)
    with OnTheHost() as mode:
        torch.from_numpy(np.arange(3)).to(META)
    assert any("_to_copy" in name for name in mode.found)


@pytest.mark.parametrize("mix", MIXES)
def test_batches_are_slices_of_the_items(mix: Mix) -> None:
    dataset, order = dataset_of(mix), np.random.default_rng(0).permutation(N)
    dataset.set_epoch(2)
    items = dataset.items(order)
    assert len(items) == N
    for span in (slice(0, 4), slice(4, 5), slice(5, N)):
        wanted = dataset.batch(order[span])
        for one, other in zip(items.batch(span), wanted, strict=True):
            assert torch.equal(one, other)
        assert items.hard(span).tolist() == image_set().labels[order[span]].tolist()


@pytest.mark.gpu
@pytest.mark.parametrize("mix", MIXES)
def test_the_host_never_waits_for_a_gpu_in_a_batch(mix: Mix) -> None:
    cuda, images = torch.device("cuda"), image_set()
    policy = ViewPolicy(scale_min=0.3, mix=mix, seed=7, siamese="color_crop_cutout_flip_scale_rotate")
    for kind in ("svd", "cur", "field", "topk"):
        codec = make(kind, SHAPE)
        arrays = encode(codec, labels(SHAPE), np.arange(N), SHAPE)
        pack = LabelPack(name_of(kind), codec.settings, dict(arrays), SHAPE, policy, images.ids)
        dataset = CondensedDataset(images, PackLabels(pack, cuda), policy, device=cuda)
        dataset.set_epoch(3)
        items = dataset.items(np.arange(N))
        first = items.batch(slice(0, 5))  # constants go to the GPU here
        torch.cuda.set_sync_debug_mode("error")
        try:
            second = items.batch(slice(0, 5))
            items.hard(slice(0, 5))
        finally:
            torch.cuda.set_sync_debug_mode("default")
        assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))
