"""The folder of a latent diffusion model: what is in it, checked without loading weights or importing the packages that
do.

There are two layouts, those of diffusers for Stable Diffusion (`TEXT`: the condition is a text) and for DiT (`CLASSES`:
the condition is the number of a class). `model_index.json` names the class of each part, each of which is a folder.
Only weights in safetensors are read, and only by classes that are named here, so no file can have code run.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from dcpipe.store.documents import Model, Open, checked, parse, read_bytes, shown
from dcpipe.types import require
from dcpipe.types.paths import local_path

INDEX = "model_index.json"
OWN_WEIGHTS = "diffusion_pytorch_model.safetensors"  # as diffusers names them


@dataclass(frozen=True)
class Layout:
    """The parts of a model.

    Attributes:
        name: of the pipeline, for messages.
        classes: those that each part may have.
        weights: the file of each part that has weights.
        settings: all other files that the model is made of; not all have to be there.
    """

    name: str
    classes: dict[str, tuple[str, ...]]
    weights: dict[str, str]
    settings: tuple[str, ...]

    @property
    def remedy(self) -> str:
        """What to do about another folder."""
        return f"give the folder of a {self.name} pipeline, as `save_pretrained` of diffusers writes it"


TEXT = Layout(
    "Stable Diffusion",
    {
        "unet": ("UNet2DConditionModel",),
        "vae": ("AutoencoderKL",),
        "text_encoder": ("CLIPTextModel",),
        "tokenizer": ("CLIPTokenizer", "CLIPTokenizerFast"),
    },
    {"unet": OWN_WEIGHTS, "vae": OWN_WEIGHTS, "text_encoder": "model.safetensors"},
    (
        *(f"{part}/config.json" for part in ("unet", "vae", "text_encoder")),
        "scheduler/scheduler_config.json",
        # Of the tokenizer's files there are several forms.
        *(f"tokenizer/{name}.json" for name in ("tokenizer", "tokenizer_config", "vocab", "special_tokens_map")),
        "tokenizer/merges.txt",
    ),
)
CLASSES = Layout(
    "DiT",
    {"transformer": ("DiTTransformer2DModel", "Transformer2DModel"), "vae": ("AutoencoderKL",)},
    {"transformer": OWN_WEIGHTS, "vae": OWN_WEIGHTS},
    # The index has the labels of the classes.
    (INDEX, "transformer/config.json", "vae/config.json", "scheduler/scheduler_config.json"),
)
# The layouts that a method takes, if it does not take both.
TAKES = {"d4m": (TEXT,)}
CHANNELS = 4  # of a latent; diffusers' image-to-image pipeline takes a tensor with 4 channels for latents
MOST_PIXELS = 4096  # a side
MOST_POSITIONS = 2**26  # numbers of the positions in a DiT, which are computed before its weights are read
_LIMIT = 2**20  # bytes of a configuration

Whole = Annotated[int, Field(ge=1, lt=2**16)]
Layers = Annotated[int, Field(ge=1, le=100)]


def need_packages(method: str) -> None:
    """Raises `DataError` if a package that the models of a method need is not installed."""
    for name in ("diffusers", "transformers", "sklearn"):
        require(
            find_spec(name) is not None,
            f"{method} needs the package {name}, which is not installed; run `pip install 'dcpipe[diffusion]'`",
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
    scaling_factor: Annotated[float, Field(gt=0)] = 0.18215  # Stable Diffusion 1.5 was published before it was a key
    shift_factor: None = None
    layers_per_block: Layers = 1


class _Transformer(Open):
    sample_size: Whole
    in_channels: Whole
    out_channels: Whole | None = None
    num_embeds_ada_norm: Whole
    num_attention_heads: Whole = 16
    attention_head_dim: Whole = 72
    patch_size: Whole = 2
    num_layers: Layers = 28
    norm_type: Literal["ada_norm_zero"] = "ada_norm_zero"


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
        layout: what it consists of.
        method: that uses it, for messages.
        labels: of a DiT, the texts of each class in order, separated by commas; an empty one where none is known.
    """

    path: Path
    side: int
    latent_side: int
    layout: Layout = TEXT
    method: str = "d4m"
    labels: tuple[str, ...] = ()

    @classmethod
    def of(cls, where: str, method: str) -> Folder:
        """The folder at a path of this machine, for a method. Raises `DataError` for one that is not there, lacks a
        part, or has parts that do not fit together or are of another kind."""
        takes = TAKES.get(method, (TEXT, CLASSES))
        path = local_path(where, f"{method}: model")
        who = f"{method}: model {str(path)!r}"
        require((path / INDEX).is_file(), f"{who} is not a folder with {INDEX}; {takes[0].remedy}")
        found = _json(path / INDEX, takes[0].remedy)
        index = found if isinstance(found, dict) else {}
        layout = CLASSES if CLASSES in takes and "transformer" in index else TEXT
        for part, names in layout.classes.items():
            entry = index.get(part)
            name = entry[1] if isinstance(entry, list) and len(entry) == 2 else entry
            require(
                name in names,
                f"{path / INDEX}: {part} is {shown(name)}, but {method} takes {' or '.join(names)}; {layout.remedy}",
            )
        for part, name in layout.weights.items():
            half = name.replace(".safetensors", ".fp16.safetensors")
            remedy = (
                f"rename {part}/{half}"
                if (path / part / half).is_file()
                else "weights are read from safetensors only, so save the pipeline again with `save_pretrained` of "
                "diffusers"
            )
            require((path / part / name).is_file(), f"{who} has no {part}/{name}; {remedy}")
        vae = _config(_Vae, path / "vae", layout)
        latent_side = _latent_side(path, who, vae) if layout is TEXT else _transformer_side(path, who, vae)
        side = latent_side * 2 ** (len(vae.block_out_channels) - 1)
        require(
            side <= MOST_PIXELS,
            f"{who} is for images of {side:,} pixels, more than {MOST_PIXELS:,}; {layout.remedy}",
        )
        labels = _labels(path, index) if layout is CLASSES else ()
        return cls(path, side, latent_side, layout, method, labels)

    @cached_property
    def digests(self) -> dict[str, str]:
        """The SHA-256 of each file that the model is made of, by its path in the folder."""
        names = [*(f"{part}/{name}" for part, name in self.layout.weights.items()), *self.layout.settings]
        return {name: _sha256(self.path / name) for name in sorted(names) if (self.path / name).is_file()}

    @property
    def encoder(self) -> str:
        """A digest of the encoder of images."""
        files = "".join(digest for name, digest in self.digests.items() if name.startswith("vae/"))
        return hashlib.sha256(files.encode()).hexdigest()

    @property
    def weight_bytes(self) -> int:
        """Bytes of all files of weights."""
        return sum((self.path / part / name).stat().st_size for part, name in self.layout.weights.items())


