"""D4M: images through encoder and denoiser as the method sends them, bytes as they are in the folder of the model."""

from __future__ import annotations

from pathlib import Path

from planned import DIGITS, setting
from tiny_model import LATENT, outline

from dcpipe.planning import recovery
from dcpipe.planning.work import Stage
from dcpipe.synthesis.diffusion.latents import MOST_BYTES


def plan(model: Path, **options: object) -> Stage:
    block = {"method": "d4m", "options": {"model": str(model), **options}}
    return recovery.synthesis(setting("digits", DIGITS, synthesis=block))


def test_calls_of_the_model_are_said(tmp_path: Path) -> None:
    model = outline(tmp_path / "model")
    # 100 condensed images, 35 of 50 steps, with and without the prompt.
    assert "1,294 images through the encoder" in plan(model).omitted
    assert "and 7,000 through its denoiser" in plan(model).omitted
    assert "and 1,000 through its denoiser" in plan(model, steps=20, strength=0.5, guidance=1.0).omitted


def test_bytes_are_those_of_the_model(tmp_path: Path) -> None:
    model = outline(tmp_path / "model")
    stage, absent = plan(model), plan(tmp_path / "none")
    latent, weights = 16 * LATENT**2, sum(path.stat().st_size for path in model.rglob("*.safetensors"))
    assert stage.scratch - absent.scratch == 100 * latent
    assert stage.device == weights > 0 == absent.device
    assert stage.host - absent.host == 2 * weights + 1294 * latent < MOST_BYTES
    assert stage.scratch - plan(model, prototypes_per_class=3).scratch == 70 * latent


def test_modes_are_encoded_and_free_samples_are_not(tmp_path: Path) -> None:
    model = str(outline(tmp_path / "model"))

    def of(method: str, **options: object) -> Stage:
        return recovery.synthesis(
            setting("digits", DIGITS, synthesis={"method": method, "options": {"model": model, **options}})
        )

    # 100 condensed images, all 50 steps, with and without the prompt.
    assert "1,294 images through the encoder of the diffusion model and 10,000 through its den" in of("mgd3").omitted
    assert of("generate").omitted == "10,000 through the denoiser of the diffusion model, whose speed is not known"
    assert "and 5,000 through" in of("mgd3", guidance=1.0).omitted
    latent = 16 * LATENT**2
    assert of("mgd3").scratch - of("generate").scratch == 100 * latent
    assert of("mgd3").host - of("generate").host == 1294 * latent
