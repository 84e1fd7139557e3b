"""MGD3: images sampled from a diffusion model towards the modes of classes in its latent space.

Idea (Chan-Santiago et al., "MGD3: Mode-Guided Dataset Distillation using Diffusion Models", ICML 2025, arXiv
2505.18963). The model is taken as it is: neither it nor an image is optimised. For every class:

1. encode all real images by the VAE of the model, and find as many modes of their latents by k-means as there are
   condensed images, exactly as D4M does;
2. for each image, start from pure noise and denoise with the class as condition. In the first share `guided` of the
   steps, what the model predicts as the clean latent is pulled to the mode with the strength `mode_guidance`
   (`diffusion/sampling.py` has the formulas); the other steps are free, which keeps the pull from leaving traces.

D4M starts from a prototype with noise instead, so that its first steps, which decide what is in the image, are never
seen by the model with the prompt. The modes are the files of D4M's prototypes: runs of both share them.

The model is a folder of Stable Diffusion or of DiT, as in the paper (DiT-XL/2 at 256 pixels for its main tables).

Constants. In the text of the paper: mode_guidance (lambda) 0.1; 50 steps; a pull until t_stop = 25 of them, which is
guided 0.5; the centre of k-means as mode, one for each image; the DDPM sampler; guidance 4 for DiT. In the script for
Stable Diffusion that is public with the code: guidance 8, the name of the class as prompt, no negative prompt. Ours:
Lloyd's k-means from one start with our seed, where the script takes scikit-learn's random_state 0; means of the VAE,
where it draws; the last guided step is t_stop itself, where public copies of the code stop one step before.
"""

from __future__ import annotations

import torch

from dcpipe.config.options import validated
from dcpipe.config.values import Count, ModelFolder, NotNegative, Share
from dcpipe.synthesis.base import Progress, SynthesisContext
from dcpipe.synthesis.diffusion import rows
from dcpipe.synthesis.diffusion.folder import Folder, need_packages
from dcpipe.synthesis.diffusion.model import Images
from dcpipe.synthesis.diffusion.prototypes import Clusters, Place, Recipe
from dcpipe.synthesis.diffusion.sampling import Sampler, Sampling, sample
from dcpipe.types import ImageSet, IntArray


@validated("synthesis method 'mgd3'", rows.contains_class)
def mgd3(
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
    mode_guidance: NotNegative = 0.1,
    guided: Share = 0.5,
    sampler: Sampler = "ddpm",
    guidance: NotNegative | None = None,
    steps: Count = 50,
    template: str = "{}",
    prompts: dict[str, str] | None = None,
    negative: str = "",
    half: bool = False,
    batch_size: Count = 1,
) -> ImageSet:
    """Images sampled towards modes in place of the images of `start`, whose pixels are ignored. Labels, ids, classes
    and order remain.

    `model`: the folder of a Stable Diffusion or a DiT. `prototypes_per_class`, `clusters`, `expand`, `prototype`: the
    modes, as of `d4m`. `mode_guidance`: the strength of the pull; `guided`: the share of the steps that have it.
    `guidance`: of classifier-free guidance; None for 8 with a text and 4 with a number. `prompts`: texts that replace
    the names of classes in `template`; for a DiT, one of its labels or a number. `batch_size`: images that are encoded
    or sampled together, which changes pixels only by rounding.

    Raises `DataError` for options out of range, a folder that is no such model, missing packages, prompts that belong
    to no class, are equal or are not the model's, and a class with fewer images than modes.
    """
    need_packages("mgd3")
    texts = rows.class_prompts("mgd3", start.classes, template, prompts or {})
    needed = rows.needed("mgd3", start, context.labels, prototypes_per_class)
    folder = Folder.of(model, "mgd3")
    own = Sampling(sampler, steps, rows.usual_guidance(folder, guidance), negative, mode_guidance, guided)
    diffusion = rows.load(folder, context.device, half)
    diffusion.check([texts[label] for label in needed], negative)
    diffusion.times(steps)
    recipe = Recipe(folder.encoder, folder.side, half, batch_size, clusters, expand, prototype, seed)
    by_row = rows.prototypes(context, diffusion, recipe, needed, start, progress)
    settings = ("mgd3", repr(recipe), repr(own), folder.digests, needed, texts)

    def make(some: IntArray, seeds: list[int]) -> Images:
        of_rows = [texts[label] for label in start.labels[some]]
        latents = sample(diffusion, of_rows, seeds, own, torch.from_numpy(by_row.latents(some)))
        return diffusion.decode(latents, start.images.shape[1])

    result = rows.made_by_row(start, context, seed, batch_size, settings, progress, make)
    rows.record_model(folder, progress)
    progress.record("prototypes", by_row.record(start.classes, texts))
    return result
