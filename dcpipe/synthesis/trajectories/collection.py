"""A folder of experts with its index, which says how they were trained and on what, and names each file with its
digest, seed and accuracy.

Without the option `trajectories`, the folder is in the scratch space that runs with the same images share. With it, the
folder is the user's: experts that are there are used, those that are missing are trained into it, and other workspaces
may use the same folder. Its experts must have been trained as this run asks and on the same images; their seed may be
another. A folder with MTT's own buffers (`buffers.py`) is read instead, and nothing is written there.

One run at a time writes into a folder, and holds its `experts.lock` meanwhile, which the system releases when a run is
killed. Runs that find all their experts there need no lock, so the folder may be read-only for them.

`index.json` is written before the first expert and after each. It repeats what the files and the recipe say, but the
accuracies: the share of the real train images that the weights of the last epoch predict right.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
from filelock import FileLock, Timeout
from pydantic import Field

from dcpipe.store.documents import Strict, Text, checked, parse, read_bytes, shown
from dcpipe.store.files import replacing
from dcpipe.store.hashing import sha256_once
from dcpipe.store.manifest import Hex, digest_of
from dcpipe.synthesis.gradients.real import RealImages
from dcpipe.synthesis.trajectories import rows
from dcpipe.synthesis.trajectories.experts import Recipe, accuracy, train
from dcpipe.synthesis.trajectories.unrolling import Student
from dcpipe.types import DataError, require

INDEX, LOCK, SCHEMA = "index.json", "experts.lock", 1
_LIMIT = 64 * 2**20  # bytes of an index
_ANOTHER = "give another folder in trajectories"
# How the options of the method call what a recipe has.
_OPTIONS = {
    "network": "network",
    "epochs": "expert_epochs",
    "lr": "expert_lr",
    "batch": "expert_batch",
    "strategy": "strategy",
    "whitening": "whitening",
    "rho": "expert_rho",
    "alpha": "expert_alpha",
}


class Expert(Strict):
    """One expert: the seed that it was trained with, None if another program trained it; the share of the train images
    that it predicts right in the end; and the digest of its file."""

    seed: int | None
    accuracy: float = Field(ge=0, le=1)
    sha256: Hex


class Index(Strict):
    """The content of the index. `recipe`: how experts were trained, None if that is not known. `images`: SHA-256 of the
    train images, their labels and what they are normalised by. `layout`: names and shapes of a row."""

    schema_number: int = Field(alias="schema", ge=SCHEMA, le=SCHEMA)
    recipe: dict[Text, str | int | float] | None
    seed: int | None
    images: Hex
    layout: dict[Text, list[int]]
    experts: Annotated[list[Expert], Field(max_length=100_000)]


@dataclass(frozen=True)
class Experts:
    """Some experts of a folder, by number from 0."""

    paths: Sequence[Path]
    experts: Sequence[Expert]

    @property
    def digest(self) -> str:
        """SHA-256 over the digests of the files."""
        return digest_of([expert.sha256 for expert in self.experts])

    def read(self, number: int, *epochs: int) -> list[torch.Tensor]:
        """The weights f32 [p] of an expert after some epochs."""
        return rows.read(self.paths[number], *epochs)

    def table(self) -> list[dict[str, Any]]:
        """A row about each expert, for the record of the synthesis."""
        return [
            {
                "expert": number,
                "seed": expert.seed,
                "accuracy": round(100 * expert.accuracy, 2),
                "sha256": expert.sha256,
            }
            for number, expert in enumerate(self.experts)
        ]


def collected(
    recipe: Recipe,
    real: RealImages,
    folder: Path,
    count: int,
    report: Callable[[int, int], None] = lambda number, epoch: None,
) -> Experts:
    """The first `count` experts of a folder; those that are missing are trained. `report(number, epoch)` is called
    after each epoch.

    Raises `DataError` if the experts of the folder were trained otherwise, on other images, or are damaged, and if
    some are missing while another run writes into the folder.
    """
    require(not folder.exists() or folder.is_dir(), f"trajectories is {folder}, which is no folder; {_ANOTHER}")
    folder.mkdir(parents=True, exist_ok=True)
    known = read_index(folder)
    listed = known is not None and len(known.experts) >= count
    if listed and all(recipe.path(folder, number).exists() for number in range(count)):
        return _collected(recipe, real, folder, count, report)
    try:
        with FileLock(folder / LOCK, timeout=0):
            return _collected(recipe, real, folder, count, report)
    except Timeout as error:
        raise DataError(
            f"another run is training experts in {folder}; wait until it ends, or stop it, then run again, or "
            + _ANOTHER
        ) from error


def _collected(
    recipe: Recipe, real: RealImages, folder: Path, count: int, report: Callable[[int, int], None]
) -> Experts:
    """As `collected`, in a folder that no other run writes into."""
    student = Student(recipe.untrained(0).to(real.pixels.device))
    known = read_index(folder)
    images = images_digest(real)
    if known is not None:
        _check(known, recipe, images, student, folder)
        recipe = replace(recipe, seed=recipe.seed if known.seed is None else known.seed)
    else:
        _begin(folder, recipe, images, student)
    experts = [] if known is None else list(known.experts)
    paths = []
    for number in range(count):
        path = train(recipe, number, real, folder, partial(report, number))
        rows.check(path, student.layout, recipe.epochs + 1)
        sha256 = sha256_once(path)
        if number < len(experts):
            require(
                experts[number].sha256 == sha256,
                f"expert {path} is not the one that {INDEX} beside it names; remove {folder}, or {_ANOTHER}",
            )
        else:
            [last] = rows.read(path, recipe.epochs)
            right = accuracy(student, last.to(real.pixels.device), real)
            experts.append(Expert(seed=recipe.own_seed(number), accuracy=right, sha256=sha256))
            write_index(folder, recipe.described(), recipe.seed, images, student.layout, experts)
        paths.append(path)
    return Experts(paths, experts[:count])


def _begin(folder: Path, recipe: Recipe, images: str, student: Student) -> None:
    """Write the index of a folder without one, before its first expert, so that what a killed run leaves belongs to the
    settings and images of the index. Raises `DataError` if there are experts of which nothing is known."""
    require(
        not recipe.path(folder, 0).exists(),
        f"{folder} has experts but no {INDEX}, so it is not known how they were trained; remove it, or {_ANOTHER}",
    )
    for begun in folder.glob("expert-*.open"):
        begun.unlink()  # begun with other settings, or on other images
    write_index(folder, recipe.described(), recipe.seed, images, student.layout, [])


def read_index(folder: Path) -> Index | None:
    """The index of a folder; None if there is none. Raises `DataError` for a damaged one."""
    path, remedy = folder / INDEX, "remove the folder, or give another one in trajectories"
    if not path.exists():
        return None
    return checked(Index, parse(read_bytes(path, _LIMIT, remedy), path, remedy), path, remedy)


def write_index(
    folder: Path,
    recipe: dict[str, Any] | None,
    seed: int | None,
    images: str,
    layout: rows.Layout,
    experts: Sequence[Expert],
) -> None:
    """Write the index of a folder."""
    content = {
        "schema": SCHEMA,
        "recipe": recipe,
        "seed": seed,
        "images": images,
        "layout": {name: list(shape) for name, shape in layout.items()},
        "experts": [expert.model_dump() for expert in experts],
    }
    with replacing(folder / INDEX) as partial:
        partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def images_digest(real: RealImages) -> str:
    """SHA-256 of pixels, labels and the constants of normalisation. The ZCA transform is a function of the pixels and
    its eps, so it is told by eps: its numbers differ in their last digits from machine to machine."""
    whole = hashlib.sha256()
    for part in torch.split(real.pixels, 1024):
        whole.update(part.cpu().numpy().tobytes())
    for array in (real.labels.to(torch.int64), real.mean.float(), real.std.float()):
        whole.update(array.cpu().numpy().tobytes())
    if real.whitening is not None:
        whole.update(f"whitening {real.whitening.eps!r}".encode())
    return whole.hexdigest()


def _check(known: Index, recipe: Recipe, images: str, student: Student, folder: Path) -> None:
    """Raises `DataError` if the experts of a folder are not those that this run asks for."""
    require(known.recipe is not None, f"{folder} has an {INDEX} of experts that another program trained; {_ANOTHER}")
    assert known.recipe is not None
    asked = recipe.described()
    for key in [*asked, *(key for key in known.recipe if key not in asked)]:
        wanted, found = asked.get(key), known.recipe.get(key)
        hint = f"set {_OPTIONS[key]}: {_told(found)}, or " if key in _OPTIONS else ""
        require(
            found == wanted,
            f"the experts in {folder} were trained with {shown(key)[1:-1]} {_told(found)}, not {_told(wanted)}; {hint}"
            + _ANOTHER,
        )
    require(known.images == images, f"the experts in {folder} were trained on other images; {_ANOTHER}")
    layout = {name: list(shape) for name, shape in student.layout.items()}
    require(
        [*known.layout.items()] == [*layout.items()],
        f"the experts in {folder} have other weights than {recipe.network!r}; {_ANOTHER}",
    )


def _told(value: str | int | float | None) -> str:
    """A value of a recipe as it is written in params.yaml; None is the value of a key that a recipe lacks."""
    return "null" if value is None else shown(value)
