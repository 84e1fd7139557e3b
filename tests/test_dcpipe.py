"""The package itself: every name it offers is found, listed and typed, and others are refused."""

from __future__ import annotations

import ast
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

import pytest

import dcpipe


@pytest.mark.parametrize("name", dcpipe.__all__)
def test_every_name_is_that_of_the_module_that_defines_it(name: str) -> None:
    value = getattr(dcpipe, name)
    assert value.__module__.startswith("dcpipe.") and getattr(import_module(value.__module__), name) is value
    assert value.__doc__


def test_names_are_listed_and_known_to_type_checkers() -> None:
    assert dir(dcpipe) == dcpipe.__all__ == sorted(dcpipe.__all__)
    tree = ast.parse(Path(dcpipe.__file__).read_text(encoding="utf-8"))
    [typed] = [node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    imported = [alias.name for node in typed.body if isinstance(node, ast.ImportFrom) for alias in node.names]
    assert sorted(imported) == dcpipe.__all__


def test_other_names_are_no_attributes() -> None:
    with pytest.raises(AttributeError) as error:
        _ = dcpipe.lode  # type: ignore[attr-defined]  # that it is not there is the test
    assert str(error.value) == "module 'dcpipe' has no attribute 'lode'"


def test_the_version_is_that_of_the_package() -> None:
    assert dcpipe.__version__ == version("dcpipe")
