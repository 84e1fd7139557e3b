"""The folder of a latent diffusion model, in the layout of Stable Diffusion: what is in it, checked without loading
weights or importing the packages that do.

`model_index.json` names the class of each part; `unet`, `vae`, `text_encoder`, `tokenizer` and `scheduler` are folders.
Only weights in safetensors are read, and only by classes that are named here, so no file can have code run.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from dcpipe.store.documents import Model, Open, checked, parse, read_bytes, shown
from dcpipe.types import require
from dcpipe.types.paths import local_path

INDEX = "model_index.json"
CLASSES = {
    "unet": ("UNet2DConditionModel",),
    "vae": ("AutoencoderKL",),
    "text_encoder": ("CLIPTextModel",),
    "tokenizer": ("CLIPTokenizer", "CLIPTokenizerFast"),
}
WEIGHTS = {
    "unet": "diffusion_pytorch_model.safetensors",
    "vae": "diffusion_pytorch_model.safetensors",
    "text_encoder": "model.safetensors",
}
# Everything else that the parts are made of; of the tokenizer's files there are several forms.
SETTINGS = (
    *(f"{part}/config.json" for part in WEIGHTS),
    "scheduler/scheduler_config.json",
    *(f"tokenizer/{name}.json" for name in ("tokenizer", "tokenizer_config", "vocab", "special_tokens_map")),
    "tokenizer/merges.txt",
)
CHANNELS = 4  # of a latent; diffusers' image-to-image pipeline takes a tensor with 4 channels for latents
MOST_PIXELS = 4096  # a side
REMEDY = "give the folder of a Stable Diffusion pipeline, as `save_pretrained` of diffusers writes it"
_LIMIT = 2**20  # bytes of a configuration

Whole = Annotated[int, Field(ge=1, lt=2**16)]
Layers = Annotated[int, Field(ge=1, le=100)]


def need_packages() -> None:
    """Raises `DataError` if a package that the model needs is not installed."""
    for name in ("diffusers", "transformers", "sklearn"):
        require(
            find_spec(name) is not None,
            f"d4m needs the package {name}, which is not installed; run `pip install 'dcpipe[diffusion]'`",
        )


class _Unet(Open):
    sample_size: Whole
    in_channels: Whole
    out_channels: Whole
    cross_attention_dim: Whole
    layers_per_block: Layers = 2


class _Vae(Open):
    block_out_channels: Annotated[list[Whole], Field(min_length=1, max_length=10)]
    latent_channels: Whole
    scaling_factor: Annotated[float, Field(gt=0)]
    shift_factor: None = None
    layers_per_block: Layers = 1


class _Text(Open):
    hidden_size: Whole
    num_hidden_layers: Layers = 12


@dataclass(frozen=True)
class Folder:
    """A folder that has all parts.

    Attributes:
        path: of the folder.
        side: of the images that the model was trained on, in pixels: the side of a latent times a factor 2 for each
            block of the VAE but the last.
        latent_side: of a latent, which is [4, latent_side, latent_side].
    """

    path: Path
    side: int
    latent_side: int

    @classmethod
    def of(cls, where: str) -> Folder:
        """The folder at a path of this machine. Raises `DataError` for one that is not there, lacks a part, or has
        parts that do not fit together or are of another kind."""
        path = local_path(where, "d4m: model")
        require((path / INDEX).is_file(), f"d4m: model {str(path)!r} is not a folder with {INDEX}; {REMEDY}")
        index = _json(path / INDEX)
        for part, names in CLASSES.items():
            found = index.get(part) if isinstance(index, dict) else None
            name = found[1] if isinstance(found, list) and len(found) == 2 else found
            require(
                name in names, f"{path / INDEX}: {part} is {shown(name)}, but d4m takes {' or '.join(names)}; {REMEDY}"
            )
        for part, name in WEIGHTS.items():
            half = name.replace(".safetensors", ".fp16.safetensors")
            remedy = (
                f"rename {part}/{half}"
                if (path / part / half).is_file()
                else "weights are read from safetensors only, so save the pipeline again with `save_pretrained` of "
                "diffusers"
            )
            require((path / part / name).is_file(), f"d4m: model {str(path)!r} has no {part}/{name}; {remedy}")
        unet, vae = _config(_Unet, path / "unet"), _config(_Vae, path / "vae")
        text = _config(_Text, path / "text_encoder")
        channels = {unet.in_channels, unet.out_channels, vae.latent_channels}
        require(
            channels == {CHANNELS},
            f"d4m: model {str(path)!r} has unet.in_channels {unet.in_channels}, unet.out_channels {unet.out_channels} "
            f"and vae.latent_channels {vae.latent_channels}, but all must be {CHANNELS}; {REMEDY}",
        )
        require(
            unet.cross_attention_dim == text.hidden_size,
            f"d4m: model {str(path)!r} has unet.cross_attention_dim {unet.cross_attention_dim}, but "
            f"text_encoder.hidden_size {text.hidden_size}; {REMEDY}",
        )
        side = unet.sample_size * 2 ** (len(vae.block_out_channels) - 1)
        require(
            side <= MOST_PIXELS,
            f"d4m: model {str(path)!r} is for images of {side:,} pixels, more than {MOST_PIXELS:,}; {REMEDY}",
        )
        return cls(path, side, unet.sample_size)

    @cached_property
    def digests(self) -> dict[str, str]:
        """The SHA-256 of each file that the model is made of, by its path in the folder."""
        names = [*(f"{part}/{name}" for part, name in WEIGHTS.items()), *SETTINGS]
        return {name: _sha256(self.path / name) for name in sorted(names) if (self.path / name).is_file()}

    @property
    def weight_bytes(self) -> int:
        """Bytes of all files of weights."""
        return sum((self.path / part / name).stat().st_size for part, name in WEIGHTS.items())


def _json(path: Path) -> Any:
    return parse(read_bytes(path, _LIMIT, REMEDY), path, REMEDY)


def _config(model: type[Model], folder: Path) -> Model:
    path = folder / "config.json"
    return checked(model, _json(path), path, REMEDY)


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
