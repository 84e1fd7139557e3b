"""Gradients of batches against that of their whole set."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dcpipe import networks
from dcpipe.evaluation import batch_gradients
from dcpipe.evaluation.batch_gradients import Gradients, Labelled

CPU = torch.device("cpu")


def some(n: int = 12) -> Labelled:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (n, 8, 8, 3)).astype(np.uint8)
    return Labelled(np.arange(n) % 3, pixels.__getitem__)


def gradients() -> Gradients:
    torch.manual_seed(0)
    return Gradients(networks.build("resnet10-w2", 3, 8), (0.5, 0.5, 0.5), (0.25, 0.25, 0.25), CPU)


def test_the_gradient_of_a_set_is_the_mean_of_those_of_its_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which holds in evaluation mode only, and for chunks of any size."""
    each = [gradients().of(some(), np.array([row])) for row in range(12)]
    for chunk in (5, 256):
        monkeypatch.setattr(batch_gradients, "CHUNK", chunk)
        whole = gradients().of(some(), np.arange(12))
        for place, one in enumerate(whole):
            assert torch.allclose(one, torch.stack([other[place] for other in each]).mean(0), atol=1e-6)


def test_larger_batches_come_nearer_and_the_whole_set_is_reached() -> None:
    found = gradients().cosines(some(), [2, 6, 12, 13], 8, 0)
    assert list(found) == [2, 6, 12], "there are 12 images"
    assert found[2] < found[6] < found[12]
    assert found[12] == pytest.approx(1)
    assert found == gradients().cosines(some(), [2, 6, 12, 13], 8, 0)
    assert found != gradients().cosines(some(), [2, 6, 12, 13], 8, 1)
