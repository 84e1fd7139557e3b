"""Registries: what may be named in params.yaml, each name with the place of its code, which is imported when asked for.

A registry lists dcpipe's own as "package.module:attribute" and finds those of other packages by their entry points, so
that nobody needs a fork to add one. In the other package's pyproject.toml:

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
    """A name that a registry lacks; a `KeyError` too, as a mapping owes."""

    __str__ = Exception.__str__  # KeyError's would put the sentence in quotes


class Registry(MutableMapping[str, Thing]):
    """Names of one kind of thing. A mapping: looking a name up imports its code, listing the names imports nothing.

    `kind` is what errors call a thing of it, `arguments` the positional arguments that its functions take. Setting an
    item adds one to this process alone, as a notebook may.
    """

    def __init__(self, kind: str, group: str, builtin: Mapping[str, str], arguments: tuple[str, ...]) -> None:
        self.kind, self.group, self.arguments = kind, group, arguments
        self._builtin, self._set = dict(builtin), dict[str, Thing]()

    def __getitem__(self, name: str) -> Thing:
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
        """The names that dcpipe defines itself."""
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
        """A plugin's thing; `DataError` where it cannot be imported or does not take what a thing of this kind must."""
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
            f"{who} must take ({', '.join(self.arguments)}) and its options as keyword-only arguments, but is "
            f"{plugin.value} with ({', '.join(taken or ())}); repair the package",
        )
        return cast(Thing, thing)

    @staticmethod
    def positional_arguments(thing: Any) -> list[str] | None:
        """Names of the positional arguments of a function, or of a codec's `plan`; None for what is neither."""
        method = getattr(thing, "plan", thing)
        if not callable(method):
            return None
        parameters = inspect.signature(method).parameters.values()
        return [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]


def plugin_versions() -> dict[str, str]:
    """Packages whose entry points this process has imported, with version and a digest of their code: {"name":
    "1.0 3f2a…"}. Lineage records it, as what they compute is not in this repository."""
    found = {}
    for group in _entry_points(tuple(sys.path)).values():
        for plugin in (plugin for plugins in group.values() for plugin in plugins):
            if plugin.module in sys.modules and plugin.dist is not None:
                found[plugin.dist.name] = f"{plugin.dist.version} {_digest(plugin.module)}"
    return dict(sorted(found.items()))


@cache
def _entry_points(path: tuple[str, ...]) -> dict[str, dict[str, tuple[EntryPoint, ...]]]:
    """Group -> name -> entry points of the packages on a search path."""
    groups: dict[str, dict[str, tuple[EntryPoint, ...]]] = {group: {} for group in GROUPS}
    found = entry_points()
    for group, names in groups.items():
        for plugin in found.select(group=group):
            names[plugin.name] = (*names.get(plugin.name, ()), plugin)
    return groups


def _package(plugin: EntryPoint) -> str:
    return repr("?" if plugin.dist is None else plugin.dist.name)


def _digest(module: str) -> str:
    """Of the Python files of the package that an imported module is in."""
    files = [Path(sys.modules[name].__file__ or "") for name in (module.split(".")[0], module)]
    top = next(file for file in files if file.name)  # a namespace package has no file of its own
    whole = hashlib.sha256()
    for file in sorted(top.parent.rglob("*.py")) if top.name == "__init__.py" else [top]:
        whole.update(file.relative_to(top.parent).as_posix().encode() + b"\0" + file.read_bytes() + b"\0")
    return whole.hexdigest()[:12]
