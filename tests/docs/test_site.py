"""The site builds without a warning and asks nothing of other servers."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import hooks
import key_tables
import lessons
import pictures
import pytest
from pages import ROOT


def test_the_site_builds_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    """A broken link, a page that no menu has or a wrong table ends the build. One test, so that one process builds."""
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", tmp_path],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1", "https_proxy": "http://127.0.0.1:9", "no_proxy": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    pages = {
        page.relative_to(tmp_path).as_posix(): page.read_text(encoding="utf-8") for page in tmp_path.rglob("*.html")
    }
    check_that_pages_are_complete(pages)
    assert (tmp_path / "repository/benchmarks/decoding.py").is_file()
    for name, text in pages.items():
        loaded = re.findall(r"<(?:script|img|iframe)[^>]*src=\"(https?:[^\"]*)", text)
        loaded += re.findall(r"<link[^>]*rel=\"(?:stylesheet|preconnect)\"[^>]*href=\"(https?:[^\"]*)", text)
        assert not loaded, f"{name} loads {loaded}"
    assert not any("url(http" in sheet.read_text(encoding="utf-8") for sheet in tmp_path.rglob("*.css"))


def check_that_pages_are_complete(pages: dict[str, str]) -> None:
    assert not [name for name, text in pages.items() if "<p>{{ " in text], "a marker was not replaced"
    assert "Farthest-first traversal" in pages["methods/selectors.html"]
    assert ">facility_location<" in pages["methods/selectors.html"]
    assert "<code>max_leakage</code>" in pages["stages/images.html"]
    assert "dcpipe publish" in pages["commands.html"] and "set_epoch" in pages["api.html"]
    assert "Do not use pickle" in pages["repository/CONTRIBUTING.html"], "a page from outside docs/"


def test_a_table_that_differs_from_the_code_is_an_error() -> None:
    right = "| key | meaning |\n|---|---|\n| `name` | a |\n| `teacher` | b |\n| `licence` | c |"
    made = key_tables.keys("release", table=right)
    assert "| `teacher` | `false` | `true`, `false` | b |" in made and "| `name` | (needed) | text | a |" in made
    with pytest.raises(ValueError, match="licence, license"):
        key_tables.keys("release", table=right.replace("licence", "license"))
    with pytest.raises(ValueError, match="teacher"):
        hooks.filled("{{ keys release }}\n\n" + right.replace("| `teacher` | b |\n", ""))


def test_values_are_those_that_are_allowed() -> None:
    fields = key_tables.keys_of("evaluation")
    values = {key: key_tables.values_of(field.annotation, field.metadata) for key, field in fields.items()}
    assert values["ema"] == "number ≥ 0 and < 1" and values["optimizer"] == "`adamw`, `sgd`"
    assert values["seeds"] == "list of whole number, 3 or more" and values["nesterov"] == "`true`, `false`"
    assert key_tables.keys_of("images").keys() >= {"copy", "max_leakage"}, "names as in params.yaml"
    family = key_tables.family(
        "codec",
        "prune",
        "svd",
        table="| option | meaning |\n|-|-|\n"
        + "".join(f"| `{name}` | m |\n" for name in ("granularity", "batch_size", "seed")),
    )
    assert "| `seed` | `0` | - | whole number | m |" in family


def test_docstrings_keep_their_formulas_and_lose_no_sign() -> None:
    text = lessons.as_markdown("Of <g_i, b> and `a_b`:\n\n    x * y < z\n\nThen:\n* one\n* two")
    assert "&lt;g\\_i, b&gt; and `a_b`" in text and "    x * y < z" in text
    assert "Then:\n\n* one\n* two" in text


def test_the_picture_of_the_pipeline_is_the_drawn_one() -> None:
    assert (pictures.FOLDER / "pipeline.svg").read_text(encoding="utf-8") == pictures.pipeline()
    assert [name for name, _ in pictures.PIPELINE] == [*key_tables.Params.model_fields]
