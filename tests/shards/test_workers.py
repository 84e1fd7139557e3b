"""Every value of DCPIPE_WORKERS and DCPIPE_TASK_MINUTES; wrong ones give one sentence."""

from __future__ import annotations

import pytest
import torch

from dcpipe.shards import workers
from dcpipe.shards.workers import LIMIT, VARIABLE, Workers, wanted
from dcpipe.types import DataError


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.delenv(LIMIT, raising=False)


@pytest.mark.parametrize("text", [None, "", "  "])
def test_by_default_there_are_none(text: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    if text is not None:
        monkeypatch.setenv(VARIABLE, text)
    assert wanted() is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1", Workers(count=1)),
        (" 8 ", Workers(count=8)),
        ("tcp://[::1]:8786", Workers(address="tcp://[::1]:8786")),
        ("1024", Workers(count=1024)),
        *((f"{scheme}://host:8786", Workers(address=f"{scheme}://host:8786")) for scheme in workers.SCHEMES),
    ],
)
def test_numbers_and_addresses(text: str, expected: Workers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, text)
    assert wanted() == expected


@pytest.mark.parametrize("text", ["0", "-1", "1025", "two", "2.0", "²", "host:8786", "http://host:8786", "tcp:/host"])
def test_other_values_are_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, text)
    with pytest.raises(DataError) as error:
        wanted()
    assert str(error.value) == (
        f"DCPIPE_WORKERS is {text!r}; give a number of workers from 1 to 1,024, auto, or the address of a Dask "
        "scheduler such as tcp://127.0.0.1:8786"
    )


@pytest.mark.parametrize("address", ["tcp://", "tcp://host", "tcp://host:", "tcp://:8786", "tcp://host:port"])
def test_addresses_without_host_or_port_are_refused(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, address)
    with pytest.raises(DataError, match=r"^DCPIPE_WORKERS is 'tcp://.*'; give a number of workers"):
        wanted()


@pytest.mark.parametrize(("gpus", "cores", "count"), [(8, 4, 8), (0, 16, 8), (0, 1, 1), (0, None, 1)])
def test_auto_is_one_per_gpu_or_per_two_cores(
    gpus: int, cores: int | None, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, "auto")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(workers.os, "cpu_count", lambda: cores)
    assert wanted() == Workers(count=count)


@pytest.mark.parametrize(("text", "minutes"), [("", None), (" ", None), ("30", 30.0), ("0.5", 0.5), ("1e3", 1000.0)])
@pytest.mark.parametrize("value", ["2", "tcp://host:8786"])
def test_minutes(text: str, minutes: float | None, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, value)
    monkeypatch.setenv(LIMIT, text)
    found = wanted()
    assert found is not None and found.minutes == minutes


@pytest.mark.parametrize("text", ["0", "-5", "soon", "nan", "inf", "1e6"])
def test_other_minutes_are_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "2")
    monkeypatch.setenv(LIMIT, text)
    with pytest.raises(DataError) as error:
        wanted()
    assert (
        str(error.value)
        == f"DCPIPE_TASK_MINUTES is {text!r}; give the minutes after which a task is tried elsewhere, or unset it"
    )
