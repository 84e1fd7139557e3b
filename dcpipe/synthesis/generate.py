"""`generate`: images sampled from a diffusion model, with the class as the only condition. No real image is used.

This is the baseline of D4M and MGD3 (Stable Diffusion or DiT as they are), and the second half of methods that
fine-tune a model first, for which it takes the folder of theirs. Minimax Diffusion (Gu et al., "Efficient Dataset
Distillation via Minimax Diffusion", CVPR 2024, arXiv 2311.15529) is one: its official code samples from a fine-tuned
DiT-XL/2 at 256 pixels by 50 steps of DDPM with guidance 4, which are the defaults here for a folder of DiT. Its
fine-tuning is no part of dcpipe.
"""

from __future__ import annotations

import numpy as np

from dcpipe.config.options import validated
from dcpipe.config.values import Count, ModelFolder, NotNegative
from dcpipe.synthesis.base import Progress, SynthesisContext
from dcpipe.synthesis.diffusion import rows
from dcpipe.synthesis.diffusion.folder import Folder, need_packages
from dcpipe.synthesis.diffusion.model import Images
from dcpipe.synthesis.diffusion.sampling import Sampler, Sampling, sample
from dcpipe.types import ImageSet, IntArray


@validated("synthesis method 'generate'", rows.contains_class)
def generate(
    start: ImageSet,
    context: SynthesisContext,
    seed: int,
    progress: Progress,
    *,
    model: ModelFolder,
    sampler: Sampler = "ddpm",
    guidance: NotNegative | None = None,
    steps: Count = 50,
    template: str = "{}",
    prompts: dict[str, str] | None = None,
    negative: str = "",
    half: bool = False,
    batch_size: Count = 1,
) -> ImageSet:
    """Sampled images in place of the images of `start`, whose pixels are ignored. Labels, ids, classes and order
    remain.

    The options are those of `mgd3`. Raises `DataError` for options out of range, a folder that is no such model,
    missing packages, and prompts that belong to no class, are equal or are not the model's.
    """
    need_packages("generate")
    texts = rows.class_prompts("generate", start.classes, template, prompts or {})
    folder = Folder.of(model, "generate")
    own = Sampling(sampler, steps, rows.usual_guidance(folder, guidance), negative)
    diffusion = rows.load(folder, context.device, half)
    diffusion.check([texts[label] for label in np.unique(start.labels)], negative)
    diffusion.times(steps)
    settings = ("generate", repr(own), folder.digests, half, batch_size, seed, texts)

    def make(some: IntArray, seeds: list[int]) -> Images:
        latents = sample(diffusion, [texts[label] for label in start.labels[some]], seeds, own)
        return diffusion.decode(latents, start.images.shape[1])

    result = rows.made_by_row(start, context, seed, batch_size, settings, progress, make)
    rows.record_model(folder, progress)
    progress.record(
        "prompts", [{"class": name, "prompt": text} for name, text in zip(start.classes, texts, strict=True)]
    )
    return result
