"""The names of `dcpipe.release` are imported on first use, because some of them need torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from dcpipe import release
from dcpipe.release import exporting, publishing, pulling, reading, writing


def test_the_names_are_those_of_the_modules() -> None:
    assert {name: getattr(release, name) for name in release.__all__} == {
        "Release": reading.Release,
        "assemble": writing.assemble,
        "export": exporting.export,
        "load": reading.load,
        "publish": publishing.publish,
        "pull": pulling.pull,
    }
    with pytest.raises(AttributeError, match=r"^module 'dcpipe.release' has no attribute 'laod'$"):
        _ = release.laod


def test_what_writes_and_publishes_loads_no_torch() -> None:
    code = "from dcpipe.release import assemble, publish, pull; import sys; print('torch' in sys.modules)"
    root = Path(release.__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert done.stdout == "False\n"
