"""Find the code that a stage runs: the closure of its imports inside this repository.

`dvc.yaml` lists these files as dependencies of the stage (a test compares the two), and lineage and scratch
fingerprints contain their hash. Code that a registry names as "dcpipe.package.module:attribute" counts as imported by
the file that contains this text. Code that all stages share is left out: it only defines the format on disk, which
`SCHEMA` tracks, or checks parameters.
"""

from __future__ import annotations

import ast
import hashlib
import re
from functools import cache
from pathlib import Path

_LAZY = re.compile(r"((?:dcpipe|flows)(?:\.\w+)+):\w+")
ROOT = Path(__file__).resolve().parents[2]
SHARED = (
    "dcpipe/__init__.py",
    "dcpipe/types/",
    "dcpipe/config/__init__.py",
    "dcpipe/config/blocks.py",
    "dcpipe/config/budget.py",
    "dcpipe/config/check.py",
    "dcpipe/config/environment.py",
    "dcpipe/config/options.py",
    "dcpipe/config/params.py",
    "dcpipe/config/registry.py",
    "dcpipe/config/values.py",
    "dcpipe/logs.py",
    "dcpipe/shards/",
    "dcpipe/store/",
    "dcpipe/workspace/",
    "flows/__init__.py",
    "flows/running/",
)


def closure(module: str) -> list[Path]:
    """The files of this repository that running `module` imports, relative to `ROOT`, sorted, without shared ones."""
    seen: dict[str, Path] = {}
    waiting = [module, f"{module}.__main__"]  # running a package runs its __main__
    while waiting:
        name = waiting.pop()
        path = _file(name)
        if path is None or name in seen:
            continue
        seen[name] = path
        relative = path.relative_to(ROOT).as_posix()
        if relative.startswith(SHARED):
            continue
        waiting += _imports(path)
    relatives = {path.relative_to(ROOT) for path in seen.values() if _runs(path)}
    return sorted(p for p in relatives if not p.as_posix().startswith(SHARED))


def code_digest(module: str) -> str:
    """SHA-256 of the names and bytes of the files in the closure."""
    whole, files = hashlib.sha256(), closure(module)
    assert files, f"{module} is not a module of this repository"
    for path in files:
        whole.update(path.as_posix().encode() + b"\0" + (ROOT / path).read_bytes() + b"\0")
    return whole.hexdigest()


def _file(name: str) -> Path | None:
    """The file of a module of this repository, or None for other modules."""
    if name.split(".")[0] not in ("dcpipe", "flows"):
        return None
    base = ROOT.joinpath(*name.split("."))
    for candidate in (base.with_suffix(".py"), base / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


def _runs(path: Path) -> bool:
    """Whether a file contains more than a docstring, which cannot change a result."""
    return _read(path.read_text(encoding="utf-8"))[0]


def _imports(path: Path) -> tuple[str, ...]:
    """Every name that may be a module: a.b for `import a.b` and "a.b:c"; a.b and a.b.c for `from a.b import c`."""
    return _read(path.read_text(encoding="utf-8"))[1]


@cache
def _read(text: str) -> tuple[bool, tuple[str, ...]]:
    """`_runs` and `_imports` of a file with this text; parsing takes long, and closures overlap."""
    tree = ast.parse(text)
    runs = not all(isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) for node in tree.body)
    names: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and (lazy := _LAZY.fullmatch(node.value)):
            names.append(lazy[1])
    return runs, tuple(names)
