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
@pytest.mark.parametrize(("where", "share"), [("main", 0.25), ("thread", 0.75)])
def test_pages_are_used_again(where: str, share: float) -> None:
    """Ten tensors of 80 MB are some 195,000 pages of 4 kB; those of one or two may still be new. In a thread, what
    others allocate at the time lies in the way of up to seven of ten on a busy machine, so a program gets three tries;
    memory that is returned has the same faults in every one."""
    most = share * page_faults("returned", where)
    assert any(page_faults("kept", where) < most for _ in range(3))


def test_a_gpu_has_its_own_allocator() -> None:
    assert not keep_freed_memory(torch.device("cuda"))
    assert not keep_freed_memory(torch.device("meta"))


def test_elsewhere_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "darwin")
    assert not keep_freed_memory(torch.device("cpu"))
