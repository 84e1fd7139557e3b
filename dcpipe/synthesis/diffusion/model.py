"""A latent diffusion model: from images to latents, and from latents, prompts and seeds to images.

`diffusers` does the work, in float32 or float16. Nothing here is random but the noise that is added to latents, and
that is drawn on the CPU by a generator of its own for each image; DDIM with eta 0 draws nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from dcpipe.store.documents import reading
from dcpipe.synthesis.base import as_images
from dcpipe.synthesis.diffusion.folder import REMEDY, WEIGHTS, Folder, need_packages
from dcpipe.synthesis.diffusion.prototypes import Latents
from dcpipe.types import require

Images = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Denoising:
    """How latents are denoised: DDIM has `steps` steps, of which the last floor(`strength` * `steps`) are taken, from
    latents with the noise of the first of these. `guidance` is the scale w of classifier-free guidance, e = e_negative
    + w (e_prompt - e_negative), where `negative` is the prompt that images should not follow; a scale of at most 1
    turns it off."""

    strength: float
    guidance: float
    steps: int
    negative: str

    @property
    def taken(self) -> int:
        """Steps that are taken. With none, latents are decoded as they are."""
        return int(self.steps * self.strength)


class Diffusion:
    """The model of a folder on a device."""

    def __init__(self, folder: Folder, device: torch.device, half: bool = False) -> None:
        """Loads the weights; nothing is downloaded. Raises `DataError` for files that do not fit each other, and for
        missing packages."""
        need_packages()
        diffusers, transformers = import_module("diffusers"), import_module("transformers")
        self.folder, self.device, self.type = folder, device, torch.float16 if half else torch.float32
        path = str(folder.path)

        def load(part: str, kind: Any, untrained: Callable[[], torch.nn.Module], **more: Any) -> Any:
            with torch.device("meta"):  # which takes no memory, whatever the settings say
                numbers = sum(weight.numel() for weight in untrained().parameters())
            n_bytes = (folder.path / part / WEIGHTS[part]).stat().st_size
            if numbers > n_bytes:
                raise ValueError(f"{part} has {numbers:,} weights by its settings, but a file of {n_bytes:,} bytes")
            module, found = kind.from_pretrained(
                path, subfolder=part, local_files_only=True, use_safetensors=True, output_loading_info=True, **more
            )
            missing = sorted(found["missing_keys"])  # they would be left at random numbers
            if missing:
                raise ValueError(f"{part} lacks the weights {missing[0]!r}, one of {len(missing)}")
            return module.to(device)

        def load_own(part: str, kind: Any) -> Any:
            settings = kind.load_config(path, subfolder=part, local_files_only=True)
            untrained = partial(kind.from_config, settings)
            return load(part, kind, untrained, low_cpu_mem_usage=False, torch_dtype=self.type)

        with reading(folder.path, "a diffusion model", REMEDY), _silent():
            self.vae = load_own("vae", diffusers.AutoencoderKL)
            self.tokenizer = transformers.CLIPTokenizer.from_pretrained(
                path, subfolder="tokenizer", local_files_only=True
            )
            words = transformers.CLIPTextConfig.from_pretrained(path, subfolder="text_encoder", local_files_only=True)
            text = transformers.CLIPTextModel
            self.pipeline = diffusers.StableDiffusionImg2ImgPipeline(
                vae=self.vae,
                text_encoder=load("text_encoder", text, partial(text, words)).to(self.type),
                tokenizer=self.tokenizer,
                unet=load_own("unet", diffusers.UNet2DConditionModel),
                scheduler=diffusers.DDIMScheduler.from_pretrained(path, subfolder="scheduler", local_files_only=True),
                safety_checker=None,  # it would replace images by black ones
                feature_extractor=None,
                requires_safety_checker=False,
            )
        self.pipeline.set_progress_bar_config(disable=True)
        self.scale = float(self.vae.config.scaling_factor)
        # Without a limit in its settings, the tokenizer has one of 10^30.
        positions = self.pipeline.text_encoder.config.max_position_embeddings
        self.tokenizer.model_max_length = min(self.tokenizer.model_max_length, positions)

    def check(self, prompts: Sequence[str], denoising: Denoising) -> None:
        """Raises `DataError` for prompts of more tokens than the text encoder reads, and for too many steps."""
        most = self.tokenizer.model_max_length
        for prompt in (*prompts, denoising.negative):
            n = len(self.tokenizer(prompt, truncation=False, verbose=False).input_ids)
            require(n <= most, f"d4m: prompt {prompt!r} has {n} tokens, but the model reads {most}; shorten it")
        trained = self.pipeline.scheduler.config.num_train_timesteps
        require(
            denoising.steps <= trained,
            f"d4m: steps is {denoising.steps}, but the model has {trained}; choose at most {trained}",
        )

    @torch.no_grad()
    def encode(self, images: Images) -> Latents:
        """Latents f32 [m, 4, l, l] of images u8 [m, s, s, 3] of any size: the means of the VAE, scaled."""
        side = self.folder.side
        pixels = torch.from_numpy(np.ascontiguousarray(images)).to(self.device).permute(0, 3, 1, 2).float() / 255
        pixels = F.interpolate(pixels, (side, side), mode="bilinear", align_corners=False, antialias=True)
        mean = self.vae.encode((2 * pixels - 1).to(self.type)).latent_dist.mean
        return self._finite(mean.float() * self.scale, "latents").cpu().numpy()

    @torch.no_grad()
    def images(
        self, latents: Latents, prompts: Sequence[str], seeds: Sequence[int], denoising: Denoising, size: int
    ) -> Images:
        """Images u8 [m, size, size, 3] from scaled latents f32 [m, 4, l, l], one prompt and one seed each."""
        start = torch.from_numpy(latents).to(self.device, self.type)
        if denoising.taken == 0:
            pixels = self.vae.decode(start / self.scale).sample / 2 + 0.5
        else:
            pixels = self.pipeline(
                prompt=list(prompts),
                negative_prompt=[denoising.negative] * len(prompts),
                image=start,
                strength=denoising.strength,
                num_inference_steps=denoising.steps,
                guidance_scale=denoising.guidance,
                eta=0.0,
                generator=[torch.Generator("cpu").manual_seed(seed) for seed in seeds],
                output_type="pt",
            ).images
        pixels = self._finite(pixels.float(), "images").clamp(0, 1)
        small = F.interpolate(pixels, (size, size), mode="bicubic", align_corners=False, antialias=True)
        return as_images(small)

    def _finite(self, values: torch.Tensor, what: str) -> torch.Tensor:
        remedy = "set half: false" if self.type == torch.float16 else "take weights that are not damaged"
        require(bool(values.isfinite().all()), f"d4m: {what} of {self.folder.path} are NaN or infinite; {remedy}")
        return values


@contextmanager
def _silent() -> Iterator[None]:
    """Without the progress bars of both packages, which they show while they load a few files."""
    from diffusers.utils import logging as first
    from transformers.utils import logging as second

    shown: list[Any] = [package for package in (first, second) if package.is_progress_bar_enabled()]
    for package in shown:
        package.disable_progress_bar()
    try:
        yield
    finally:
        for package in shown:
            package.enable_progress_bar()
