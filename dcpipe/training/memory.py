"""Keep the memory of large tensors on a CPU, instead of giving it back to the system and asking for it again.

PyTorch's CPU allocator is malloc. For the activations of a batch, which take tens of megabytes, glibc asks the system
for new pages each time and returns them as soon as they are free; the system must clear every page before it hands it
out again. For networks with many cheap layers this takes longer than the arithmetic: EfficientNet-Lite0 on batches of
256 images of 96 pixels took 4.3 s of arithmetic and 6.4 s of the system's time per 1,000 images. With freed memory kept
it took 4.8 s and 0.2 s (one thread of the CPU in benchmarks/results). Results are the same to the bit.
"""

from __future__ import annotations

import ctypes
import sys

import torch

# Parameters of mallopt(3), with the values that turn each off.
_TRIM_THRESHOLD, _NEVER = -1, -1  # do not return free memory at the end of the heap
_MMAP_MAX, _NONE = -4, 0  # take large blocks from the heap, too
_ARENA_MAX, _ONE = -8, 1  # threads share one heap: others hold blocks of at most 64 MB and are trimmed differently


def keep_freed_memory(device: torch.device) -> bool:
    """Let this process keep freed memory for its next tensors, if `device` is a CPU and malloc is glibc's.

    Called by programs, not by library functions, because it applies to the whole process, whose peak memory stays with
    it until it ends. Returns whether the settings were made; elsewhere nothing changes.
    """
    if device.type != "cpu" or sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    made = [mallopt(*setting) for setting in ((_TRIM_THRESHOLD, _NEVER), (_MMAP_MAX, _NONE), (_ARENA_MAX, _ONE))]
    return made == [1, 1, 1]
