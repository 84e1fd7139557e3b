"""In place of a diffusion model: a latent repeats the mean colour of an image, the denoiser finds a share of the latent
that depends on the text, and an image shows its latent."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import torch
from matching_scenes import KilledError
from tiny_model import LATENT

from dcpipe.synthesis.diffusion.folder import Folder
from dcpipe.synthesis.diffusion.model import Denoising, guided

CPU = torch.device("cpu")
# Options of every method that samples, each with another value than the default.
SAMPLING: list[tuple[str, Any]] = [
    ("sampler", "ddim"),
    ("guidance", 3.0),
    ("steps", 20),
    ("template", "a photo of a {}"),
    ("prompts", {"class 1": "a cat"}),
    ("negative", "a painting"),
    ("half", True),
    ("batch_size", 4),
]
SHARES = torch.cumprod(1 - torch.linspace(0.001, 0.02, 1000, dtype=torch.float64), 0)


class Painter:
    """What it encoded and painted, and at which call it dies."""

    encoded: ClassVar[list[np.ndarray]] = []
    painted: ClassVar[list[tuple[str, int]]] = []
    calls: ClassVar[int] = 0
    kill_at: ClassVar[int] = -1

    def __init__(self, folder: Folder, device: Any, half: bool) -> None:
        self.folder, self.device, self.half = folder, CPU, half
        config = SimpleNamespace(prediction_type="epsilon", num_train_timesteps=1000)
        self.scheduler = SimpleNamespace(alphas_cumprod=SHARES, final_alpha_cumprod=SHARES[0], config=config)

    @classmethod
    def reset(cls, kill_at: int = -1) -> None:
        cls.encoded, cls.painted, cls.calls, cls.kill_at = [], [], 0, kill_at

    @classmethod
    def _count(cls) -> None:
        if cls.calls == cls.kill_at:
            raise KilledError
        cls.calls += 1

    def check(self, texts: Sequence[str], negative: str) -> None:
        self.checked = texts

    def times(self, steps: int, taken: int | None = None) -> list[int]:
        return [1000 // steps * place for place in range(steps)][::-1]

    def encode(self, images: np.ndarray) -> np.ndarray:
        self._count()
        self.encoded.extend(images)
        means = images.reshape(len(images), -1, 3).mean(1) / 255
        four = np.concatenate([means, means[:, :1]], axis=1)[:, :, None, None]
        return np.float32(four * np.ones((1, 4, LATENT, LATENT)) * (0.5 if self.half else 1))

    def images(
        self, latents: np.ndarray, prompts: Sequence[str], seeds: Sequence[int], own: Denoising, size: int
    ) -> np.ndarray:
        """Of D4M: also shows the prompt, the seed and how it is denoised."""
        self._count()
        self.painted.extend(zip(prompts, seeds, strict=True))
        made = np.zeros((len(latents), size, size, 3))
        made += 100 * latents[:, :3, :1, :1].transpose(0, 2, 3, 1)
        text = [hash_of(prompt + own.negative) + seed % 97 for prompt, seed in zip(prompts, seeds, strict=True)]
        made[:, 0, 0, 0] += text
        made[:, 0, 1, 0] += 40 * own.strength + own.guidance + own.steps + 3 * (len(latents) > 1)
        return made.astype(np.uint8)

    def conditions(self, texts: Sequence[str], negative: str) -> torch.Tensor:
        self.painted.extend((text, 0) for text in texts)
        found = [*[hash_of(negative) for _ in texts], *map(hash_of, texts)]
        return torch.tensor(found, dtype=torch.float32)[:, None, None, None] / 89

    def predict(self, latents: torch.Tensor, time: int, conditions: torch.Tensor, guidance: float) -> torch.Tensor:
        both = torch.cat([latents, latents]) * (0.3 + time / 2000) + 0.1 * conditions
        # With half its numbers and with others beside it, the denoiser rounds in another way.
        both = both + 0.05 * self.half + 0.05 * (len(latents) > 1)
        return both.chunk(2)[1] if guidance <= 1 else guided(both, guidance)

    def decode(self, latents: torch.Tensor, size: int) -> np.ndarray:
        self._count()
        assert bool(latents.isfinite().all())
        colours = latents[:, :3, : size // 2, : size // 2].repeat_interleave(2, 2).repeat_interleave(2, 3)
        return (127.5 + 40 * colours).clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).numpy()


def hash_of(text: str) -> int:
    """From 0 to 88."""
    return sum((place + 1) * ord(letter) for place, letter in enumerate(text)) % 89
