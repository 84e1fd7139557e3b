"""Pages have what the code has: sections of methods, pages of stages, all exports; and links lead somewhere."""

from __future__ import annotations

import re
from inspect import isfunction
from pathlib import Path

import key_tables
import pytest
from pages import PAGES, ROOT, headings, links, name_of

import dcpipe
from dcpipe.config.params import Params
from dcpipe.evaluation import ranking
from dcpipe.networks import BUILDERS
from dcpipe.studies import STUDIES

DOCS = ROOT / "docs"
METHOD_PAGES = {
    "selector": ("methods/selectors.md", "methods/score.md"),
    "codec": ("methods/codecs.md",),
    "synthesis": tuple(
        f"methods/{page}.md"
        for page in ("index", "statistical_matching", "gradient_matching", "trajectory_matching", "diffusion")
    ),
    "source": ("stages/images.md",),
}


def text_of(page: str) -> str:
    return (DOCS / page).read_text(encoding="utf-8")


@pytest.mark.parametrize("kind", METHOD_PAGES)
def test_every_method_of_a_registry_has_its_section_and_its_options(kind: str) -> None:
    text = "\n".join(map(text_of, METHOD_PAGES[kind]))
    titles = {title.strip() for line in re.findall(r"^## (.*)$", text, re.M) for title in line.split(",")}
    shown = {word for line in re.findall(r"^\{\{ (?:options|family) (.*) \}\}$", text, re.M) for word in line.split()}
    together = {"margin", "entropy", "el2n"}  # they share the section and the options of least_confidence
    for name in key_tables.REGISTRIES[kind].builtin:
        assert kind == "source" or name in titles, f"no section `## {name}` in {METHOD_PAGES[kind]}"
        assert name in shown | together | {"none"}, f"no options of {name} in {METHOD_PAGES[kind]}"


def test_no_section_is_of_a_method_that_is_gone() -> None:
    for kind in ("selector", "codec"):
        lessons = re.findall(r"^\{\{ options \w+ (\w+) \}\}$", text_of(METHOD_PAGES[kind][0]), re.M)
        assert lessons and {*lessons} <= {*key_tables.REGISTRIES[kind]}


def test_every_selector_and_codec_says_when_to_take_it() -> None:
    for page in ("methods/selectors.md", "methods/codecs.md"):
        for section in text_of(page).split("\n## ")[1:]:
            assert "**When:**" in section or "page of its own" in section, section.splitlines()[0]


@pytest.mark.parametrize("stage", Params.model_fields)
def test_every_stage_has_a_page_with_all_of_its_keys(stage: str) -> None:
    page = text_of(f"stages/{stage}.md")
    assert f"{{{{ keys {stage}" in page and "**In:**" in page and "**Out:**" in page and "## What it costs" in page


def test_every_block_of_params_yaml_is_shown() -> None:
    shown = {
        path for page in (DOCS / "stages").glob("*.md") for path in re.findall(r"\{\{ keys (\S+) ", page.read_text())
    }
    nested = {"teacher.networks", "teacher.training", "features.label_rate", "features.label_rate.shortlist"}
    assert shown == {*Params.model_fields} - {"teacher"} | nested | {"softlabels.augmentation"}


def test_studies_networks_and_exports_are_named() -> None:
    assert all(f"`dcpipe study {name}`" in text_of("studies.md") for name in STUDIES)
    teacher = text_of("stages/teacher.md")
    for form in ("convnet-dN-wN", "resnet10-ap", "wrn-D-K", "efficientnet_lite0", "timm/NAME"):
        assert form in BUILDERS and form in teacher
    documented = re.findall(r"^::: (dcpipe\.\S+)\.(\w+)$", text_of("api.md"), re.M)
    assert {name for module, name in documented if module != ranking.__name__} == {*dcpipe.__all__}
    scores = {
        name for name, found in vars(ranking).items() if isfunction(found) and found.__module__ == ranking.__name__
    }
    public = {name for name in scores if not name.startswith("_")}
    assert {name for module, name in documented if module == ranking.__name__} == public


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    for target, anchor in links(page):
        path = (page.parent / target).resolve() if target else page
        if "generated" in target:
            continue
        assert path.exists(), f"{name_of(page)}: {target} is not there"
        if anchor and path.suffix == ".md":
            assert anchor in headings(path), f"{name_of(page)}: {target} has no heading #{anchor}"


def test_the_readme_is_short_and_shows_the_table_of_the_demo() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(readme) < 8000
    table = readme[readme.index("                              top-1 on test") :].split("```")[0]
    assert table in text_of("quick_start.md")
