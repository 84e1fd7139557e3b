"""How many processes the environment asks for, and how a batch is dealt; `test_torchrun.py` runs them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dcpipe.training import ALONE, Group, processes
from dcpipe.types import DataError

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@given(n=st.integers(0, 300), world=st.integers(1, 20))
def test_every_item_of_a_batch_goes_to_one_process_and_shares_are_even(n: int, world: int) -> None:
    shares = [np.arange(n)[Group(rank, world).share(n)] for rank in range(world)]
    assert np.concatenate(shares).tolist() == list(range(n))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_alone_nothing_is_weighted_or_wrapped() -> None:
    network, value = torch.nn.Linear(1, 1), torch.ones(2)
    assert ALONE.weight(5, CPU) == 1.0 and ALONE.mean(value) is value and ALONE.agree([1], CPU)
    assert ALONE.wrapped(network, same_buffers=False) is network and ALONE.tell("a", CPU) == "a"


@pytest.mark.parametrize(("text", "count"), [(None, 1), ("", 1), (" 1 ", 1), ("3", 3), ("auto", 1), ("1024", 1024)])
def test_the_number_of_processes_on_cpus(text: str | None, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(processes.VARIABLE, raising=False)
    if text is not None:
        monkeypatch.setenv(processes.VARIABLE, text)
    assert processes.wanted(CPU) == count


@pytest.mark.parametrize("text", ["0", "-2", "many", "2.0", "٣", "1025", "9" * 200])
def test_nonsense_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(processes.VARIABLE, text)
    with pytest.raises(DataError) as error:
        processes.wanted(CPU)
    assert str(error.value) == (
        f"DCPIPE_PROCESSES is {text[:80]!r}; give a number of processes from 1 to 1,024, or auto for one per visible "
        "GPU"
    )


def test_gpus_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setenv(processes.VARIABLE, "auto")
    assert processes.wanted(CUDA) == 4
    monkeypatch.setenv(processes.VARIABLE, "5")
    sentence = "DCPIPE_PROCESSES is 5, but 4 GPUs are visible and each process needs one; use at most 4, or auto"
    with pytest.raises(DataError, match=rf"^{sentence}$"):
        processes.wanted(CUDA)
    monkeypatch.setenv(processes.VARIABLE, "2")
    for device in ("cuda:1", "mps"):
        with pytest.raises(DataError, match=rf"^DCPIPE_PROCESSES is 2, but DCPIPE_DEVICE is '{device}', which is one "):
            processes.wanted(torch.device(device))
    monkeypatch.setenv(processes.VARIABLE, "1")
    assert processes.wanted(torch.device("cuda:1")) == 1


@pytest.mark.parametrize("text", ["0", "-1", "soon", "nan"])
def test_the_time_to_wait_is_a_number_of_minutes(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert processes.waiting_minutes() == 10
    monkeypatch.setenv(processes.LIMIT, text)
    with pytest.raises(DataError, match=rf"^DCPIPE_PROCESS_MINUTES is '{text}'; give the minutes that a process waits"):
        processes.wanted(CPU)


def environment(monkeypatch: pytest.MonkeyPatch, **variables: str) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


WHOLE = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "MASTER_ADDR": "localhost", "MASTER_PORT": "29500"}


def test_the_users_torchrun_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    environment(monkeypatch)
    assert processes.rank_of_environment() is None
    environment(monkeypatch, RANK="3")
    assert processes.rank_of_environment() is None
    environment(monkeypatch, **WHOLE)
    assert processes.rank_of_environment() == 3
    environment(monkeypatch, **WHOLE | {"RANK": "0", "WORLD_SIZE": "1"})
    assert processes.rank_of_environment() is None


def test_half_of_its_variables_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    environment(monkeypatch, RANK="0", WORLD_SIZE="2")
    with pytest.raises(DataError) as error:
        processes.rank_of_environment()
    assert str(error.value) == (
        "RANK and WORLD_SIZE are set, but LOCAL_RANK, MASTER_ADDR, MASTER_PORT is not; start the processes with "
        "torchrun, or unset RANK and WORLD_SIZE"
    )
    for wrong in ({"RANK": "4"}, {"RANK": "a"}, {"MASTER_PORT": "http"}):
        environment(monkeypatch, **WHOLE | wrong)
        with pytest.raises(DataError, match=r"^RANK is '.' of WORLD_SIZE '4'; start the processes with torchrun, or"):
            processes.rank_of_environment()
