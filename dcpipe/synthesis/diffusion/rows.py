"""What all methods with a diffusion model do: load it, find the text of each class and the prototypes of its real
images, and make the images row by row, so that a killed run makes none again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch

from dcpipe.random import Draw, philox
from dcpipe.synthesis.base import Progress, SynthesisContext
from dcpipe.synthesis.checkpoints import RecoveryNotes, fingerprint
from dcpipe.synthesis.diffusion.dit import ByClass
from dcpipe.synthesis.diffusion.folder import CHANNELS, TEXT, Folder
from dcpipe.synthesis.diffusion.latents import by_class
from dcpipe.synthesis.diffusion.model import Diffusion, Images, LatentModel
from dcpipe.synthesis.diffusion.prototypes import Latents, Prototypes, Recipe
from dcpipe.types import DataError, ImageSet, IntArray, require

Make = Callable[[IntArray, list[int]], Images]


def load(folder: Folder, device: torch.device, half: bool) -> LatentModel:
    """The model of a folder, of either layout."""
    return (Diffusion if folder.layout is TEXT else ByClass)(folder, device, half)


def usual_guidance(folder: Folder, given: float | None) -> float:
    """The scale of classifier-free guidance, if none is given: what papers take for the layout."""
    if given is not None:
        return given
    return 8.0 if folder.layout is TEXT else 4.0


def contains_class(*, template: str, **others: object) -> None:
    """The rule for templates of prompts. Raises `DataError` for one that has not one place for the class."""
    require(
        template.count("{}") == 1,
        f"template is {template!r}; write {{}} once, where the class goes, as in 'a photo of a {{}}'",
    )


def class_prompts(method: str, classes: tuple[str, ...], template: str, prompts: Mapping[str, str]) -> list[str]:
    """The prompt of each class: its text in `prompts`, or else its name, in the place of {} in the template.

    Raises `DataError` for a text of a class that is not there, and for two classes with the same prompt.
    """
    for name in prompts:
        require(
            name in classes,
            f"{method}: prompts has {name!r}, which is no class of the images; the classes are "
            f"{', '.join(classes[:5])}{' and so on' if len(classes) > 5 else ''}",
        )
    texts = [template.replace("{}", prompts.get(name, name)) for name in classes]
    first: dict[str, str] = {}
    for name, text in zip(classes, texts, strict=True):
        other = first.setdefault(text, name)
        require(
            other == name,
            f"{method}: classes {other!r} and {name!r} have the same prompt {text!r}; give each its own in prompts",
        )
    return texts


def needed(method: str, start: ImageSet, labels: IntArray, per_class: int | None) -> dict[int, int]:
    """Prototypes by class. Raises `DataError` for a class with fewer real images."""
    rows, supply = (np.bincount(one, minlength=len(start.classes)) for one in (start.labels, labels))
    found = {int(label): int(min(per_class or rows[label], rows[label])) for label in np.flatnonzero(rows)}
    short = [label for label, count in found.items() if count > supply[label]]
    for label in sorted(short, key=lambda label: int(supply[label]))[:1]:
        raise DataError(
            f"{method}: class {start.classes[label]!r} has {supply[label]} training images, fewer than its "
            f"{found[label]} prototypes; set prototypes_per_class: {max(1, supply[label])} or lower selection.ipc"
        )
    return found


@dataclass(frozen=True)
class ByRow:
    """The prototypes of each class, given to the rows of a set: the i-th row of a class gets its i-th prototype, and
    those after the last begin again with the first."""

    labels: IntArray
    found: Mapping[int, Prototypes]

    def latents(self, rows: IntArray) -> Latents:
        """Those of some rows, f32 [m, 4, l, l]."""
        of_rows = [self.found[label] for label in self.labels[rows]]
        places = self._places[rows]
        return np.stack([one.latents[place % len(one.sizes)] for one, place in zip(of_rows, places, strict=True)])

    def record(self, classes: tuple[str, ...], texts: list[str]) -> list[dict[str, object]]:
        """A row for each prototype: its class, its text, its place and how many images are closest to it."""
        return [
            {"class": classes[label], "prompt": texts[label], "prototype": place, "images": int(size)}
            for label, one in self.found.items()
            for place, size in enumerate(one.sizes)
        ]

    @cached_property
    def _places(self) -> IntArray:
        """The place i64 [n] of each row among the rows of its class."""
        order = np.argsort(self.labels, kind="stable")
        counts = np.bincount(self.labels)
        places = np.empty(len(self.labels), dtype=np.int64)
        places[order] = np.arange(len(self.labels)) - np.repeat(np.cumsum(counts) - counts, counts)
        return places


def prototypes(
    context: SynthesisContext,
    model: LatentModel,
    recipe: Recipe,
    wanted: Mapping[int, int],
    start: ImageSet,
    progress: Progress,
) -> ByRow:
    """As many prototypes of each class as wanted, loaded if a run with the same recipe has made them."""
    found = {label: recipe.load(progress.shared, label, count) for label, count in wanted.items()}
    missing = [label for label, one in found.items() if one is None]
    done, total = 0, int(np.isin(context.labels, missing).sum())

    def encode(images: npt.NDArray[np.uint8]) -> Latents:
        nonlocal done
        latents = model.encode(images)
        done += len(images)
        progress.report(done, total, "images encoded", lambda: start)
        return latents

    size = 4 * CHANNELS * model.folder.latent_side**2
    for label, latents in by_class(context, missing, encode, recipe.batch_size, size):
        made = recipe.make(latents, label, wanted[label])
        recipe.save(progress.shared, label, made)
        found[label] = made
    return ByRow(start.labels, {label: one for label, one in found.items() if one is not None})


def made_by_row(
    start: ImageSet,
    context: SynthesisContext,
    seed: int,
    batch_size: int,
    settings: Sequence[object],
    progress: Progress,
    make: Make,
) -> ImageSet:
    """`start` with the images that `make` makes of some rows i64 [m] and the seeds of their noise, batch by batch;
    batches that an earlier run with the same settings has made are read."""
    notes = RecoveryNotes(progress.notes, fingerprint(settings, start, context.labels, []))
    images, seeds = np.zeros_like(start.images), noise_seeds(seed, len(start))
    for number, first in enumerate(range(0, len(start), batch_size)):
        rows = np.arange(first, min(first + batch_size, len(start)))
        made = notes.finished(number)
        if made is None:
            made = make(rows, seeds[rows].tolist())
            notes.finish(number, made, torch.empty(0))
        images[rows] = made
        progress.report(int(rows[-1]) + 1, len(start), "images denoised", lambda: replace(start, images=images.copy()))
    return replace(start, images=images)


def record_model(folder: Folder, progress: Progress) -> None:
    """The digests of the files of the model, next to the images."""
    progress.record("model", [{"file": name, "sha256": digest} for name, digest in folder.digests.items()])


def noise_seeds(seed: int, rows: int) -> IntArray:
    """The seed i64 [rows] of the noise of each row. Torch's generator on the CPU uses 32 bits of a seed, so these are
    consecutive numbers of 32 bits, from a random one on: no two rows share their noise."""
    first = int(philox(seed, 0, Draw.DENOISING, 0)[..., 0] >> np.uint64(32))
    # Numbers of this type start again at 0.
    return (np.full(rows, first, dtype=np.uint32) + np.arange(rows, dtype=np.uint32)).astype(np.int64)
