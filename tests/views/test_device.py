"""Arrays and constants on a device."""

from __future__ import annotations

import numpy as np
import torch

from dcpipe.views.device import constant, send, take

CPU = torch.device("cpu")


def test_sent_arrays_are_not_copied_on_a_cpu() -> None:
    array = np.arange(6.0).reshape(2, 3)
    sent = send(array, CPU)
    array[1, 2] = -1
    assert sent.dtype == torch.float64 and sent.tolist() == [[0, 1, 2], [3, 4, -1]]
    assert send(array[:, ::2], CPU).tolist() == [[0, 2], [3, -1]]  # no torch tensor can share this memory with strides
    assert send(array, torch.device("meta")).device.type == "meta"


def test_rows_are_taken_in_any_order_and_may_repeat() -> None:
    assert take(torch.arange(10) * 2, np.array([3, 0, 3])).tolist() == [6, 0, 6]


def test_a_constant_is_made_once_for_each_device_and_type() -> None:
    first = constant((0.5, 0.25), CPU, torch.float32)
    assert first.tolist() == [0.5, 0.25] and constant((0.5, 0.25), CPU, torch.float32) is first
    other = constant((0.5, 0.25), CPU, torch.float64)
    assert other.dtype == torch.float64 and other is not first
