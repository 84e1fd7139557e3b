"""The package: its names are those of its modules, imported when they are used."""

from __future__ import annotations

import subprocess
import sys

import pytest

from dcpipe import release
from dcpipe.release import publishing, pulling, reading


def test_names_are_those_of_the_modules() -> None:
    assert (release.load, release.pull, release.publish) == (reading.load, pulling.pull, publishing.publish)
    assert all(callable(getattr(release, name)) for name in release.__all__)
    with pytest.raises(AttributeError, match=r"^module 'dcpipe\.release' has no attribute 'lode'$"):
        _ = release.lode


def test_importing_the_package_imports_none_of_them() -> None:
    code = "import sys, dcpipe.release; print(*(name for name in sys.modules if name.startswith('dcpipe.release.')))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "\n"
