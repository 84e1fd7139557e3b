"""Experts that MTT's own code trained: files `replay_buffer_N.pt`, also those of TESLA, DATM and FTD.

Each file is a list of experts; an expert is a list of checkpoints, after 0, 1, ... epochs; a checkpoint is a list of
the network's parameters in their order, without names. So they are mapped by order and shapes to the network of this
run, and refused if anything does not fit. Shapes do not tell a bias from the scale of a norm, nor which images or
classes an expert learned: the network with the last weights must predict the real images better than chance.

The experts are written once to files of our own (`rows.py`) in the scratch space, because a buffer can be read only as
a whole, into as much memory as its file has bytes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from dcpipe.store.hashing import sha256_all, sha256_once
from dcpipe.store.manifest import digest_of
from dcpipe.store.torch_files import read_plain
from dcpipe.synthesis.gradients.real import RealImages
from dcpipe.synthesis.trajectories import rows
from dcpipe.synthesis.trajectories.collection import Expert, Experts, images_digest, read_index, write_index
from dcpipe.synthesis.trajectories.experts import Recipe, accuracy
from dcpipe.synthesis.trajectories.unrolling import Student
from dcpipe.types import require

_NAME = re.compile(r"replay_buffer_(\d+)\.pt")
_ABOVE_CHANCE = 0.05
_GIVE = "give the files as MTT's buffer.py writes them"


def found(folder: Path) -> list[Path]:
    """The buffers of a folder in the order of their numbers; empty if there are none."""
    files = (path for path in folder.glob("*.pt") if path.is_file())
    numbered = [(int(match[1]), path) for path in files if (match := _NAME.fullmatch(path.name))]
    return [path for _, path in sorted(numbered)]


def imported(
    recipe: Recipe,
    real: RealImages,
    source: Path,
    scratch: Path,
    count: int,
    report: Callable[[int, int], None] = lambda number, epoch: None,
) -> Experts:
    """The first `count` experts of the buffers in `source`. Raises `DataError` if they do not fit the network, its
    epochs or the images, if there are fewer, and for a file that is damaged or contains anything but tensors."""
    paths, student = found(source), Student(recipe.untrained(0).to(real.pixels.device))
    images = images_digest(real)
    sources = [recipe.network, recipe.classes, recipe.size, recipe.epochs, images]
    folder = scratch / f"imported-{digest_of([*sources, *sha256_all(paths, again=False)])[:16]}"
    known = read_index(folder)
    experts = [] if known is None else list(known.experts)
    if len(experts) < count:
        folder.mkdir(parents=True, exist_ok=True)
        for number, trajectory in enumerate(_trajectories(_Reading(recipe, student, source), paths, count)):
            path = recipe.path(folder, number)
            _write(path, trajectory, student.layout, recipe.epochs + 1)
            if number >= len(experts):
                experts.append(_described(path, recipe, student, real, f"expert {number} in {source}"))
                write_index(folder, None, None, images, student.layout, experts)
            report(number, recipe.epochs)
    require(
        len(experts) >= count,
        f"{source} has {len(experts)} experts, but experts is {count}; set experts: {len(experts)}, or add buffers",
    )
    files = [recipe.path(folder, number) for number in range(count)]
    for path, expert in zip(files, experts, strict=False):
        rows.check(path, student.layout, recipe.epochs + 1)
        require(sha256_once(path) == expert.sha256, f"{path} has changed since it was imported; remove {folder}")
    return Experts(files, experts[:count])


@dataclass(frozen=True)
class _Reading:
    """What checkpoints must fit."""

    recipe: Recipe
    student: Student
    source: Path


def _trajectories(reading: _Reading, paths: list[Path], count: int) -> Iterator[list[torch.Tensor]]:
    """The rows f32 [p] of one expert after another, of as few files as needed."""
    recipe, layout = reading.recipe, reading.student.layout
    size = sum(torch.Size(shape).numel() for shape in layout.values())
    given = 0
    for path in paths:
        if given >= count:
            return
        content = _as_list(read_plain(path, _GIVE), str(path), "experts")
        # Entries may be the same list again and again, which takes few bytes in the file and many when written out.
        held = path.stat().st_size
        require(
            4 * size * (recipe.epochs + 1) * len(content) <= held,
            f"{path} has {held:,} bytes, too few for {len(content)} experts of {recipe.epochs} epochs of "
            f"{recipe.network!r}; set network and expert_epochs to those of the buffer",
        )
        for place, trajectory in enumerate(content):
            if given >= count:
                return
            where = f"{path}: expert {place}"
            checkpoints = _as_list(trajectory, where, "checkpoints")
            require(
                len(checkpoints) == recipe.epochs + 1,
                f"{where} has {len(checkpoints)} checkpoints, so {len(checkpoints) - 1} epochs, but expert_epochs is "
                f"{recipe.epochs}; set expert_epochs: {len(checkpoints) - 1}",
            )
            yield [_row(part, reading, f"{where}, checkpoint {n}") for n, part in enumerate(checkpoints)]
            given += 1


def _row(checkpoint: Any, reading: _Reading, where: str) -> torch.Tensor:
    """The weights f32 [p] of a checkpoint."""
    tensors, recipe = _as_list(checkpoint, where, "tensors"), reading.recipe
    wanted = f"{recipe.network!r} for {recipe.classes} classes at {recipe.size} pixels"
    remedy = "set network to that of the buffer"
    shapes = list(reading.student.layout.items())
    require(
        len(tensors) == len(shapes), f"{where} has {len(tensors)} tensors, but {wanted} has {len(shapes)}; {remedy}"
    )
    for place, (tensor, (name, shape)) in enumerate(zip(tensors, shapes, strict=True)):
        require(
            isinstance(tensor, torch.Tensor) and tensor.dtype == torch.float32 and tensor.layout == torch.strided,
            f"{where}, tensor {place} is no tensor of f32; {_GIVE}",
        )
        require(
            tuple(tensor.shape) == shape,
            f"{where}, tensor {place} has shape {list(tensor.shape)}, but {name} of {wanted} has {list(shape)}; "
            + remedy,
        )
    row = torch.cat([tensor.detach().reshape(-1) for tensor in tensors])
    require(bool(row.isfinite().all()), f"{where} has NaN or infinite weights; leave its file out")
    return row


def _as_list(value: Any, where: str, of: str) -> list[Any]:
    require(isinstance(value, list | tuple), f"{where} is no list of {of}; {_GIVE}")
    return list(value)


def _write(path: Path, trajectory: list[torch.Tensor], layout: rows.Layout, n: int) -> None:
    if path.exists():
        return
    file = rows.Rows(path, layout, n)
    for row in trajectory[file.done :]:
        file.append(row)
    file.finish()


def _described(path: Path, recipe: Recipe, student: Student, real: RealImages, who: str) -> Expert:
    """The entry of an expert in the index. Raises `DataError` if it predicts the images no better than chance."""
    [last] = rows.read(path, recipe.epochs)
    other = "normalised images (leave whitening out for those)"
    if real.whitening is None:
        other = "whitened images (set whitening: 0.1 for those)"
    right, chance = accuracy(student, last.to(real.pixels.device), real), 1 / recipe.classes
    require(
        right > chance + _ABOVE_CHANCE,
        f"{who} predicts {100 * right:.1f} % of the train images right, and chance is {100 * chance:.1f} %: it was "
        f"trained on other or {other}, or with another order of classes; train experts here",
    )
    return Expert(seed=None, accuracy=right, sha256=sha256_all([path], again=False)[0])
