"""The folder of a model: what it must contain, and sides that follow from its configuration."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_model import LABELS, dit_outline, outline

from dcpipe.synthesis.diffusion.folder import CLASSES, TEXT, Folder, need_packages
from dcpipe.types import DataError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return outline(tmp_path / "model")


def change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_sides_follow_from_the_configuration(path: Path) -> None:
    assert (Folder.of(str(path), "d4m").side, Folder.of(str(path), "d4m").latent_side) == (16, 8)
    change(path / "unet/config.json", sample_size=64)
    change(path / "vae/config.json", block_out_channels=[128, 256, 512, 512])
    assert (Folder.of(str(path), "d4m").side, Folder.of(str(path), "d4m").latent_side) == (
        512,
        64,
    )  # those of Stable Diffusion 1.5


def test_digests_are_of_the_files_that_are_used(path: Path) -> None:
    (path / "tokenizer").mkdir()
    (path / "tokenizer/vocab.json").write_text("{}")
    (path / "unet/other.fp16.safetensors").write_text("not used")
    digests = Folder.of(str(path), "d4m").digests
    assert [*digests] == [
        "scheduler/scheduler_config.json",
        "text_encoder/config.json",
        "text_encoder/model.safetensors",
        "tokenizer/vocab.json",
        "unet/config.json",
        "unet/diffusion_pytorch_model.safetensors",
        "vae/config.json",
        "vae/diffusion_pytorch_model.safetensors",
    ]
    assert digests["tokenizer/vocab.json"] == hashlib.sha256(b"{}").hexdigest()
    sizes = [(path / name).stat().st_size for name in digests if name.endswith(".safetensors")]
    assert Folder.of(str(path), "d4m").weight_bytes == sum(sizes)


def pickled(path: Path) -> None:
    (path / "unet/diffusion_pytorch_model.safetensors").rename(path / "unet/diffusion_pytorch_model.bin")


def in_half(path: Path) -> None:
    (path / "vae/diffusion_pytorch_model.safetensors").rename(path / "vae/diffusion_pytorch_model.fp16.safetensors")


BAD: list[tuple[Callable[[Path], Any], str]] = [
    (lambda path: (path / "model_index.json").unlink(), "is not a folder with model_index.json; give the folder"),
    (lambda path: (path / "model_index.json").write_text("[]"), "unet is None, but d4m takes UNet2DConditionModel;"),
    (lambda path: (path / "model_index.json").write_text("{"), "is damaged"),
    (
        lambda path: change(path / "model_index.json", vae=["diffusers", "AutoencoderTiny"]),
        "vae is 'AutoencoderTiny', but d4m takes AutoencoderKL; give the folder",
    ),
    (in_half, "has no vae/.*; rename vae/diffusion_pytorch_model.fp16.safetensors"),
    (lambda path: change(path / "unet/config.json", layers_per_block=10**9), "unet/config.json is damaged .layers_per"),
    (pickled, "has no unet/diffusion_pytorch_model.safetensors; weights are read from safetensors only, so save the"),
    (lambda path: change(path / "unet/config.json", in_channels=9), "unet.in_channels 9, .* all must be 4"),
    (lambda path: change(path / "vae/config.json", latent_channels=16), "vae.latent_channels 16, but all must be 4"),
    (lambda path: change(path / "vae/config.json", shift_factor=0.1), "shift_factor"),
    (lambda path: change(path / "text_encoder/config.json", hidden_size=768), "but text_encoder.hidden_size 768;"),
    (lambda path: change(path / "unet/config.json", sample_size=4000), "images of 8,000 pixels, more than 4,096"),
    (lambda path: change(path / "unet/config.json", sample_size=[8, 8]), "unet/config.json is damaged .sample_size"),
    (lambda path: (path / "vae/config.json").write_text(" " * 2**21), "vae/config.json has 2,097,152 bytes"),
]


@pytest.mark.parametrize(("spoil", "sentence"), BAD)
def test_other_folders_are_refused_in_one_sentence(path: Path, spoil: Callable[[Path], Any], sentence: str) -> None:
    spoil(path)
    with pytest.raises(DataError, match=sentence) as caught:
        Folder.of(str(path), "d4m")
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)


def test_urls_and_names_of_hubs_are_no_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="d4m: model is a URL"):
        Folder.of("https://example.org/model", "d4m")
    with pytest.raises(DataError, match="model 'some/model' is not a folder"):
        Folder.of("some/model", "d4m")


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(DataError, match=r"package transformers, .* run `pip install 'dcpipe\[diffusion\]'`"):
        need_packages("d4m")


def test_the_factor_of_latents_may_be_left_out_as_stable_diffusion_does(path: Path) -> None:
    config = path / "vae/config.json"
    content = json.loads(config.read_text())
    del content["scaling_factor"]
    config.write_text(json.dumps(content))
    assert Folder.of(str(path), "d4m").layout is TEXT


def test_a_dit_is_taken_by_methods_that_sample(tmp_path: Path) -> None:
    path = dit_outline(tmp_path / "dit")
    folder = Folder.of(str(path), "mgd3")
    assert (folder.side, folder.latent_side, folder.layout) == (16, 8, CLASSES)
    assert folder.labels == (*LABELS.values(), *[""] * 996)
    assert "model_index.json" in folder.digests and folder.weight_bytes > 0
    with pytest.raises(
        DataError, match="unet is None, but d4m takes UNet2DConditionModel; give the folder of a Stable"
    ):
        Folder.of(str(path), "d4m")
    assert Folder.of(str(outline(tmp_path / "model")), "generate").layout is TEXT


@pytest.mark.parametrize(
    ("file", "values", "sentence"),
    [
        (
            "transformer/config.json",
            {"out_channels": 6},
            "transformer.out_channels 6 and .* 4 or 8, and 4; give the fol",
        ),
        ("transformer/config.json", {"patch_size": 3}, "sample_size 8, no multiple of its patch_size 3"),
        ("transformer/config.json", {"norm_type": "layer_norm"}, "transformer/config.json is damaged .norm_type"),
        (
            "transformer/config.json",
            {"sample_size": 2048, "patch_size": 1, "attention_head_dim": 100},
            "positions of 838,860,800 numbers",
        ),
        ("vae/config.json", {"latent_channels": 16}, "vae.latent_channels 16, but they must be 4"),
        ("model_index.json", {"id2label": [1]}, "id2label is .1., not a text for each number of a class"),
        ("model_index.json", {"transformer": ["diffusers", "Flux"]}, "transformer is 'Flux', but mgd3 takes DiTTrans"),
    ],
)
def test_other_dits_are_refused(tmp_path: Path, file: str, values: dict[str, Any], sentence: str) -> None:
    path = dit_outline(tmp_path / "dit")
    change(path / file, **values)
    with pytest.raises(DataError, match=sentence) as caught:
        Folder.of(str(path), "mgd3")
    assert "\n" not in str(caught.value)
