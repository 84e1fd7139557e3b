"""The code that a stage depends on, in a small separate tree."""

from __future__ import annotations

from pathlib import Path

import pytest

from dcpipe.workspace import code


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    files = {
        "flows/__init__.py": "",
        "flows/running/runtime.py": "import dcpipe.hidden",
        "flows/stage.py": "import os\nfrom dcpipe import method, types\nfrom flows.running.runtime import Run",
        "flows/other.py": "X = 1",
        "flows/package/__init__.py": '"""Run it by its name."""',
        "flows/package/__main__.py": "from flows.package import inner",
        "flows/package/inner.py": "X = 1",
        "dcpipe/__init__.py": "import dcpipe.hidden",
        "dcpipe/types/__init__.py": "import dcpipe.hidden",
        "dcpipe/hidden.py": "",
        "dcpipe/method/__init__.py": "from dcpipe.method.engine import run",
        "dcpipe/method/engine.py": "def run():\n    import dcpipe.views as v\n    from numpy import array",
        "dcpipe/views.py": "from dcpipe.method import engine",  # a circle
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    monkeypatch.setattr(code, "ROOT", tmp_path)
    return tmp_path


NEEDED = ["dcpipe/method/__init__.py", "dcpipe/method/engine.py", "dcpipe/views.py", "flows/stage.py"]


def test_what_a_registry_names_counts_as_imported(tree: Path) -> None:
    table = """TABLE = {"a": "dcpipe.late:run", "b": "dcpipe.late", "c": "os.path:join", "d": "a dcpipe.late:b"}"""
    (tree / "flows/other.py").write_text(table, encoding="utf-8")
    (tree / "dcpipe/late.py").write_text("from dcpipe import views", encoding="utf-8")
    found = [path.as_posix() for path in code.closure("flows.other")]
    assert found == ["dcpipe/late.py", *NEEDED[:3], "flows/other.py"]
    before = code.code_digest("flows.other")
    (tree / "dcpipe/late.py").write_text("from dcpipe import views\nX = 1", encoding="utf-8")
    assert code.code_digest("flows.other") != before
    (tree / "flows/other.py").write_text('TABLE = {"none": "dcpipe.late"}', encoding="utf-8")
    assert [path.as_posix() for path in code.closure("flows.other")] == ["flows/other.py"]


def test_the_closure_follows_imports_through_ours_and_stops_at_what_all_share(tree: Path) -> None:
    assert [path.as_posix() for path in code.closure("flows.stage")] == NEEDED
    assert code.closure("flows.nowhere") == []
    assert [path.as_posix() for path in code.closure("flows.other")] == ["flows/other.py"]


def test_of_a_package_it_is_what_python_runs(tree: Path) -> None:
    needed = ["flows/package/__main__.py", "flows/package/inner.py"]
    assert [path.as_posix() for path in code.closure("flows.package")] == needed


def test_code_that_is_not_there_has_no_digest(tree: Path) -> None:
    with pytest.raises(AssertionError, match=r"^flows\.nowhere is not a module of this repository$"):
        code.code_digest("flows.nowhere")


@pytest.mark.parametrize("name", NEEDED)
def test_the_digest_changes_with_any_file_of_the_closure(name: str, tree: Path) -> None:
    before = code.code_digest("flows.stage")
    assert code.code_digest("flows.stage") == before
    text = (tree / name).read_text(encoding="utf-8")
    (tree / name).write_text(f"{text}\n", encoding="utf-8")
    assert code.code_digest("flows.stage") != before


@pytest.mark.parametrize(
    "name", ["dcpipe/hidden.py", "dcpipe/types/__init__.py", "flows/running/runtime.py", "flows/other.py"]
)
def test_the_digest_does_not_see_other_files(name: str, tree: Path) -> None:
    before = code.code_digest("flows.stage")
    (tree / name).write_text("changed = True", encoding="utf-8")
    assert code.code_digest("flows.stage") == before


def test_a_file_that_only_moves_changes_the_digest(tree: Path) -> None:
    before = code.code_digest("flows.stage")
    (tree / "dcpipe/views").mkdir()
    (tree / "dcpipe/views.py").rename(tree / "dcpipe/views/__init__.py")
    assert "dcpipe/views/__init__.py" in [path.as_posix() for path in code.closure("flows.stage")]
    assert code.code_digest("flows.stage") != before
