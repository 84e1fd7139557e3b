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

from dcpipe.config.options import validated
from dcpipe.config.values import Count, ModelFolder, NotNegative, Share
from dcpipe.synthesis.base import Progress, SynthesisContext
from dcpipe.synthesis.diffusion import rows
from dcpipe.synthesis.diffusion.folder import Folder, need_packages
from dcpipe.synthesis.diffusion.model import Denoising, Diffusion, Images
from dcpipe.synthesis.diffusion.prototypes import Clusters, Place, Recipe
from dcpipe.types import ImageSet, IntArray


@validated("synthesis method 'd4m'", rows.contains_class)
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
    need_packages("d4m")
    texts = rows.class_prompts("d4m", start.classes, template, prompts or {})
    needed = rows.needed("d4m", start, context.labels, prototypes_per_class)
    folder, denoising = Folder.of(model, "d4m"), Denoising(strength, guidance, steps, negative)
    diffusion = Diffusion(folder, context.device, half)
    diffusion.check([texts[label] for label in needed], negative)
    diffusion.times(steps, denoising.taken)
    recipe = Recipe(folder.encoder, folder.side, half, batch_size, clusters, expand, prototype, seed)
    by_row = rows.prototypes(context, diffusion, recipe, needed, start, progress)
    settings = (repr(recipe), repr(denoising), folder.digests, needed, texts)

    def make(some: IntArray, seeds: list[int]) -> Images:
        prompts = [texts[label] for label in start.labels[some]]
        return diffusion.images(by_row.latents(some), prompts, seeds, denoising, start.images.shape[1])

    result = rows.made_by_row(start, context, seed, batch_size, settings, progress, make)
    rows.record_model(folder, progress)
    progress.record("prototypes", by_row.record(start.classes, texts))
    return result
