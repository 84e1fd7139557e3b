"""What the site has beyond the pages of docs/: tables and lessons that the code knows, and files beside docs/.

A line `{{ WORD ARGUMENTS }}` of a page is replaced by what the function of `MARKERS` with this name returns. A link
from a page to a file outside docs/ works in the repository; in the site the file comes along: Markdown as a page,
anything else as it is.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import command_pages
import key_tables
import lessons

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

MARKER = re.compile(r"^\{\{ (?P<word>\w+)(?P<arguments>(?: \S+)*) \}\}\n(?P<table>\n(?:\|.*\n)+)?", re.M)
LINK = re.compile(r"(\]\()((?:\.\./)+[^)#\s]+)")
# A function of the arguments and of the Markdown table that follows the marker, or "".
MARKERS: dict[str, Callable[..., str]] = {
    "commands": command_pages.all_commands,
    "family": key_tables.family,
    "keys": key_tables.keys,
    "options": key_tables.options,
    "pipeline": key_tables.pipeline,
    "protocols": key_tables.protocols,
    "lesson": lessons.lesson,
}
_OUTSIDE = "repository"  # folder of the site for files that are not below docs/


def filled(text: str) -> str:
    """A page with its markers replaced."""

    def replace(found: re.Match[str]) -> str:
        made = MARKERS[found["word"]](*found["arguments"].split(), table=(found["table"] or "").strip())
        return f"{made.rstrip()}\n"

    return MARKER.sub(replace, text)


def outside(text: str, page: str, root: Path) -> dict[str, str]:
    """Links of a page of docs/ that leave docs/: the link as written, and the path that it has from `root`."""
    found = {}
    for _, link in LINK.findall(text):
        path = posixpath.normpath(posixpath.join("docs", posixpath.dirname(page), link))
        if not path.startswith("docs/") and (root / path).is_file():
            found[link] = path
    return found


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the files outside docs/ that pages link to."""
    from mkdocs.structure.files import File

    root = Path(config.docs_dir).parent
    wanted: set[str] = set()
    for page in list(files.documentation_pages()):
        wanted |= set(outside(page.content_string, page.src_uri, root).values())
    for path in sorted(wanted):
        uri = f"{_OUTSIDE}/{path}"
        files.append(File.generated(config, uri, abs_src_path=str(root / path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Fills the markers and turns links to files outside docs/ to their copies in the site."""
    uri = page.file.src_uri
    if uri.startswith(f"{_OUTSIDE}/"):  # its links are from the root of the repository
        up = "../" * (uri.count("/"))
        return re.sub(r"\]\(docs/", f"]({up}", markdown)
    links = outside(markdown, uri, Path(config.docs_dir).parent)
    up = "../" * uri.count("/")
    text = LINK.sub(lambda m: f"{m[1]}{up}{_OUTSIDE}/{links[m[2]]}" if m[2] in links else m[0], markdown)
    return filled(text)
