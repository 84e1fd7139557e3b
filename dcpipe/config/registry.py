"""Registries: the names that params.yaml may use, each with the place of its code, which is imported on first use.

A registry lists the built-in ones as "package.module:attribute" and finds those of other packages by their entry
points, so that nobody needs a fork to add one. In the pyproject.toml of the other package:

    [project.entry-points."dcpipe.selectors"]
    farthest = "farthest_first:select"

Groups: `dcpipe.selectors`, `dcpipe.codecs`, `dcpipe.synthesis`, `dcpipe.sources`, `dcpipe.networks`.
"""

from __future__ import annotations

import difflib
import hashlib
import inspect
import sys
from collections.abc import Iterator, Mapping, MutableMapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, TypeVar, cast

from dcpipe.config.values import import_name
from dcpipe.types import DataError, require

Thing = TypeVar("Thing")
GROUPS = tuple(f"dcpipe.{kind}" for kind in ("selectors", "codecs", "synthesis", "sources", "networks"))


class UnknownNameError(DataError, KeyError):
    """Raised for a name that is not in a registry. It is also a `KeyError`, because a registry is a mapping."""

    __str__ = Exception.__str__  # that of KeyError would put the sentence in quotes


class Registry(MutableMapping[str, Thing]):
    """A mapping from names to things of one kind. Looking up a name imports its code; listing names imports nothing.

    `kind` is the word for such a thing in error messages, and `arguments` are the positional arguments that its
    functions take. Setting an item adds one in this process only, for example in a notebook.
    """

    def __init__(self, kind: str, group: str, builtin: Mapping[str, str], arguments: tuple[str, ...]) -> None:
        self.kind, self.group, self.arguments = kind, group, arguments
        self._builtin, self._set = dict(builtin), dict[str, Thing]()

    def __getitem__(self, name: str) -> Thing:
        if not isinstance(name, str):
            raise UnknownNameError(f"{self.kind} is {name!r}; choose one of {', '.join(self)}")
        if name in self._set:
            return self._set[name]
        plugins = self._plugins.get(name, ())
        packages = [f"package {_package(plugin)}" for plugin in plugins]
        owners = ["dcpipe", *packages] if name in self._builtin else packages
        require(
            len(owners) < 2,
            f"{self.kind} {name!r} is defined by {' and by '.join(owners)}; uninstall one, or rename its entry point",
        )
        if name in self._builtin:
            return cast(Thing, import_name(self._builtin[name]))
        if not plugins:
            raise UnknownNameError(self._unknown(name))
        return self._loaded(plugins[0])

    def __setitem__(self, name: str, thing: Thing) -> None:
        self._set[name] = thing

    def __delitem__(self, name: str) -> None:
        del self._set[name]

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys([*self._builtin, *sorted(self._plugins), *self._set]))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __contains__(self, name: object) -> bool:
        return name in self._builtin or name in self._set or name in self._plugins

    @property
    def builtin(self) -> tuple[str, ...]:
        """The names that dcpipe itself defines."""
        return tuple(self._builtin)

    @property
    def _plugins(self) -> Mapping[str, tuple[EntryPoint, ...]]:
        return _entry_points(tuple(sys.path)).get(self.group, {})

    def _unknown(self, name: str) -> str:
        names = list(self)
        close = difflib.get_close_matches(name, names, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        return f"unknown {self.kind} {name!r}; choose one of {', '.join(names)}{hint}"

    def _loaded(self, plugin: EntryPoint) -> Thing:
        """The thing that a plugin defines. Raises `DataError` if it cannot be imported or takes other arguments."""
        who = f"{self.kind} {plugin.name!r} of package {_package(plugin)}"
        try:
            thing = plugin.load()
        except Exception as error:  # importing another package's code may fail in any way
            raise DataError(
                f"{who} cannot be imported ({type(error).__name__}: {error}); repair or uninstall the package"
            ) from error
        taken = self.positional_arguments(thing)
        require(
            taken is not None and len(taken) == len(self.arguments),
            f"{who} must take ({', '.join(self.arguments)}) and its options as keyword-only arguments, but "
            f"{plugin.value} takes ({', '.join(taken or ())}); repair the package",
        )
        return cast(Thing, thing)

    @staticmethod
    def positional_arguments(thing: Any) -> list[str] | None:
        """The names of the positional arguments of a function, or of the `plan` of a codec; None for anything else."""
        method = getattr(thing, "plan", thing)
        if not callable(method):
            return None
        parameters = inspect.signature(method).parameters.values()
        return [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]


def plugin_versions() -> dict[str, str]:
    """The packages whose entry points this process has imported, with version and a digest of their code: {"name":
    "1.0 3f2a…"}. Lineage records them, because the code digest of a stage does not cover other packages."""
    versions = {}
    for group in _entry_points(tuple(sys.path)).values():
        for plugin in (plugin for plugins in group.values() for plugin in plugins):
            if plugin.module in sys.modules and plugin.dist is not None:
                versions[plugin.dist.name] = f"{plugin.dist.version} {_digest(plugin.module)}"
    return dict(sorted(versions.items()))


@cache
def _entry_points(path: tuple[str, ...]) -> dict[str, dict[str, tuple[EntryPoint, ...]]]:
    """Group -> name -> entry points of the packages on this search path."""
    groups: dict[str, dict[str, tuple[EntryPoint, ...]]] = {group: {} for group in GROUPS}
    all_plugins = entry_points()
    for group, names in groups.items():
        for plugin in all_plugins.select(group=group):
            names[plugin.name] = (*names.get(plugin.name, ()), plugin)
    return groups


def _package(plugin: EntryPoint) -> str:
    return repr("?" if plugin.dist is None else plugin.dist.name)


def _digest(module: str) -> str:
    """A digest of the Python files of the package that contains an imported module."""
    files = [Path(sys.modules[name].__file__ or "") for name in (module.split(".")[0], module)]
    top = next(file for file in files if file.name)  # a namespace package has no file of its own
    whole = hashlib.sha256()
    for file in sorted(top.parent.rglob("*.py")) if top.name == "__init__.py" else [top]:
        whole.update(file.relative_to(top.parent).as_posix().encode() + b"\0" + file.read_bytes() + b"\0")
    return whole.hexdigest()[:12]
