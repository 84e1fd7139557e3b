"""The diffusion model against its parts: what is encoded, and denoising as a loop that is written out."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import yaml
from matching_scenes import World, start_of
from safetensors.numpy import load_file, save_file
from tiny_model import LATENT, SIDE, TOKENS, model

from dcpipe import store
from dcpipe.config import params, presets
from dcpipe.synthesis import METHODS
from dcpipe.synthesis.diffusion.folder import Folder
from dcpipe.synthesis.diffusion.model import Denoising, Diffusion
from dcpipe.synthesis.diffusion.sampling import Sampling, sample
from dcpipe.types import DataError, Selection
from flows.images import images_stage
from flows.running.inputs import Inputs
from flows.running.reporting import Plain
from flows.running.runtime import Run
from flows.synthesis import synthesis_stage
from flows.teacher import teacher_stage

# Importing diffusers takes longer than all tests; tests of this kind share one process for each file.
pytestmark = pytest.mark.pipeline

CPU = torch.device("cpu")
PLAIN = Denoising(strength=0.7, guidance=8.0, steps=5, negative="a painting")
PROMPTS = ("a cat", "a dog", "7")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    return Folder.of(str(model(tmp_path_factory.mktemp("diffusion"))), "d4m")


@pytest.fixture(scope="module")
def tiny(folder: Folder) -> Diffusion:
    return Diffusion(folder, CPU)


@pytest.fixture
def latents() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(3, 4, LATENT, LATENT)).astype(np.float32)


def test_sides_are_those_of_the_model(folder: Folder, tiny: Diffusion) -> None:
    assert (folder.side, folder.latent_side) == (SIDE, LATENT)
    assert tiny.pipeline.vae_scale_factor == SIDE // LATENT == 2
    assert tiny.encode(np.zeros((1, 5, 5, 3), np.uint8)).shape == (1, 4, LATENT, LATENT)


@pytest.mark.parametrize("size", [8, SIDE, 40])
def test_latents_are_the_scaled_means_of_resized_images(tiny: Diffusion, size: int) -> None:
    images = np.random.default_rng(1).integers(0, 256, (2, size, size, 3), dtype=np.uint8)
    pixels = torch.from_numpy(images.astype(np.float32) / 127.5 - 1).permute(0, 3, 1, 2)
    resized = F.interpolate(pixels, (SIDE, SIDE), mode="bilinear", antialias=True)
    with torch.no_grad():
        mean = tiny.vae.encode(resized).latent_dist.mean
    assert np.allclose(tiny.encode(images), 0.18215 * mean.numpy(), atol=1e-5)
    assert mean.std() > 0.01, "the latents say nothing"


def written_out(tiny: Diffusion, start: np.ndarray, prompts: tuple[str, ...], seeds: list[int], own: Denoising):
    """DDIM with eta 0 under classifier-free guidance, image by image: pixels f32 [m, 3, s, s]."""
    parts = tiny.pipeline
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    kept = torch.cumprod(1 - betas, 0)
    stride = 1000 // own.steps
    times = [1 + stride * k for k in range(own.steps)][::-1][own.steps - int(own.steps * own.strength) :]

    def words(text: str) -> torch.Tensor:
        found = tiny.tokenizer(text, padding="max_length", max_length=tiny.tokenizer.model_max_length)
        return parts.text_encoder(torch.tensor([found.input_ids]))[0]

    made = []
    for latent, prompt, seed in zip(torch.from_numpy(start), prompts, seeds, strict=True):
        noise = torch.randn((1, 4, LATENT, LATENT), generator=torch.Generator().manual_seed(seed))
        x = kept[times[0]].sqrt() * latent[None].double() + (1 - kept[times[0]]).sqrt() * noise.double()
        for time in times:
            said = parts.unet(x.float(), time, words(prompt)).sample.double()
            rejected = parts.unet(x.float(), time, words(own.negative)).sample.double()
            e = rejected + own.guidance * (said - rejected) if own.guidance > 1 else said
            clean = (x - (1 - kept[time]).sqrt() * e) / kept[time].sqrt()
            # After the last step all noise is gone but that of the first beta, unless the model says otherwise.
            before = kept[time - stride] if time >= stride else kept[0]
            x = before.sqrt() * clean + (1 - before).sqrt() * e
        made.append(parts.vae.decode(x.float() / 0.18215).sample[0] / 2 + 0.5)
    return torch.stack(made).clamp(0, 1)


@pytest.mark.parametrize(
    "own",
    [PLAIN, Denoising(1.0, 3.0, 4, ""), Denoising(0.5, 1.0, 4, "a painting"), Denoising(0.2, 8.0, 5, "a painting")],
)
def test_denoising_is_ddim_without_noise_under_guidance(tiny: Diffusion, latents: np.ndarray, own: Denoising) -> None:
    seeds = [3, 4, 2**32 - 1]
    with torch.no_grad():
        expected = written_out(tiny, latents, PROMPTS, seeds, own)
    found = tiny.images(latents, PROMPTS, seeds, own, SIDE)
    assert found.shape == (3, SIDE, SIDE, 3) and found.dtype == np.uint8
    assert np.abs(found.astype(int) - expected.permute(0, 2, 3, 1).mul(255).round().numpy()).max() <= 1
    assert len(np.unique(found)) > 50, "the images say nothing"


@pytest.mark.parametrize("strength", [0.0, 0.19])
def test_without_steps_prototypes_are_decoded(tiny: Diffusion, latents: np.ndarray, strength: float) -> None:
    own = Denoising(strength, 8.0, 5, "")
    assert own.taken == 0
    with torch.no_grad():
        decoded = tiny.vae.decode(torch.from_numpy(latents) / 0.18215).sample
    expected = (127.5 * decoded + 127.5).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)
    found = tiny.images(latents, PROMPTS, [1, 2, 3], own, SIDE).astype(int)
    assert np.abs(found - expected.numpy().astype(int)).max() <= 1


def test_an_image_depends_on_its_prototype_prompt_and_seed_alone(tiny: Diffusion, latents: np.ndarray) -> None:
    together = tiny.images(latents, PROMPTS, [1, 2, 3], PLAIN, 12)
    assert np.array_equal(together, tiny.images(latents, PROMPTS, [1, 2, 3], PLAIN, 12))
    backwards = tiny.images(latents[::-1].copy(), PROMPTS[::-1], [3, 2, 1], PLAIN, 12)[::-1].astype(int)
    assert np.abs(backwards - together).max() <= 1
    for row, prompt in enumerate(PROMPTS):
        alone = tiny.images(latents[row : row + 1], [prompt], [row + 1], PLAIN, 12)[0].astype(int)
        assert np.abs(alone - together[row]).max() <= 1
    first = latents[:1]
    one = tiny.images(first, ["a cat"], [1], PLAIN, 12)
    for other in (
        tiny.images(first, ["a dog"], [1], PLAIN, 12),
        tiny.images(first, ["a cat"], [2], PLAIN, 12),
        tiny.images(latents[1:2], ["a cat"], [1], PLAIN, 12),
    ):
        assert np.abs(one.astype(int) - other).max() > 1


def test_sampling_towards_modes_is_ddpm_with_a_pull(tiny: Diffusion, latents: np.ndarray) -> None:
    """MGD3 image by image in float64: the first 2 of 4 steps are pulled, and all but the last add noise."""
    parts, own = tiny.pipeline, Sampling("ddpm", 4, 3.0, "a painting", 0.4, 0.5)
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    kept = torch.cumprod(1 - betas, 0)

    def words(text: str) -> torch.Tensor:
        found = tiny.tokenizer(text, padding="max_length", max_length=tiny.tokenizer.model_max_length)
        return parts.text_encoder(torch.tensor([found.input_ids]))[0]

    found = sample(tiny, PROMPTS, [1, 2, 3], own, torch.from_numpy(latents))
    for row, prompt in enumerate(PROMPTS):
        generator = torch.Generator().manual_seed(row + 1)
        z = torch.randn((1, 4, LATENT, LATENT), generator=generator).double()
        for place, time in enumerate((751, 501, 251, 1)):
            with torch.no_grad():
                e, without = (parts.unet(z.float(), time, words(one)).sample.double() for one in (prompt, own.negative))
            e = without + 3 * (e - without)
            before, after = kept[time], kept[time - 250] if place < 3 else kept[0]
            beta = 1 - before / after
            deviation = (beta * (1 - after) / (1 - before)).sqrt()
            pull = 0.4 * (torch.from_numpy(latents[row : row + 1]) - (z - (1 - before).sqrt() * e) / before.sqrt())
            z = (z - beta / (1 - before).sqrt() * e) / (1 - beta).sqrt() + (deviation * pull if place < 2 else 0)
            if place < 3:
                z = z + deviation * torch.randn((1, 4, LATENT, LATENT), generator=generator)
        assert torch.allclose(found[row].double(), z[0], atol=1e-3)
    assert not torch.allclose(found, sample(tiny, PROMPTS, [1, 2, 3], own), atol=0.1)


def test_latents_have_no_limit_whatever_the_scheduler_is(folder: Folder, tmp_path: Path) -> None:
    shutil.copytree(folder.path, tmp_path / "model")
    path = tmp_path / "model/scheduler/scheduler_config.json"
    content = json.loads(path.read_text())
    del content["clip_sample"]
    path.write_text(json.dumps(content))
    assert Diffusion(Folder.of(str(tmp_path / "model"), "d4m"), CPU).scheduler.config.clip_sample is False


def test_prompts_and_steps_that_the_model_cannot_take_are_refused(tiny: Diffusion) -> None:
    tiny.check(PROMPTS, "")
    with pytest.raises(DataError, match="has 26 tokens, but the model reads 24; shorten it"):
        tiny.check(["a" * 24], "")
    with pytest.raises(DataError, match="has 26 tokens, but the model reads 24; shorten it"):
        tiny.check(PROMPTS, "a" * 24)
    # Its steps begin at 1, so the first of 1,000 would be 1,000, of 0 to 999.
    for steps, taken in ((1001, None), (1001, 3), (1000, None), (1000, 1000)):
        with pytest.raises(DataError, match=f"steps is {steps}, but the model has 1000; choose at most 999"):
            tiny.times(steps, taken)
    assert tiny.times(1000, 700)[0] == 700 and tiny.times(999)[0] == 999 and tiny.times(4) == [751, 501, 251, 1]


def test_numbers_that_are_not_finite_are_refused(tiny: Diffusion, latents: np.ndarray) -> None:
    with pytest.raises(DataError, match=r"images of .* are NaN or infinite; take weights that are not damaged"):
        tiny.images(latents * np.float32(np.nan), PROMPTS, [1, 2, 3], PLAIN, SIDE)


@pytest.mark.parametrize("half", [False, True])
def test_loading_shows_nothing_and_draws_nothing(
    folder: Folder, half: bool, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    before = torch.get_rng_state()
    tiny = Diffusion(folder, CPU, half)
    assert torch.equal(before, torch.get_rng_state())
    assert capfd.readouterr() == ("", "") and not caplog.records
    parts = (tiny.vae, tiny.pipeline.unet, tiny.pipeline.text_encoder)
    assert {weight.dtype for part in parts for weight in part.parameters()} == {tiny.type}


@pytest.mark.parametrize(
    ("part", "change", "sentence"),
    [
        ("unet", {"layers_per_block": 2}, "cannot be read as a diffusion model"),
        (
            "unet",
            {"block_out_channels": [2**15, 2**15]},
            r"unet has \d+,\d+,\d+,\d+ weights by its settings, but a file",
        ),
        ("vae", {"block_out_channels": [2**15, 2**15]}, r"vae has \d+,\d+,\d+,\d+ weights by its settings, but a file"),
        ("text_encoder", {"vocab_size": 2**40}, "text_encoder has 35,184,37.* weights by its settings, but a file"),
        ("unet", None, "cannot be read as a diffusion model"),
    ],
)
def test_weights_that_do_not_fit_the_settings_are_refused_before_memory_is_taken(
    folder: Folder, tmp_path: Path, part: str, change: dict[str, Any] | None, sentence: str
) -> None:
    shutil.copytree(folder.path, tmp_path / "model")
    if change is None:  # a pointer of Git LFS in place of the file
        path = tmp_path / "model/unet/diffusion_pytorch_model.safetensors"
        path.write_text("version https://git-lfs.github.com/spec/v1\n" + 4_000_000 * " ")
    else:
        path = tmp_path / "model" / part / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(DataError, match=sentence) as caught:
        Diffusion(Folder.of(str(tmp_path / "model"), "d4m"), CPU)
    assert "\n" not in str(caught.value)


def test_weights_that_are_not_there_are_not_left_at_random(folder: Folder, tmp_path: Path) -> None:
    shutil.copytree(folder.path, tmp_path / "model")
    path = tmp_path / "model/text_encoder/model.safetensors"
    weights = load_file(path)
    gone = max(weights)
    save_file({name: value for name, value in weights.items() if name != gone}, path)
    with pytest.raises(DataError, match=rf"text_encoder lacks the weights '{gone}', one of 1\); give the folder"):
        Diffusion(Folder.of(str(tmp_path / "model"), "d4m"), CPU)


def test_the_published_files_of_stable_diffusion_have_older_names(
    folder: Folder, tiny: Diffusion, latents: np.ndarray, tmp_path: Path
) -> None:
    """Attention in the VAE, a prefix and positions in the text encoder, and two files of words for the tokenizer."""
    path = shutil.copytree(folder.path, tmp_path / "model")
    names = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    weights = load_file(path / "vae/diffusion_pytorch_model.safetensors")
    for new, old in names.items():
        weights = {name.replace(f".{new}.", f".{old}."): value for name, value in weights.items()}
    assert any(".proj_attn." in name for name in weights)
    save_file(weights, path / "vae/diffusion_pytorch_model.safetensors")
    text = load_file(path / "text_encoder/model.safetensors")
    text = {f"text_model.{name.removeprefix('text_model.')}": value for name, value in text.items()}
    text["text_model.embeddings.position_ids"] = np.arange(TOKENS)[None]
    save_file(text, path / "text_encoder/model.safetensors")
    (path / "tokenizer/tokenizer.json").unlink()
    for file in ("vocab.json", "merges.txt"):
        shutil.copy(folder.path.parent / "words" / file, path / "tokenizer")
    other = Diffusion(Folder.of(str(path), "d4m"), CPU)
    images = np.random.default_rng(1).integers(0, 256, (2, 9, 9, 3), dtype=np.uint8)
    assert np.array_equal(tiny.encode(images), other.encode(images))
    made = [one.images(latents, PROMPTS, [1, 2, 3], PLAIN, SIDE) for one in (tiny, other)]
    assert np.array_equal(*made)


def test_a_tokenizer_without_a_limit_has_that_of_the_text_encoder(folder: Folder, tmp_path: Path) -> None:
    shutil.copytree(folder.path, tmp_path / "model")
    path = tmp_path / "model/tokenizer/tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"model_max_length": None}))
    with pytest.raises(DataError, match="has 26 tokens, but the model reads 24; shorten it"):
        Diffusion(Folder.of(str(tmp_path / "model"), "d4m"), CPU).check(["a" * 24], "")


def test_a_stage_killed_under_way_publishes_the_same_set(
    folder: Folder, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = yaml.safe_load(presets.text("digits"))
    whole["teacher"]["training"]["epochs"] = 1
    whole["teacher"]["networks"] = {"convnet": {"network": "convnet-d1-w4"}}
    whole["features"]["teacher"] = "convnet"
    whole["softlabels"]["teachers"] = ["convnet"]
    whole["selection"] = {"method": "random", "ipc": 1}
    options = {"model": str(folder.path), "steps": 4, "batch_size": 5, "template": "digit {}"}
    whole["synthesis"] = {"method": "d4m", "options": options}
    run = Run("synthesis", params.parse(whole), Plain("synthesis"), device=CPU, workers=None)
    images_stage(run)
    for name in run.params.teacher.networks:
        teacher_stage(run, name)
    source = store.open_artifact(Path("data/images"), "images")
    train = store.table_of(source, "train")
    rows = np.array([int(np.flatnonzero(train.labels == label)[0]) for label in range(10)])
    with run.staging("data/selection", {}, Inputs({"images": source})) as staging:
        chosen = Selection(train.ids[rows], train.labels[rows], np.zeros(10), "random")
        staging.publish("selection", store.save_selection(staging.root, chosen))

    calls = {"encode": 0, "images": 0}

    def counted(name: str, dies_at: int) -> None:
        plain = getattr(Diffusion, name)

        def call(self: Diffusion, *arguments: Any) -> Any:
            calls[name] += 1
            if calls[name] == dies_at:
                raise KeyboardInterrupt
            return plain(self, *arguments)

        monkeypatch.setattr(Diffusion, name, call)

    counted("encode", 120)
    counted("images", 2)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            synthesis_stage(run)
    synthesis_stage(run)
    first, made = store.open_artifact(Path("data/synthesis"), "synthesis"), dict(calls)
    shutil.rmtree("data/synthesis")
    shutil.rmtree(scratch)
    calls.update(encode=1000, images=1000)
    synthesis_stage(run)
    again = store.open_artifact(Path("data/synthesis"), "synthesis")
    assert again.digest == first.digest
    assert calls["images"] - 1000 == 2 == made["images"] - 1, "only the batch that was killed is denoised again"
    repeated = made["encode"] - (calls["encode"] - 1000)
    assert 0 < repeated <= (train.labels == 0).sum() / 5, "no more than the class that was under way is encoded again"
    condensed = store.load_set(first.path)
    assert condensed.images.shape == (10, 8, 8, 3) and condensed.ids.tolist() == train.ids[rows].tolist()
    assert (first.path / "prototypes.csv").read_text().startswith("class,prompt,prototype,images\n0,digit 0,0,")
    assert "unet/diffusion_pytorch_model.safetensors" in (first.path / "model.csv").read_text()


@pytest.mark.parametrize("name", ["mgd3", "generate"])
def test_sampling_killed_after_some_images_ends_the_same(
    folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    plain, made = Diffusion.decode, 0

    def decode(self: Diffusion, *arguments: Any) -> Any:
        nonlocal made
        made += 1
        if made == 4:
            raise KeyboardInterrupt
        return plain(self, *arguments)

    def run(world: World) -> np.ndarray:
        options = {"model": str(folder.path), "steps": 3}
        return METHODS[name](start_of(2), world.context, 0, world.progress, **options).images

    expected = run(World(tmp_path / "whole"))
    assert len(np.unique(expected.reshape(6, -1), axis=0)) == 6
    monkeypatch.setattr(Diffusion, "decode", decode)
    with pytest.raises(KeyboardInterrupt):
        run(World(tmp_path / "killed"))
    assert np.array_equal(run(World(tmp_path / "killed")), expected)
    assert made == 4 + 3, "the three images before the kill are not made again"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("half", [False, True])
def test_the_gpu_makes_about_the_same_images(folder: Folder, tiny: Diffusion, latents: np.ndarray, half: bool) -> None:
    other = Diffusion(folder, torch.device("cuda"), half)
    made = [one.images(latents, PROMPTS, [1, 2, 3], PLAIN, SIDE).astype(int) for one in (tiny, other)]
    assert np.abs(made[0] - made[1]).mean() < (4 if half else 0.5)
