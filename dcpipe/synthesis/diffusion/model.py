"""A latent diffusion model: from images to latents, and from latents, prompts and seeds to images.

`diffusers` does the work, in float32 or float16. `LatentModel` is what all models have: the VAE, and a denoiser that
says what noise it finds in a latent. `Diffusion` is Stable Diffusion, whose condition is a text; that of `dit.py` is
the number of a class. Nothing here is random but the noise that is added to latents, and that is drawn on the CPU by a
generator of its own for each image; DDIM with eta 0 draws nothing.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
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
from dcpipe.synthesis.diffusion.folder import Folder, need_packages
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


class LatentModel(ABC):
    """The model of a folder on a device.

    Attributes:
        folder, device: where its files are, and where it computes.
        type: of its weights.
        vae, scheduler: of diffusers; the scheduler is DDIM, of which only the levels of noise are used here.
        scale: the factor of latents.
    """

    def __init__(self, folder: Folder, device: torch.device, half: bool = False) -> None:
        """Loads the weights; nothing is downloaded. Raises `DataError` for files that do not fit each other, and for
        missing packages."""
        need_packages(folder.method)
        self.folder, self.device, self.type = folder, device, torch.float16 if half else torch.float32
        with reading(folder.path, "a diffusion model", folder.layout.remedy), _silent():
            diffusers = import_module("diffusers")
            self.vae = self._load_own("vae", diffusers.AutoencoderKL)
            # Without this, settings of another scheduler would make DDIM limit latents to [-1, 1], as it does pixels.
            self.scheduler = diffusers.DDIMScheduler.from_pretrained(
                str(folder.path), subfolder="scheduler", local_files_only=True, clip_sample=False
            )
            self._load()
        self.scale = float(self.vae.config.scaling_factor)

    @abstractmethod
    def _load(self) -> None:
        """Loads the denoiser and what reads its conditions."""

    @abstractmethod
    def conditions(self, texts: Sequence[str], negative: str) -> Any:
        """What `predict` takes for images of classes with these texts. Raises `DataError` for texts that the model
        cannot take."""

    @abstractmethod
    def predict(self, latents: torch.Tensor, time: int, conditions: Any, guidance: float) -> torch.Tensor:
        """The denoiser's output f32 [m, 4 or 8, l, l] for latents f32 [m, 4, l, l] with the noise of a step of
        training: 4 channels say what the noise is, and 4 more its variance. With a `guidance` above 1, two passes of
        `guided`, else one with the condition alone."""

    @abstractmethod
    def check(self, texts: Sequence[str], negative: str) -> None:
        """Raises `DataError` for texts that the model cannot take. Called with those of all classes, before any
        `conditions`."""

    def times(self, steps: int, taken: int | None = None) -> list[int]:
        """The steps of training at which `steps` steps of sampling, or the last `taken` of them, call the denoiser,
        from the noisiest on. Raises `DataError` for more steps than there are."""
        trained, offset = self.scheduler.config.num_train_timesteps, self.scheduler.config.steps_offset
        times: list[int] = []
        if steps <= trained:
            self.scheduler.set_timesteps(steps)
            times = [int(time) for time in self.scheduler.timesteps if time >= 0][steps - (taken or steps) :]
        # With an offset, as many steps as in training would begin after its last one.
        require(
            bool(times) and times[0] < trained,
            f"{self.folder.method}: steps is {steps}, but the model has {trained}; choose at most {trained - offset}",
        )
        return times

    @torch.no_grad()
    def encode(self, images: Images) -> Latents:
        """Latents f32 [m, 4, l, l] of images u8 [m, s, s, 3] of any size: the means of the VAE, scaled."""
        side = self.folder.side
        pixels = torch.from_numpy(np.ascontiguousarray(images)).to(self.device).permute(0, 3, 1, 2).float() / 255
        pixels = F.interpolate(pixels, (side, side), mode="bilinear", align_corners=False, antialias=True)
        mean = self.vae.encode((2 * pixels - 1).to(self.type)).latent_dist.mean
        return self._finite(mean.float() * self.scale, "latents").cpu().numpy()

    @torch.no_grad()
    def decode(self, latents: torch.Tensor, size: int) -> Images:
        """Images u8 [m, size, size, 3] of scaled latents [m, 4, l, l]."""
        return self._resized(self.vae.decode(latents.to(self.type) / self.scale).sample / 2 + 0.5, size)

    def _resized(self, pixels: torch.Tensor, size: int) -> Images:
        pixels = self._finite(pixels.float(), "images").clamp(0, 1)
        small = F.interpolate(pixels, (size, size), mode="bicubic", align_corners=False, antialias=True)
        return as_images(small)

    def _finite(self, values: torch.Tensor, what: str) -> torch.Tensor:
        remedy = (
            "set half: false" if self.type == torch.float16 else "take weights that are not damaged, or lower guidance"
        )
        where = f"{self.folder.method}: {what} of {self.folder.path}"
        require(bool(values.isfinite().all()), f"{where} are NaN or infinite; {remedy}")
        return values

    def _load_part(self, part: str, kind: Any, untrained: Callable[[], torch.nn.Module], **more: Any) -> Any:
        """The module of a part. `untrained` makes one with the same settings."""
        with torch.device("meta"):  # which takes no memory, whatever the settings say
            numbers = sum(weight.numel() for weight in untrained().parameters())
        n_bytes = (self.folder.path / part / self.folder.layout.weights[part]).stat().st_size
        if numbers > n_bytes:
            raise ValueError(f"{part} has {numbers:,} weights by its settings, but a file of {n_bytes:,} bytes")
        module, found = kind.from_pretrained(
            str(self.folder.path),
            subfolder=part,
            local_files_only=True,
            use_safetensors=True,
            output_loading_info=True,
            **more,
        )
        missing = sorted(found["missing_keys"])  # they would be left at random numbers
        if missing:
            raise ValueError(f"{part} lacks the weights {missing[0]!r}, one of {len(missing)}")
        return module.to(self.device)

    def _load_own(self, part: str, kind: Any) -> Any:
        """The module of a part that is a class of diffusers."""
        settings = kind.load_config(str(self.folder.path), subfolder=part, local_files_only=True)
        untrained = partial(kind.from_config, settings)
        return self._load_part(part, kind, untrained, low_cpu_mem_usage=False, torch_dtype=self.type)


class Diffusion(LatentModel):
    """Stable Diffusion: the condition is a text, and another text says what images should not follow."""

    def _load(self) -> None:
        diffusers, transformers = import_module("diffusers"), import_module("transformers")
        path = str(self.folder.path)
        self.tokenizer = transformers.CLIPTokenizer.from_pretrained(path, subfolder="tokenizer", local_files_only=True)
        words = transformers.CLIPTextConfig.from_pretrained(path, subfolder="text_encoder", local_files_only=True)
        text = transformers.CLIPTextModel
        self.pipeline = diffusers.StableDiffusionImg2ImgPipeline(
            vae=self.vae,
            text_encoder=self._load_part("text_encoder", text, partial(text, words)).to(self.type),
            tokenizer=self.tokenizer,
            unet=self._load_own("unet", diffusers.UNet2DConditionModel),
            scheduler=self.scheduler,
            safety_checker=None,  # it would replace images by black ones
            feature_extractor=None,
            requires_safety_checker=False,
        )
        self.pipeline.set_progress_bar_config(disable=True)
        # Without a limit in its settings, the tokenizer has one of 10^30.
        positions = self.pipeline.text_encoder.config.max_position_embeddings
        self.tokenizer.model_max_length = min(self.tokenizer.model_max_length, positions)

    def check(self, texts: Sequence[str], negative: str) -> None:
        """Raises `DataError` for texts of more tokens than the text encoder reads."""
        most = self.tokenizer.model_max_length
        for text in (*texts, negative):
            n = len(self.tokenizer(text, truncation=False, verbose=False).input_ids)
            require(
                n <= most,
                f"{self.folder.method}: prompt {text!r} has {n} tokens, but the model reads {most}; shorten it",
            )

    @torch.no_grad()
    def conditions(self, texts: Sequence[str], negative: str) -> tuple[torch.Tensor, torch.Tensor]:
        """The words of the negative text and of each text, [m, tokens, width] both."""
        words, rejected = self.pipeline.encode_prompt(
            list(texts), self.device, 1, True, negative_prompt=[negative] * len(texts)
        )
        return rejected, words

    @torch.no_grad()
    def predict(self, latents: torch.Tensor, time: int, conditions: Any, guidance: float) -> torch.Tensor:
        """As `LatentModel.predict` says; 4 channels."""
        rejected, words = conditions
        unet, seen = self.pipeline.unet, latents.to(self.type)
        if guidance <= 1:
            alone: torch.Tensor = unet(seen, time, encoder_hidden_states=words).sample
            return alone.float()
        both = unet(torch.cat([seen, seen]), time, encoder_hidden_states=torch.cat([rejected, words])).sample
        return guided(both.float(), guidance)

    @torch.no_grad()
    def images(
        self, latents: Latents, prompts: Sequence[str], seeds: Sequence[int], denoising: Denoising, size: int
    ) -> Images:
        """Images u8 [m, size, size, 3] from scaled latents f32 [m, 4, l, l], one prompt and one seed each."""
        start = torch.from_numpy(latents).to(self.device, self.type)
        if denoising.taken == 0:
            return self.decode(start, size)
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
        return self._resized(pixels, size)


def guided(both: torch.Tensor, guidance: float) -> torch.Tensor:
    """Classifier-free guidance: e = e_without + w (e_with - e_without) for outputs [2m, c, l, l], first those without
    the condition. Channels after the fourth, the variance, are those with it."""
    without, own = both.chunk(2)
    return torch.cat([without[:, :4] + guidance * (own[:, :4] - without[:, :4]), own[:, 4:]], dim=1)


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
