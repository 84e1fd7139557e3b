"""`dcpipe check`: params.yaml and studies/params.yaml are read as `dvc repro` would, and nothing is run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import yaml

from dcpipe import studies
from dcpipe.config import budget, check
from dcpipe.config.blocks import read
from dcpipe.config.params import Params, load_blocks
from dcpipe.config.registry import plugin_versions
from dcpipe.types import DataError, NotApplicableError


def report(path: Path) -> list[str]:
    """Lines that say what params.yaml makes. Raises `DataError` with a line for each kind of problem, the first of its
    kind, in params.yaml or in the studies/params.yaml beside it."""
    params = load_blocks(path)
    found = [f"{path}: {problem}" for problem in check.problems(params)]
    planned, n_classes = None, None
    notes: list[str] = []
    if not found:  # the plan is made with the options
        n_classes = _classes(params, path)
        try:
            planned = None if n_classes is None else budget.planned(params, n_classes)
        except DataError as error:
            found.append(f"{path}: {error}")
        mistakes, notes = _studies(params, path)
        found += mistakes
    if found:
        raise DataError("\n".join(found))
    notes += _outdated(path.parent / "data")
    return [*_summary(params, n_classes, planned), *(f"note      {note}" for note in notes), f"{path} is fine."]


def resolved(path: Path) -> str:
    """The parameters as YAML with every default filled in, options included: it says the same as `path`."""
    params = load_blocks(path)
    for problem in check.problems(params):
        raise DataError(f"{path}: {problem}")
    return yaml.safe_dump(
        check.resolved(params), sort_keys=False, default_flow_style=None, width=120, allow_unicode=True
    )


def _studies(params: Params, path: Path) -> tuple[list[str], list[str]]:
    """The first mistake of each study in the studies/params.yaml of the workspace, and the studies that do not apply to
    these parameters: nobody has to run those, so they are no mistake."""
    file = path.parent / studies.FILE
    if not file.is_file():
        return [], []
    found = list(studies.problems(params, read(path, "the workspace's parameters"), file))
    mistakes = dict.fromkeys(str(error) for error in found if not isinstance(error, NotApplicableError))
    notes = dict.fromkeys(str(error) for error in found if isinstance(error, NotApplicableError))
    return list(mistakes), list(notes)  # without repeats: a mistake in one block is met with every other


def _classes(params: Params, path: Path) -> int | None:
    """The number of classes, of the images that are there or as the source counts them."""
    n_classes = budget.recorded_classes(params.images, path.parent / "data" / "images")
    if n_classes is None:
        try:
            n_classes = budget.counted_classes(params.images)
        except DataError:  # the images are elsewhere: the stage that reads them says so
            return None
    return n_classes


def _summary(params: Params, n_classes: int | None, planned: budget.Planned | None) -> Iterator[str]:
    images, labels, student = params.images, params.softlabels, params.evaluation
    classes = f"{n_classes} classes" if n_classes is not None else "classes that are known once the images are read"
    yield f"set       {params.release.name}: {params.selection.ipc} images of {images.size} pixels per class, {classes}"
    yield f"images    {images.source} {_said(images.options)}".rstrip()
    yield f"selection {params.selection.method} {_said(params.selection.options)}".rstrip()
    yield f"synthesis {params.synthesis.method} {_said(params.synthesis.options)}".rstrip()
    if labels.method == "none":
        yield "labels    hard: the classes of the images"
    else:
        yield f"labels    {labels.views} views of each image by {', '.join(labels.teachers)}, mix {labels.mix}"
        yield f"codec     {params.compression.codec} {_said(params.compression.options)}".rstrip()
        yield f"budget    {_weight(planned)}"
    yield (
        f"students  {student.student}, protocol {student.protocol}, {student.epochs} epochs, seeds "
        f"{', '.join(map(str, student.seeds))}"
    )


def _weight(planned: budget.Planned | None) -> str:
    if planned is None:
        return "checked when the images are read"
    reference, n = planned.shape.reference_bytes, planned.shape.images
    return (
        f"{planned.n_bytes:,} bytes are planned, {planned.n_bytes / n:,.1f} per image: "
        f"{reference / planned.n_bytes:.2f} times less than the {reference:,} bytes of fp16"
    )


def _said(options: dict[str, object]) -> str:
    """The options that params.yaml gives, on one line."""
    return json.dumps(options, default=str, ensure_ascii=False).replace('"', "") if options else ""


def _outdated(data: Path) -> Iterator[str]:
    """Stages whose output another version of a plugin made, which DVC does not notice."""
    versions = plugin_versions()
    for manifest in sorted(data.rglob("artifact.json")) if versions else ():
        made = json.loads(manifest.read_text(encoding="utf-8"))["lineage"].get("plugins", {})
        for package, version in made.items():
            if versions.get(package, version) != version:
                yield (
                    f"{manifest.parent} was made with {package} {version}, installed is {versions[package]}; "
                    "run `dvc repro --force` on its stage"
                )
