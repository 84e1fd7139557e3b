"""A diffusion model of 60 kB in the layout of Stable Diffusion: images of 16 pixels, latents of 8; random weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

SIDE, LATENT = 16, 8
TOKENS = 24  # that the text encoder reads
CONFIGS: dict[str, dict[str, Any]] = {
    "unet": {
        "_class_name": "UNet2DConditionModel",
        "block_out_channels": [32, 64],
        "layers_per_block": 1,
        "sample_size": LATENT,
        "in_channels": 4,
        "out_channels": 4,
        "cross_attention_dim": 32,
        "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"],
        "up_block_types": ["CrossAttnUpBlock2D", "UpBlock2D"],
        "norm_num_groups": 8,
    },
    "vae": {
        "_class_name": "AutoencoderKL",
        "block_out_channels": [32, 64],
        "down_block_types": ["DownEncoderBlock2D", "DownEncoderBlock2D"],
        "up_block_types": ["UpDecoderBlock2D", "UpDecoderBlock2D"],
        "latent_channels": 4,
        "norm_num_groups": 8,
        "scaling_factor": 0.18215,
    },
    "text_encoder": {
        "hidden_size": 32,
        "intermediate_size": 37,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": TOKENS,
    },
    "scheduler": {
        "_class_name": "PNDMScheduler",
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "skip_prk_steps": True,
        "steps_offset": 1,
        "clip_sample": False,
    },
}
INDEX = {
    "_class_name": "StableDiffusionPipeline",
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "scheduler": ["diffusers", "PNDMScheduler"],
    "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
}


def outline(folder: Path) -> Path:
    """The files without weights that fit: what can be checked without diffusers."""
    for part, content in CONFIGS.items():
        (folder / part).mkdir(parents=True)
        name = "scheduler_config.json" if part == "scheduler" else "config.json"
        (folder / part / name).write_text(json.dumps(content))
    for part, name in {"unet": "diffusion_pytorch_", "vae": "diffusion_pytorch_", "text_encoder": ""}.items():
        save_file({"weight": np.zeros(3, np.float32)}, folder / part / f"{name}model.safetensors")
    (folder / "model_index.json").write_text(json.dumps(INDEX))
    return folder


def model(folder: Path) -> Path:
    """The whole model, as `save_pretrained` writes it."""
    import torch
    from diffusers import AutoencoderKL, PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    letters = [chr(code) for code in range(33, 127)]
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    words = folder / "words"
    words.mkdir(parents=True)
    (words / "vocab.json").write_text(json.dumps({token: number for number, token in enumerate(tokens)}))
    (words / "merges.txt").write_text("#version: 0.2\n")
    ends = {"bos_token_id": len(tokens) - 2, "eos_token_id": len(tokens) - 1, "pad_token_id": len(tokens) - 1}
    text = CLIPTextConfig(vocab_size=len(tokens), **ends, **CONFIGS["text_encoder"])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        pipeline = StableDiffusionPipeline(
            vae=AutoencoderKL.from_config(CONFIGS["vae"]),
            unet=UNet2DConditionModel.from_config(CONFIGS["unet"]),
            text_encoder=CLIPTextModel(text),
            tokenizer=CLIPTokenizer.from_pretrained(str(words), model_max_length=TOKENS),
            scheduler=PNDMScheduler.from_config(CONFIGS["scheduler"]),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
    pipeline.save_pretrained(folder / "model")
    return folder / "model"


DIT: dict[str, Any] = {
    "_class_name": "Transformer2DModel",
    "num_attention_heads": 2,
    "attention_head_dim": 8,
    "in_channels": 4,
    "out_channels": 8,
    "num_layers": 1,
    "sample_size": LATENT,
    "patch_size": 2,
    "num_embeds_ada_norm": 1000,
    "norm_type": "ada_norm_zero",
}
LABELS = {"0": "tench, Tinca tinca", "1": "crane", "2": "crane", "3": "heron"}


def dit_outline(folder: Path) -> Path:
    """As `outline`, of a DiT."""
    for part, content in {"transformer": DIT, "vae": CONFIGS["vae"]}.items():
        (folder / part).mkdir(parents=True)
        (folder / part / "config.json").write_text(json.dumps(content))
        save_file({"weight": np.zeros(3, np.float32)}, folder / part / "diffusion_pytorch_model.safetensors")
    index = {"transformer": ["diffusers", "Transformer2DModel"], "vae": ["diffusers", "AutoencoderKL"]}
    (folder / "model_index.json").write_text(json.dumps(index | {"id2label": LABELS}))
    return folder


def dit_model(folder: Path) -> Path:
    """The whole DiT."""
    import torch
    from diffusers import AutoencoderKL, DDIMScheduler, DiTPipeline, DiTTransformer2DModel

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        transformer = DiTTransformer2DModel(**{name: value for name, value in DIT.items() if name != "_class_name"})
        for name, weight in transformer.named_parameters():  # what DiT starts as zeros would hide mistakes
            if weight.ndim > 1 and "emb" not in name:
                torch.nn.init.normal_(weight, std=0.1)
        pipeline = DiTPipeline(
            transformer=transformer,
            vae=AutoencoderKL.from_config(CONFIGS["vae"]),
            scheduler=DDIMScheduler(clip_sample=False),
        )
    pipeline.save_pretrained(folder)
    # Published folders have the labels, but diffusers does not save them.
    index = folder / "model_index.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | {"id2label": LABELS}))
    return folder
