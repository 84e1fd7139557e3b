"""D4M: images decoded from prototypes of classes in the latent space of a text-to-image model.

Idea (Su et al., "D^4M: Dataset Distillation via Disentangled Diffusion Model", CVPR 2024, arXiv 2407.15138). No image
is optimised, and none depends on a classifier. For every class:

1. encode all real images, at the resolution of the model, by its VAE: z = s * mean of E(x), with the VAE's factor s;
2. find as many prototypes of these latents as there are condensed images, by k-means;
3. noise each to the level of the share `strength` of the steps, denoise it with the class as prompt, decode, resize.

The i-th row of a class gets its i-th prototype; prototypes of more images come first. With `prototypes_per_class` k,
row i gets prototype i mod k, with noise of its own.

Steps 1 and 2 depend on neither prompts, strength, guidance nor steps, so runs that differ in these share their result.
A killed run encodes no class that has its prototypes again, and denoises no batch again.

Where we differ from the official code: it draws from the distribution that the VAE gives, without a seed, where we take
its mean. It clusters by `partial_fit` on small groups (`clusters="minibatch"`) and leaves out up to a group of images
of every class. It uses the scheduler of the checkpoint without a seed for the noise; we use DDIM with eta 0. Its safety
checker makes some images black without saying so; ours is off. Its file for CIFAR-100 has prompts in another order
than the labels; ours belong to the names of classes. Weights are in float32 unless `half` is set, as there. Sides and
factors come from the model's configuration, so any model of this layout can be used.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch

from dcpipe.config.options import validated
from dcpipe.config.values import Count, ModelFolder, NotNegative, Share
from dcpipe.random import Draw, philox
from dcpipe.synthesis.base import Progress, SynthesisContext
from dcpipe.synthesis.checkpoints import RecoveryNotes, fingerprint
from dcpipe.synthesis.diffusion.folder import CHANNELS, Folder, need_packages
from dcpipe.synthesis.diffusion.latents import by_class
from dcpipe.synthesis.diffusion.model import Denoising, Diffusion
from dcpipe.synthesis.diffusion.prototypes import Clusters, Place, Prototypes, Recipe
from dcpipe.types import DataError, ImageSet, IntArray, require


def _contains_class(*, template: str, **others: object) -> None:
    require(
        template.count("{}") == 1,
        f"template is {template!r}; write {{}} once, where the class goes, as in 'a photo of a {{}}'",
    )


@validated("synthesis method 'd4m'", _contains_class)
def d4m(
    start: ImageSet,
    context: SynthesisContext,
    seed: int,
    progress: Progress,
    *,
    model: ModelFolder,
    prototypes_per_class: Count | None = None,
    clusters: Clusters = "all",
    expand: Count = 10,
    prototype: Place = "centre",
    strength: Share = 0.7,
    guidance: NotNegative = 8.0,
    steps: Count = 50,
    template: str = "{}",
    prompts: dict[str, str] | None = None,
    negative: str = "cartoon, anime, painting",
    half: bool = False,
    batch_size: Count = 1,
) -> ImageSet:
    """Denoised prototypes in place of the images of `start`, whose pixels are ignored. Labels, ids, classes and order
    remain.

    `model`: the folder of a model in the layout of Stable Diffusion. `prototypes_per_class`: None for one per image.
    `clusters`: of all latents, or as in the official code, with groups of `expand` latents per prototype. `prototype`:
    the centre of a cluster or the latent nearest to it. `strength`, `guidance`, `steps`, `negative`: see `Denoising`.
    `prompts`: texts that replace the names of classes in `template`. `batch_size`: images that are encoded or denoised
    together, which changes pixels only by rounding.

    Raises `DataError` for options out of range, a folder that is no such model, missing packages, prompts that belong
    to no class, are equal or too long, and a class with fewer images than prototypes.
    """
    need_packages()
    texts = class_prompts(start.classes, template, prompts or {})
    needed = _needed(start, context.labels, prototypes_per_class)
    folder, denoising = Folder.of(model), Denoising(strength, guidance, steps, negative)
    diffusion = Diffusion(folder, context.device, half)
    diffusion.check([texts[label] for label in needed], denoising)
    encoder = "".join(digest for name, digest in folder.digests.items() if name.startswith("vae/"))
    encoder = hashlib.sha256(encoder.encode()).hexdigest()
    recipe = Recipe(encoder, folder.side, half, batch_size, clusters, expand, prototype, seed)
    found = _prototypes(context, diffusion, recipe, needed, start, progress)
    settings = (repr(recipe), repr(denoising), folder.digests, needed, texts)
    notes = RecoveryNotes(progress.notes, fingerprint(settings, start, context.labels, []))
    result = _denoised(start, seed, diffusion, denoising, texts, found, batch_size, notes, progress)
    progress.record("model", [{"file": name, "sha256": digest} for name, digest in folder.digests.items()])
    progress.record(
        "prototypes",
        [
            {"class": start.classes[label], "prompt": texts[label], "prototype": place, "images": int(size)}
            for label, one in found.items()
            for place, size in enumerate(one.sizes)
        ],
    )
    return result


def class_prompts(classes: tuple[str, ...], template: str, prompts: Mapping[str, str]) -> list[str]:
    """The prompt of each class: its text in `prompts`, or else its name, in the place of {} in the template.

    Raises `DataError` for a text of a class that is not there, and for two classes with the same prompt.
    """
    for name in prompts:
        require(
            name in classes,
            f"d4m: prompts has {name!r}, which is no class of the images; the classes are {', '.join(classes[:5])}"
            f"{' and so on' if len(classes) > 5 else ''}",
        )
    texts = [template.replace("{}", prompts.get(name, name)) for name in classes]
    first: dict[str, str] = {}
    for name, text in zip(classes, texts, strict=True):
        other = first.setdefault(text, name)
        require(
            other == name,
            f"d4m: classes {other!r} and {name!r} have the same prompt {text!r}; give each its own in prompts",
        )
    return texts


def noise_seeds(seed: int, rows: int) -> IntArray:
    """The seed i64 [rows] of the noise of each row. Torch's generator on the CPU uses 32 bits of a seed, so these are
    consecutive numbers of 32 bits, from a random one on: no two rows share their noise."""
    first = int(philox(seed, 0, Draw.DENOISING, 0)[..., 0] >> np.uint64(32))
    # Numbers of this type start again at 0.
    return (np.full(rows, first, dtype=np.uint32) + np.arange(rows, dtype=np.uint32)).astype(np.int64)


def _needed(start: ImageSet, labels: IntArray, per_class: int | None) -> dict[int, int]:
    """Prototypes by class. Raises `DataError` for a class with fewer real images."""
    rows, supply = (np.bincount(one, minlength=len(start.classes)) for one in (start.labels, labels))
    needed = {int(label): int(min(per_class or rows[label], rows[label])) for label in np.flatnonzero(rows)}
    short = [label for label, count in needed.items() if count > supply[label]]
    for label in sorted(short, key=lambda label: int(supply[label]))[:1]:
        raise DataError(
            f"d4m: class {start.classes[label]!r} has {supply[label]} training images, fewer than its {needed[label]} "
            f"prototypes; set prototypes_per_class: {max(1, supply[label])} or lower selection.ipc"
        )
    return needed


def _prototypes(
    context: SynthesisContext,
    diffusion: Diffusion,
    recipe: Recipe,
    needed: Mapping[int, int],
    start: ImageSet,
    progress: Progress,
) -> dict[int, Prototypes]:
    """Prototypes by class, loaded if a run with the same recipe has made them."""
    found = {label: recipe.load(progress.shared, label, count) for label, count in needed.items()}
    missing = [label for label, one in found.items() if one is None]
    done, total = 0, int(np.isin(context.labels, missing).sum())

    def encode(images: np.ndarray) -> np.ndarray:
        nonlocal done
        latents = diffusion.encode(images)
        done += len(images)
        progress.report(done, total, "images encoded", lambda: start)
        return latents

    size = 4 * CHANNELS * diffusion.folder.latent_side**2
    for label, latents in by_class(context, missing, encode, recipe.batch_size, size):
        made = recipe.make(latents, label, needed[label])
        recipe.save(progress.shared, label, made)
        found[label] = made
    return {label: one for label, one in found.items() if one is not None}


def _denoised(
    start: ImageSet,
    seed: int,
    diffusion: Diffusion,
    denoising: Denoising,
    texts: list[str],
    found: Mapping[int, Prototypes],
    batch_size: int,
    notes: RecoveryNotes,
    progress: Progress,
) -> ImageSet:
    """The images of all rows, batch by batch; batches in the notes are read."""
    images, seeds = np.zeros_like(start.images), noise_seeds(seed, len(start))
    places = _places(start.labels)
    for number, first in enumerate(range(0, len(start), batch_size)):
        rows = np.arange(first, min(first + batch_size, len(start)))
        made = notes.finished(number)
        if made is None:
            of_rows = [found[label] for label in start.labels[rows]]
            latents = [one.latents[place % len(one.sizes)] for one, place in zip(of_rows, places[rows], strict=True)]
            prompts = [texts[label] for label in start.labels[rows]]
            made = diffusion.images(np.stack(latents), prompts, seeds[rows].tolist(), denoising, images.shape[1])
            notes.finish(number, made, torch.empty(0))
        images[rows] = made
        progress.report(int(rows[-1]) + 1, len(start), "images denoised", lambda: replace(start, images=images.copy()))
    return replace(start, images=images)


def _places(labels: IntArray) -> IntArray:
    """The place i64 [n] of each row among the rows of its class."""
    order = np.argsort(labels, kind="stable")
    counts = np.bincount(labels)
    places = np.empty(len(labels), dtype=np.int64)
    places[order] = np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts)
    return places
