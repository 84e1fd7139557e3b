"""DiT: which class a text means, and sampling against the pipeline of diffusers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_model import LABELS, LATENT, SIDE, dit_model

from dcpipe.synthesis.diffusion.dit import ByClass
from dcpipe.synthesis.diffusion.folder import CLASSES, Folder
from dcpipe.synthesis.diffusion.sampling import Sampling, sample
from dcpipe.types import DataError


def bare(labels: tuple[str, ...]) -> ByClass:
    """A model without weights."""
    made = object.__new__(ByClass)
    made.folder = Folder(Path(), SIDE, LATENT, CLASSES, "mgd3", labels)
    return made


LABELLED = bare((*LABELS.values(), *[""] * 6))


def test_texts_are_labels_or_numbers() -> None:
    assert LABELLED.numbers(["tinca tinca", "tench", "Heron", "9", "tench, Tinca tinca"]) == [0, 0, 3, 9, 0]
    LABELLED.check(["tench", "heron", "1", "2"], "")
    wordnet = [f"n{number:08d}" for number in range(1000)]
    assert bare(("",) * 1000).numbers(wordnet) == [*range(1000)]


def test_a_batch_has_some_of_the_wordnet_names_that_were_checked() -> None:
    model, wordnet = bare(("",) * 1000), [f"n{number:08d}" for number in range(1000)]
    model.device = torch.device("cpu")
    model.check(wordnet, "")
    assert model.conditions([wordnet[7], wordnet[3]], "").tolist() == [1000, 1000, 7, 3]
    with pytest.raises(DataError, match="the model has no class 'n00000007'"):
        bare(("",) * 1000).conditions([wordnet[7]], "")


@pytest.mark.parametrize(
    ("texts", "negative", "sentence"),
    [
        (["n01440764"], "", "the model has no class 'n01440764'; give a label or a number from 0 to 9 in prompts, as"),
        (["crane"], "", "the model has 'crane' as classes 1, 2; give a label or a number"),
        (["10"], "", "no class '10'"),
        (["-1"], "", "no class '-1'"),
        (["²"], "", "no class '²'"),
        ([""], "", "no class ''"),
        (["9" * 5000], "", "no class"),
        (["tench", "0"], "", "'tench' and '0' are both class 0 of the model; give each class its own in prompts"),
        (["tench"], "art", "negative is 'art', but a DiT reads no text"),
    ],
)
def test_other_texts_are_refused(texts: list[str], negative: str, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        LABELLED.check(texts, negative)


@pytest.mark.pipeline
def test_free_ddim_is_the_pipeline_of_diffusers(tmp_path: Path) -> None:
    from diffusers import DiTPipeline

    path = dit_model(tmp_path / "dit")
    folder = Folder.of(str(path), "generate")
    model = ByClass(folder, torch.device("cpu"))
    assert folder.labels[:4] == tuple(LABELS.values()) and len(folder.labels) == 1000
    pipeline = DiTPipeline.from_pretrained(str(path), local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    for guidance in (4.0, 1.0):
        generators = [torch.Generator().manual_seed(seed) for seed in (5, 6)]
        expected = pipeline([0, 3], guidance, generators, 5, output_type="np").images
        latents = sample(model, ["tench", "heron"], [5, 6], Sampling("ddim", 5, guidance, ""))
        found = model.decode(latents, SIDE)
        assert np.abs(found.astype(int) - (255 * expected).round()).max() <= 1 and len(np.unique(found)) > 50
    ancestral = [sample(model, ["tench"], [5], Sampling("ddpm", 5, 4.0, "", pull, 0.6), latents[:1]) for pull in (0, 1)]
    assert not torch.allclose(*ancestral, atol=1e-2)
    output = model.predict(latents, 500, model.conditions(["tench", "heron"], ""), 4.0)
    assert output.shape == (2, 8, LATENT, LATENT)
    alone = model.predict(latents, 500, model.conditions(["tench", "heron"], ""), 1.0)
    assert torch.allclose(output[:, 4:], alone[:, 4:], atol=1e-5), "the variance is that with the condition"
