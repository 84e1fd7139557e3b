"""The shape of the code: what never appears, nothing at work on import; who may import whom is in pyproject.toml."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dcpipe.config.params import Params

ROOT = Path(__file__).resolve().parents[1]
STAGES = set(Params.model_fields)
LIBRARY = sorted((ROOT / "dcpipe").rglob("*.py"))
FLOWS = sorted((ROOT / "flows").rglob("*.py"))

PARAMS_READERS = {"workspace", "config", "evaluation", "studies", "cli", "release", "interop", "planning", "judging"}
WRITERS = {
    "StagingDir",
    "create_blocks",
    "publish",
    "save_label_keys",
    "save_pack",
    "save_scores",
    "save_selection",
    "save_set",
} | {
    "save_teacher",
    "staging_dir",
    "write_columns",
    "write_index",
    "write_part",
}
# Modules whose tests stand in a file of another name, below tests/.
TESTED_IN = {
    # Every kind of artifact keeps the same laws: one file has them, parametrized by kind.
    **dict.fromkeys(
        [f"store/{kind}.py" for kind in ("columns", "scores", "selection", "teacher")],
        "store/test_artifact.py",
    ),
    # A synthesis method is a choice of options of one engine: one file runs all methods of an engine.
    **dict.fromkeys(
        [f"synthesis/{name}.py" for name in ("sre2l", "cda", "gvbsm", "edc", "edc_code")], "synthesis/test_methods.py"
    ),
    **dict.fromkeys(
        [f"synthesis/{name}.py" for name in ("dc", "dsa", "dm", "idc", "dream", "mdc")],
        "synthesis/test_gradient_methods.py",
    ),
    "synthesis/mtt.py": "synthesis/trajectories/test_engine.py",
}
# Packages whose tests are still grouped by what they check, as presets and figures are, and not by module.
GROUPED = {"cli", "config", "evaluation", "interop", "reports", "studies"}
HEAVY = {"dask", "distributed", "sklearn", "scipy", "matplotlib", "prefect", "timm", "dvc", "gto", "fastapi"} | {
    "s3fs",
    "botocore",
    "huggingface_hub",
    "datasets",
    "zarr",
    "diffusers",
    "transformers",
    "threadpoolctl",
}


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imports_of(node: ast.AST) -> Iterator[str]:
    """Dotted names imported anywhere below a node; `from a import b` is a.b."""
    for child in ast.walk(node):
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, f"line {child.lineno}: imports are absolute"
            yield from (f"{child.module}.{alias.name}" for alias in child.names)


def home_of(path: Path) -> str:
    return path.relative_to(ROOT / "dcpipe").parts[0].removesuffix(".py")


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def test_there_is_something_to_look_at() -> None:
    assert len(LIBRARY) > 30 and len(FLOWS) > 10 and len(STAGES) == 9
    assert sum(len(set(imports_of(tree_of(path)))) for path in LIBRARY) > 500, "imports are not seen"


@pytest.mark.parametrize("path", LIBRARY, ids=relative)
def test_only_flows_read_parameters_and_write_artifacts(path: Path) -> None:
    home, tree = home_of(path), tree_of(path)
    if home not in PARAMS_READERS:
        assert not any(name.startswith("dcpipe.config.params") for name in imports_of(tree)), (
            f"{relative(path)}: a method takes arguments, not parameters"
        )
    if home in {"store", "release", "interop"} or path.name in {"front.py", "shards.py"}:
        return  # a front writes where its caller says, a shard into the folder that its stage publishes
    taken = {name.split(".")[-1] for name in imports_of(tree) if name.startswith("dcpipe.store.")}
    called = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "store"
    }
    assert not (taken | called) & WRITERS, f"{relative(path)} writes artifacts; only flows do"


@pytest.mark.parametrize("path", LIBRARY, ids=relative)
def test_heavy_packages_are_imported_where_they_are_used(path: Path) -> None:
    tree = tree_of(path)
    at_import = {name.split(".")[0] for node in tree.body if not is_definition(node) for name in imports_of(node)}
    assert not at_import & HEAVY, f"{relative(path)}: import {sorted(at_import & HEAVY)} where it is used"


def is_definition(node: ast.stmt) -> bool:
    return isinstance(node, ast.FunctionDef | ast.ClassDef)


# What a library of Python does so that it shows nothing by itself.
SILENT = "logging.getLogger(__name__).addHandler(logging.NullHandler())"


def works(node: ast.stmt) -> bool:
    """Whether a statement at the top of a module does more than define, name or import."""
    if isinstance(node, ast.If):
        test = ast.unparse(node.test)
        return test not in ("TYPE_CHECKING", "__name__ == '__main__'")
    if isinstance(node, ast.Expr):
        return not isinstance(node.value, ast.Constant) and ast.unparse(node) != SILENT
    return not (
        is_definition(node) or isinstance(node, ast.Import | ast.ImportFrom | ast.Assign | ast.AnnAssign | ast.Assert)
    )


@pytest.mark.parametrize("path", LIBRARY + FLOWS, ids=relative)
def test_nothing_works_at_import(path: Path) -> None:
    busy = [node.lineno for node in tree_of(path).body if works(node)]
    assert not busy, f"{relative(path)}: lines {busy} do work when imported; move it into a function"


def loaded_after(statement: str) -> set[str]:
    code = f"{statement}\nimport sys\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    return set(done.stdout.split())


def test_importing_dcpipe_loads_nothing_else() -> None:
    loaded = loaded_after("import dcpipe")
    assert "dcpipe" in loaded and not {"torch", "numpy", "pyarrow", "zarr", *HEAVY} & loaded
    assert [name for name in loaded if name.startswith("dcpipe.")] == []


@pytest.mark.parametrize(
    "module",
    [
        "flows.images",
        "flows.sources",
        "flows.release",
        "dcpipe.cli",
        "dcpipe.cli.reproducing",
        "dcpipe.cli.showing",
        "dcpipe.images.shards",
        "dcpipe.release.publishing",
        "dcpipe.release.pulling",
        "dcpipe.store",
    ],
)
def test_what_computes_nothing_loads_no_torch(module: str) -> None:
    """It takes seconds, and `--help`, `status` and the table of images need none of it."""
    assert "torch" not in loaded_after(f"import {module}")


def test_importing_all_of_it_loads_no_optional_package() -> None:
    names = [relative(path).removesuffix(".py").removesuffix("/__init__").replace("/", ".") for path in LIBRARY]
    loaded = loaded_after("import importlib\nfor name in " + repr(names) + ": importlib.import_module(name)")
    assert set(names) <= loaded and not HEAVY & loaded


@pytest.mark.parametrize("path", LIBRARY + FLOWS, ids=relative)
def test_files_are_short_named_for_what_they_hold_and_explained(path: Path) -> None:
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= 400, f"{relative(path)} has {lines} lines; split it by what it does"
    assert path.stem not in {"utils", "util", "misc", "common", "helpers"}
    if path.parts[len(ROOT.parts)] == "dcpipe":
        assert ast.get_docstring(tree_of(path)), f"{relative(path)} lacks a docstring"


@pytest.mark.parametrize("path", LIBRARY + FLOWS, ids=relative)
def test_nothing_reads_a_pickle(path: Path) -> None:
    tree = tree_of(path)
    used = {name.split(".")[0] for name in imports_of(tree)}
    assert not used & {"pickle", "dill", "joblib", "shelve", "marshal", "cloudpickle"}, relative(path)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("torch.load", "np.load"):
            options = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            safe = options.get("weights_only") == "True" if "torch" in ast.unparse(node.func) else True
            assert safe, f"{relative(path)}:{node.lineno}: torch.load needs weights_only=True"
            assert options.get("allow_pickle", "False") == "False", f"{relative(path)}:{node.lineno}"


def mirror_of(path: Path) -> str:
    """The test file of a module, below tests/: of `x/y.py` it is `x/test_y.py`, of `x/__init__.py` `x/test_x.py`."""
    module = path.relative_to(ROOT / "dcpipe")
    name = (module.parent.name or "dcpipe") if module.stem == "__init__" else module.stem
    return (module.parent / f"test_{name}.py").as_posix()


@pytest.mark.parametrize("path", [path for path in LIBRARY if home_of(path) not in GROUPED], ids=relative)
def test_every_module_that_does_something_has_its_test_file(path: Path) -> None:
    module, mirror = path.relative_to(ROOT / "dcpipe").as_posix(), mirror_of(path)
    if module in TESTED_IN:
        assert (ROOT / "tests" / TESTED_IN[module]).is_file(), f"{TESTED_IN[module]} is gone"
        assert not (ROOT / "tests" / mirror).is_file(), f"{mirror} is there: take {module} off the list"
    elif any(is_definition(node) for node in tree_of(path).body):  # the others are constants, or a table of contents
        assert (ROOT / "tests" / mirror).is_file(), f"{relative(path)} has no tests/{mirror}"


def test_exceptions_are_modules() -> None:
    assert {name for name in TESTED_IN if not (ROOT / "dcpipe" / name).is_file()} == set()
    assert set(map(home_of, LIBRARY)) > GROUPED


def test_every_stage_has_a_flow_of_its_name_and_nothing_else_stands_beside_them() -> None:
    modules = {path.stem for path in (ROOT / "flows").glob("*.py")}
    assert modules == STAGES | {"__init__", "condense", "deployments", "judging", "sources"}


def test_the_top_of_the_library_is_packages_and_few_modules() -> None:
    modules = {path.name for path in (ROOT / "dcpipe").glob("*.py")}
    assert modules == {"__init__.py", "logs.py", "precision.py", "random.py", "stopping.py"}


def test_the_rules_bite() -> None:
    """Each detector finds what it is for."""
    bad = ast.parse("from dcpipe import store, views\nimport dvc.api\nfor x in y: pass\nprint(1)\nwith z: pass")
    assert set(imports_of(bad)) == {"dcpipe.store", "dcpipe.views", "dvc.api"}
    assert [works(node) for node in bad.body] == [False, False, True, True, True]
    good = ast.parse('"""Doc."""\nif TYPE_CHECKING:\n    import a\nX = 1\ndef f(): ...\nclass C: ...')
    assert not any(works(node) for node in good.body)
    names = {
        "x/y.py": "x/test_y.py",
        "x/__init__.py": "x/test_x.py",
        "y.py": "test_y.py",
        "__init__.py": "test_dcpipe.py",
    }
    assert {name: mirror_of(ROOT / "dcpipe" / name) for name in names} == names
