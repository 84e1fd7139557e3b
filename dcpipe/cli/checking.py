"""`dcpipe check`: check params.yaml and studies/params.yaml in the same way as `dvc repro`, without running
anything."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from dcpipe import studies
from dcpipe.config import budget, check
from dcpipe.config.blocks import read
from dcpipe.config.params import Params, load_blocks
from dcpipe.config.registry import plugin_versions
from dcpipe.store.documents import parse, read_bytes
from dcpipe.store.manifest import MAX_BYTES
from dcpipe.types import DataError, NotApplicableError


@dataclass(frozen=True)
class Checked:
    """What was found in a parameter file and in the studies/params.yaml next to it.

    `mistakes`: a sentence for each kind of mistake. `notes`: what is no mistake, but worth knowing. `n_classes` and
    `planned` are None where the images are not there, or where the parameters are wrong.
    """

    path: Path
    params: Params
    mistakes: list[str]
    notes: list[str]
    n_classes: int | None
    planned: budget.Planned | None

    def lines(self) -> list[str]:
        """A description of what will be built, if there is no mistake."""
        summary = _summary(self.params, self.n_classes, self.planned)
        return [*summary, *(f"note      {note}" for note in self.notes), f"{self.path} is fine."]

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        planned = self.planned
        return {
            "file": str(self.path),
            "mistakes": self.mistakes,
            "notes": self.notes,
            "name": self.params.release.name,
            "ipc": self.params.selection.ipc,
            "classes": self.n_classes,
            "label_bytes": None if planned is None else planned.n_bytes,
            "fp16_label_bytes": None if planned is None else planned.shape.reference_bytes,
        }


def check_all(path: Path) -> Checked:
    """Check a parameter file. Raises `DataError` for one that cannot be read as parameters."""
    params = load_blocks(path)
    mistakes = [f"{path}: {problem}" for problem in check.problems(params)]
    planned, n_classes, counts = None, None, None
    notes: list[str] = []
    if not mistakes:  # the plan needs valid options
        n_classes, counts = _classes(params, path)
        try:
            planned = None if n_classes is None else budget.planned(params, n_classes, counts)
        except DataError as error:
            mistakes.append(f"{path}: {error}")
        wrong, notes = _studies(params, path)
        mistakes += [*wrong, *(f"{path}: {problem}" for problem in _absent_models(params, path.parent))]
    notes += _outdated(path.parent / "data")
    return Checked(path, params, mistakes, notes, n_classes, planned)


def resolved(path: Path) -> str:
    """The parameters as YAML with every default filled in, including those of options; equivalent to the file
    `path`."""
    params = load_blocks(path)
    for problem in check.problems(params):
        raise DataError(f"{path}: {problem}")
    return yaml.safe_dump(
        check.resolved(params), sort_keys=False, default_flow_style=None, width=120, allow_unicode=True
    )


def _studies(params: Params, path: Path) -> tuple[list[str], list[str]]:
    """The first mistake of each study in the studies/params.yaml of the workspace, and notes about the studies that do
    not apply to these parameters. The latter are not mistakes, because nobody has to run these studies."""
    file = path.parent / studies.FILE
    if not file.is_file():
        return [], []
    problems = list(studies.problems(params, read(path, "the workspace's parameters"), file))
    mistakes = dict.fromkeys(str(error) for error in problems if not isinstance(error, NotApplicableError))
    notes = dict.fromkeys(str(error) for error in problems if isinstance(error, NotApplicableError))
    return list(mistakes), list(notes)  # without repetitions: a mistake in one block is reported for every study


def _absent_models(params: Params, workspace: Path) -> Iterator[DataError]:
    """What is wrong with the folder of a diffusion model or the packages for it. Only the stage that uses it refuses
    it: other machines that read the parameters may not have it."""
    from dcpipe.synthesis.diffusion.folder import Folder, need_packages  # torch, which `--help` does not need

    options, values = check.SYNTHESIS.resolved(params)
    for key, where in options.with_role(values, "model"):
        try:
            with check.at(f"synthesis.options.{key}"):
                need_packages(params.synthesis.method)
                Folder.of(str(workspace / where), params.synthesis.method)
        except DataError as error:
            yield error


def _classes(params: Params, path: Path) -> tuple[int | None, list[int] | None]:
    """The number of classes and the train images of each, from the images if they are there; else the number alone, as
    the source counts it."""
    recorded = budget.recorded(params.images, path.parent / "data" / "images")
    if recorded is not None:
        return recorded
    try:
        return budget.counted_classes(params.images), None
    except DataError:  # the images are missing, which the stage `images` reports
        return None, None


def _summary(params: Params, n_classes: int | None, planned: budget.Planned | None) -> Iterator[str]:
    images, labels, student = params.images, params.softlabels, params.evaluation
    classes = f"{n_classes} classes" if n_classes is not None else "classes are counted when the images are read"
    most = "up to " if params.selection.takes_all else ""
    per_class = f"{most}{params.selection.ipc} images of {images.size} pixels per class"
    yield f"set       {params.release.name}: {per_class}, {classes}"
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
        return "it is checked when the images are read"
    reference, n = planned.shape.reference_bytes, planned.shape.images
    return (
        f"{planned.n_bytes:,} bytes are planned, {planned.n_bytes / n:,.1f} per image: "
        f"{reference / planned.n_bytes:.2f} times less than the {reference:,} bytes in fp16"
    )


def _said(options: dict[str, object]) -> str:
    """The options in params.yaml, on one line."""
    return json.dumps(options, default=str, ensure_ascii=False).replace('"', "") if options else ""


def _outdated(data: Path) -> Iterator[str]:
    """Notes about stages whose output was made by another version of a plugin, which DVC does not notice."""
    versions = plugin_versions()
    for manifest in sorted(data.rglob("artifact.json")) if versions else ():
        remedy = f"remove {manifest.parent} and run `dvc repro`"
        content = parse(read_bytes(manifest, MAX_BYTES, remedy), manifest, remedy)
        lineage = content.get("lineage") if isinstance(content, dict) else None
        made = lineage.get("plugins") if isinstance(lineage, dict) else None
        for package, version in made.items() if isinstance(made, dict) else ():
            if versions.get(package, version) != version:
                yield (
                    f"{manifest.parent} was made with {package} {version}, installed is {versions[package]}; "
                    "run `dvc repro --force` on its stage"
                )
