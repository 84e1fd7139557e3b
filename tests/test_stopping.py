"""How commands end when they are interrupted."""

from __future__ import annotations

import io
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dcpipe import stopping

SLOW = """
import sys, time
from dcpipe.stopping import stopping_in_one_sentence
from flows.running.reporting import Plain
with stopping_in_one_sentence("teacher"):
    print("ready", flush=True)
    Plain("teacher").map(lambda item: time.sleep(60), [1], str, retries=0, workers=1, title="slow")
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_stage_within_seconds_in_one_sentence(number: int, code: int) -> None:
    root = Path(stopping.__file__).parents[1]
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW], cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    time.sleep(0.3)
    started = time.monotonic()
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code and time.monotonic() - started < stopping.GRACE_SECONDS + 10
    assert err == "teacher: stopped; what is finished is kept, run `dvc repro` to continue\n"


DEAF = """
import time
from dcpipe import stopping
stopping.GRACE_SECONDS = 0.5
with stopping.stopping_in_one_sentence("teacher"):
    print("ready", flush=True)
    while True:
        try:
            time.sleep(60)
        except KeyboardInterrupt:
            pass
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stage_that_does_not_listen_is_left_after_a_while(number: int, code: int) -> None:
    root = Path(stopping.__file__).parents[1]
    process = subprocess.Popen(
        [sys.executable, "-c", DEAF], cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code
    assert err == "teacher: stopped; what is finished is kept, run `dvc repro` to continue\n"


def test_output_that_is_ascii_replaces_other_signs(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii"))
    stopping.write_any_text()
    sys.stdout.write("98.3 \u00b1 0.3\n")
    sys.stdout.flush()
    assert written.getvalue() == b"98.3 ? 0.3\n"