def _latent_side(path: Path, who: str, vae: _Vae) -> int:
    """The side of a latent, if the parts of Stable Diffusion fit together."""
    unet, text = _config(_Unet, path / "unet", TEXT), _config(_Text, path / "text_encoder", TEXT)
    channels = {unet.in_channels, unet.out_channels, vae.latent_channels}
    require(
        channels == {CHANNELS},
        f"{who} has unet.in_channels {unet.in_channels}, unet.out_channels {unet.out_channels} "
        f"and vae.latent_channels {vae.latent_channels}, but all must be {CHANNELS}; {TEXT.remedy}",
    )
    require(
        unet.cross_attention_dim == text.hidden_size,
        f"{who} has unet.cross_attention_dim {unet.cross_attention_dim}, but "
        f"text_encoder.hidden_size {text.hidden_size}; {TEXT.remedy}",
    )
    return unet.sample_size


def _transformer_side(path: Path, who: str, vae: _Vae) -> int:
    """The side of a latent, if the parts of a DiT fit together."""
    own = _config(_Transformer, path / "transformer", CLASSES)
    made = own.in_channels if own.out_channels is None else own.out_channels
    require(
        {own.in_channels, vae.latent_channels} == {CHANNELS} and made in (CHANNELS, 2 * CHANNELS),
        f"{who} has transformer.in_channels {own.in_channels}, transformer.out_channels {made} and "
        f"vae.latent_channels {vae.latent_channels}, but they must be {CHANNELS}, {CHANNELS} or {2 * CHANNELS}, and "
        f"{CHANNELS}; {CLASSES.remedy}",
    )
    require(
        own.sample_size % own.patch_size == 0,
        f"{who} has transformer.sample_size {own.sample_size}, no multiple of its patch_size {own.patch_size}; "
        f"{CLASSES.remedy}",
    )
    positions = (own.sample_size // own.patch_size) ** 2 * own.num_attention_heads * own.attention_head_dim
    require(
        positions <= MOST_POSITIONS,
        f"{who} has positions of {positions:,} numbers by transformer/config.json, more than {MOST_POSITIONS:,}; "
        f"{CLASSES.remedy}",
    )
    return own.sample_size


def _labels(path: Path, index: dict[str, Any]) -> tuple[str, ...]:
    """The texts of the classes of a DiT, by their number."""
    n = _config(_Transformer, path / "transformer", CLASSES).num_embeds_ada_norm
    given = index.get("id2label") or {}
    require(
        isinstance(given, dict) and all(isinstance(text, str) for text in given.values()),
        f"{path / INDEX}: id2label is {shown(given)}, not a text for each number of a class; {CLASSES.remedy}",
    )
    return tuple(given.get(str(number), "") for number in range(n))


def _json(path: Path, remedy: str) -> Any:
    return parse(read_bytes(path, _LIMIT, remedy), path, remedy)


def _config(model: type[Model], folder: Path, layout: Layout) -> Model:
    path = folder / "config.json"
    return checked(model, _json(path, layout.remedy), path, layout.remedy)


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
