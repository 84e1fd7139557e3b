"""The pages that people read, taken apart: fenced blocks, commands, inline code, links and headings."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from command_lines import simple_commands

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")),
    ROOT / "dcpipe/workspace/skeleton/README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.M | re.S)
INLINE = re.compile(r"(?<!`)`([^`\n]+(?:\n[^`\n]+)?)`(?!`)")
PROGRAMS = ("dcpipe", "dvc", "git", "prefect", "python", "pip", "./dev", "torchrun")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{name_of(self.page)}:{self.line}"


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path) -> Iterator[Block]:
    """The fenced blocks of a page."""
    text = page.read_text(encoding="utf-8")
    for found in FENCE.finditer(text):
        yield Block(page, text[: found.start()].count("\n") + 1, found[2], found[3])


BLOCKS = [block for page in PAGES for block in blocks(page)]


def commands_in(block: Block) -> list[str]:
    """The commands of a block of a shell: all lines, or in a console those after `$ `. Comments are left out, and a
    line that ends in a backslash goes on."""
    lines = block.text.replace("\\\n", " ").splitlines()
    if block.language == "console":
        lines = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
    found = []
    for line in lines:
        if line.strip() and not line.startswith("#"):
            bare = shlex.join(shlex.split(line, comments=True)) if "#" in line and "$(" not in line else line
            found += simple_commands(bare.replace("'&&'", "&&"))
    return found


def inline_commands(page: Path) -> list[str]:
    """Commands that the text of a page names in backquotes: a program and at least one word."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    found = [" ".join(code.split()) for code in INLINE.findall(text)]
    return [code for code in found if re.match(r"(?:[A-Z_]+=\S+ )*(\S+) \S", code) and program_of(code) in PROGRAMS]


def program_of(command: str) -> str:
    words = [word for word in command.split() if not re.match(r"[A-Z_]+=", word)]
    return words[0] if words else ""


def headings(page: Path) -> set[str]:
    """The anchors of the headings of a page, as they are named in the repository's browser and in the site."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    titles = [re.sub(r"[`*]|\]\([^)]*\)|\[", "", title) for title in re.findall(r"^#+ (.*)$", text, re.M)]
    return {re.sub(r"\s", "-", re.sub(r"[^\w\s-]", "", title.strip().lower())) for title in titles}


def links(page: Path) -> list[tuple[str, str]]:
    """Target and anchor of each link or picture of a page that is not a URL."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    found = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'src="([^"]+)"', text)
    return [tuple(link.partition("#")[::2]) for link in found if "://" not in link]  # type: ignore[misc]
