"""Sampling from a latent diffusion model, from pure noise, and towards a mode if there is one (MGD3).

Chan-Santiago et al., "MGD3: Mode-Guided Dataset Distillation using Diffusion Models", ICML 2025, arXiv 2505.18963. In
the first steps, the prediction z0 of the clean latent is pulled to a mode m by g = m - z0; the other steps are free.
With a, a' the shares of the signal (alpha bar) before and after a step, b = 1 - a/a', and noise e as predicted:

    z0 = (z - sqrt(1 - a) e) / sqrt(a)
    ddpm:  z' = sqrt(a') b / (1 - a) z0 + sqrt(a/a') (1 - a') / (1 - a) z  +  s (p g + n),   n ~ N(0, 1)
    ddim:  e' = e - sqrt(1 - a) p g
           z' = sqrt(a') (z - sqrt(1 - a) e') / sqrt(a) + sqrt(1 - a') e'

p is the strength of the pull, and s the deviation of the noise of the step, s^2 = b (1 - a') / (1 - a), or what the
model says between this and b, where it has learned it. After the last step no noise is added.

`ddim` is Algorithm 1 of the paper. For `ddpm`, which its tables are of, the paper adds p g s to the noise (Eq. 6); read
as e this would lead away from the mode, since z0 falls as e grows. Public copies of the official code add it to the
mean of the step, as above.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from dcpipe.synthesis.diffusion.folder import CHANNELS
from dcpipe.synthesis.diffusion.model import LatentModel

Sampler = Literal["ddpm", "ddim"]


@dataclass(frozen=True)
class Sampling:
    """How latents are sampled.

    Attributes:
        sampler, steps: the update, and how many of them.
        guidance: the scale of classifier-free guidance; up to 1 it is off.
        negative: the text that images should not follow.
        pull: the strength with which a mode attracts.
        share: of the steps, from the noisiest on, in which it does.
    """

    sampler: Sampler
    steps: int
    guidance: float
    negative: str
    pull: float = 0.0
    share: float = 0.0

    @property
    def pulled(self) -> int:
        """Steps in which a mode attracts."""
        return math.floor(self.steps * self.share + 1e-9)  # 100 * 0.29 is less than 29


@dataclass(frozen=True)
class Step:
    """One step: the shares of the signal before and after it, what the denoiser says (`epsilon`, `v_prediction` or
    `sample`), the sampler, the strength of the pull, and whether noise is added, which is not in the last step."""

    before: float
    after: float
    prediction: str
    sampler: Sampler
    pull: float
    noisy: bool

    def __call__(
        self, latents: torch.Tensor, output: torch.Tensor, mode: torch.Tensor | None, noise: torch.Tensor | None
    ) -> torch.Tensor:
        """The next latents [m, 4, l, l], from the output [m, 4 or 8, l, l] of the denoiser. `mode`: None for a free
        step; `noise`: of `ddpm`, N(0, 1)."""
        said, spread = output[:, :CHANNELS], output[:, CHANNELS:]
        clean, found = self._read(latents, said)
        to_mode = 0.0 if mode is None else self.pull * (mode - clean)
        if self.sampler == "ddim":
            found = found - math.sqrt(1 - self.before) * to_mode
            clean = clean + (1 - self.before) / math.sqrt(self.before) * to_mode
            return math.sqrt(self.after) * clean + math.sqrt(1 - self.after) * found
        left, beta = 1 - self.before, 1 - self.before / self.after
        mean = math.sqrt(self.after) * beta / left * clean
        mean = mean + math.sqrt(self.before / self.after) * (1 - self.after) / left * latents
        deviation = self._deviation(spread)
        added = noise if self.noisy and noise is not None else 0.0
        return mean + deviation * (to_mode + added)

    def _read(self, latents: torch.Tensor, said: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The clean latents and the noise that an output means."""
        signal, rest = math.sqrt(self.before), math.sqrt(1 - self.before)
        if self.prediction == "v_prediction":
            return signal * latents - rest * said, signal * said + rest * latents
        if self.prediction == "sample":
            return said, (latents - signal * said) / rest
        return (latents - rest * said) / signal, said

    def _deviation(self, spread: torch.Tensor) -> torch.Tensor | float:
        """Of the noise of the step. `spread` [m, 4 or 0, l, l] goes from -1, the least, to 1, the most."""
        most = 1 - self.before / self.after
        least = most * (1 - self.after) / (1 - self.before)
        if spread.shape[1] == 0 or least <= 0:
            return math.sqrt(max(least, 0.0))
        part = (spread + 1) / 2
        return torch.exp(0.5 * (part * math.log(most) + (1 - part) * math.log(least)))


def sample(
    model: LatentModel, texts: Sequence[str], seeds: Sequence[int], own: Sampling, modes: torch.Tensor | None = None
) -> torch.Tensor:
    """Latents f32 [m, 4, l, l] of classes with these texts, from the noise of one seed each. `modes` f32 [m, 4, l, l]:
    where the first `own.pulled` steps lead."""
    generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
    shape = (CHANNELS, model.folder.latent_side, model.folder.latent_side)

    def noise() -> torch.Tensor:
        # One generator for each image, so that it does not depend on what is made with it.
        return torch.stack([torch.randn(shape, generator=one) for one in generators]).to(model.device)

    signal = model.scheduler.alphas_cumprod.double()
    times, conditions = model.times(own.steps), model.conditions(texts, own.negative)
    modes = None if modes is None else modes.to(model.device)
    latents = noise()
    for place, time in enumerate(times):
        last = place == len(times) - 1
        after = model.scheduler.final_alpha_cumprod if last else signal[times[place + 1]]
        step = Step(
            float(signal[time]), float(after), model.scheduler.config.prediction_type, own.sampler, own.pull, not last
        )
        output = model.predict(latents, time, conditions, own.guidance)
        mode = modes if place < own.pulled else None
        latents = step(latents, output, mode, noise() if own.sampler == "ddpm" and not last else None)
    return latents
