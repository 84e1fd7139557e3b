"""Freed memory is kept: the system clears no new pages for the next tensors."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from dcpipe.training import keep_freed_memory

PROGRAM = """
import resource, sys, threading
import torch
from dcpipe.training import keep_freed_memory

if sys.argv[1] == "kept":
    assert keep_freed_memory(torch.device("cpu"))

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def work():
    for _ in range(30):
        torch.ones(20_000_000)
    before = faults()
    for _ in range(10):
        torch.ones(20_000_000)  # 80 MB
    print(faults() - before)

if sys.argv[2] == "thread":
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
else:
    work()
"""


def page_faults(kept: str, where: str) -> int:
    done = subprocess.run([sys.executable, "-c", PROGRAM, kept, where], check=True, capture_output=True, text=True)
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="mallopt is glibc's")
@pytest.mark.parametrize("where", ["main", "thread"])
def test_pages_are_used_again(where: str) -> None:
    """Ten tensors of 80 MB are some 195,000 pages of 4 kB. Thirty come before them: at first a small allocation may
    take its place in the freed block, so that the next tensor needs a new one, up to eight times from run to run; then
    there are blocks for both. Memory that is returned has the same faults for every tensor."""
    assert page_faults("kept", where) < 0.1 * page_faults("returned", where)


def test_a_gpu_has_its_own_allocator() -> None:
    assert not keep_freed_memory(torch.device("cuda"))
    assert not keep_freed_memory(torch.device("meta"))


def test_elsewhere_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "darwin")
    assert not keep_freed_memory(torch.device("cpu"))
