"""Batch norm over processes: in one process it is PyTorch's; `test_torchrun.py` runs it in two."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn

from dcpipe import networks
from dcpipe.training.batchnorm import SyncedBatchNorm, synchronised
from dcpipe.types import DataError

CPU = torch.device("cpu")


@pytest.fixture
def group_of_one(tmp_path: Path) -> Iterator[None]:
    """A group whose only member is this process: sums over all processes are its own."""
    store = dist.FileStore(str(tmp_path / "store"), 1)
    dist.init_process_group("gloo", store=store, rank=0, world_size=1, timeout=timedelta(seconds=60))
    yield
    dist.destroy_process_group()


LAYERS = [
    (nn.BatchNorm1d(4), (9, 4)),
    (nn.BatchNorm1d(4, eps=0.1), (9, 4, 3)),
    (nn.BatchNorm2d(4, momentum=None), (3, 4, 5, 2)),
    (nn.BatchNorm2d(4, affine=False, momentum=0.3), (3, 4, 5, 2)),
    (nn.BatchNorm3d(4, track_running_stats=False), (2, 4, 2, 3, 2)),
]


@pytest.mark.usefixtures("group_of_one")
@pytest.mark.parametrize(("layer", "shape"), LAYERS, ids=str)
def test_it_is_the_batch_norm_of_one_process(layer: nn.Module, shape: tuple[int, ...]) -> None:
    """Outputs, gradients and running statistics in float64, in training and in evaluation."""
    torch.manual_seed(0)
    plain = layer.double().train()
    if plain.affine:
        nn.init.normal_(plain.weight), nn.init.normal_(plain.bias)
    synced = synchronised(nn.Sequential(type(plain)(4, plain.eps, plain.momentum, plain.affine)), CPU)[0]
    other = SyncedBatchNorm(4, plain.eps, plain.momentum, plain.affine, plain.track_running_stats).double()
    other.load_state_dict(plain.state_dict())
    assert type(synced) is SyncedBatchNorm
    for step in range(4):
        plain.train(step < 3), other.train(step < 3)
        inputs = torch.randn(shape, dtype=torch.float64) * 2 + 50
        ours, theirs = inputs.clone().requires_grad_(), inputs.clone().requires_grad_()
        expected, found = plain(theirs), other(ours)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-11)
        weights = torch.randn_like(expected)
        plain.zero_grad(), other.zero_grad()
        (expected * weights).sum().backward(), (found * weights).sum().backward()
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=0, atol=1e-10)
        for mine, its in zip(other.parameters(), plain.parameters(), strict=True):
            torch.testing.assert_close(mine.grad, its.grad, rtol=0, atol=1e-10)
        for mine, its in zip(other.buffers(), plain.buffers(), strict=True):
            torch.testing.assert_close(mine, its, rtol=0, atol=1e-11)


def test_every_layer_is_replaced_and_keeps_its_weights_and_names() -> None:
    network = networks.build("resnet10-w4", 3, 16)
    before = {name: value.data_ptr() for name, value in network.state_dict().items()}
    known = {id(parameter) for parameter in network.parameters()}
    synced = synchronised(network, CPU)
    assert {name: value.data_ptr() for name, value in synced.state_dict().items()} == before
    assert {id(parameter) for parameter in synced.parameters()} == known
    kinds = [type(module) for module in synced.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    assert len(kinds) > 4 and set(kinds) == {SyncedBatchNorm}


def test_a_layer_that_is_more_than_a_batch_norm_is_refused() -> None:
    class NormAndAct(nn.BatchNorm2d):
        """As in some libraries."""

    network = nn.Sequential(nn.Sequential(nn.BatchNorm2d(2), NormAndAct(2)))
    with pytest.raises(DataError) as error:
        synchronised(network, CPU)
    assert str(error.value) == (
        "teacher.training.sync_batchnorm is true, but layer '0.1' of Sequential is a NormAndAct, which cannot be "
        "synchronised; set it to false, or train in one process"
    )
