"""The file that `init` writes: the same parameters as ever, and everything that its preset states."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from dcpipe.config import presets
from dcpipe.config.presets import Preset
from dcpipe.config.presets.writing import write

ROOT = Path(__file__).resolve().parents[3]


def test_the_default_is_the_repositorys_own() -> None:
    assert presets.text("digits") == (ROOT / "params.yaml").read_text(encoding="utf-8")


def digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


@pytest.mark.parametrize("name", presets.names())
def test_the_parameters_are_those_it_has_always_had(name: str) -> None:
    """Digests of the 61 files from the time when each preset was a separate file; an added preset adds its digest."""
    golden = json.loads((ROOT / "tests" / "golden" / "presets.json").read_text(encoding="utf-8"))
    assert golden.keys() <= {*presets.names()}, "a preset is gone"
    found = digest(yaml.safe_load(presets.text(name)))
    assert found == golden.get(name), f"tests/golden/presets.json has another digest of {name} than {found}"


@pytest.mark.parametrize("name", presets.names())
def test_everything_that_is_stated_is_in_the_file(name: str) -> None:
    text, preset = presets.text(name), presets.preset(name)
    assert max(map(len, text.splitlines())) <= 120
    header, _, body = text.partition("\nimages:\n")
    joined = " ".join(line.lstrip("# ") for line in header.splitlines())
    for key, stated in preset.notes.items():
        clauses = [f"{key}: {stated}"] if isinstance(stated, str) else [f"{t}: {c}" for t, c in stated.items()]
        assert all(clause in joined for clause in clauses)
    comments = " ".join(line.strip("# ") for line in body.splitlines() if line.lstrip().startswith("#"))
    assert all(comment in comments for comment in preset.comments.values())
    assert "{" not in header + comments, "a fact is missing"


def test_a_comment_is_above_its_key() -> None:
    lines = presets.text("imagenet-1k-edc-ipc10").splitlines()
    place = lines.index("    # Only observes: the paper leaves the slow network out of the labels.")
    assert lines[place + 1].startswith("    efficientnet-b0: {network: efficientnet_b0, weights:")


def written(params: dict[str, Any], notes: dict[str, Any] | None = None, **comments: str) -> list[str]:
    paths = {path.replace("__", "."): comment for path, comment in comments.items()}
    return write(Preset("a", {}, {}, notes or {}, params, paths)).splitlines()[1:]


def test_a_block_leads_with_what_it_chooses_and_small_mappings_stand_on_a_line() -> None:
    selection = {"seed": 1, "options": {"alpha": 0.1, "name": "off"}, "ipc": 3, "method": "score"}
    assert written({"selection": selection, "images": {"size": 8, "source": "digits"}}) == [
        "images:",
        "  source: digits",
        "  size: 8",
        "selection:",
        "  method: score",
        "  ipc: 3",
        "  seed: 1",
        "  options: {alpha: 0.1, name: 'off'}",
    ]


def test_a_comment_inside_a_mapping_gives_it_lines() -> None:
    synthesis = {"options": {"base": "idc", "period": 5}}
    assert written({"synthesis": synthesis}, synthesis__options__period="Why five.") == [
        "synthesis:",
        "  options:",
        "    base: idc",
        "    # Why five.",
        "    period: 5",
    ]


def test_long_lines_are_wrapped_and_read_the_same() -> None:
    images = {"options": {f"option-{n}": "a value" for n in range(12)}, "source": "x" * 130}
    lines = written({"images": images}, images__options="words " * 40)
    assert yaml.safe_load("\n".join(lines)) == {"images": images}
    assert [len(line) > 120 for line in lines].count(True) == 1, "only the word that cannot be broken is too long"
    assert sum(line.startswith("  # words") for line in lines) == 3


def test_notes_are_texts_or_clauses() -> None:
    notes = {"source": "a " * 80, "cost": {"time": "b " * 80, "disk": "little"}}
    lines = written({}, notes)
    assert [line[: line.index(":") + 1] if ":" in line else line[:8] for line in lines] == [
        "# source:",
        "#   a a ",
        "# cost:",
        "#   time:",
        "#     b ",
        "#   disk:",
    ]
