"""One step of sampling against the update of the paper, written out number by number in float64."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from painter import Painter
from tiny_model import LATENT

from dcpipe.synthesis.diffusion.folder import Folder
from dcpipe.synthesis.diffusion.sampling import Sampling, Step, sample

shares = st.floats(0.01, 0.99)
numbers = st.floats(-3, 3)


def tensor(value: float) -> torch.Tensor:
    return torch.full((1, 4, 1, 1), value, dtype=torch.float64)


@given(shares, shares, numbers, numbers, numbers, numbers, st.floats(0, 2), st.sampled_from(["ddpm", "ddim"]))
def test_a_step_is_the_papers(
    one: float, other: float, z: float, e: float, mode: float, noise: float, pull: float, sampler: Any
) -> None:
    before, after = min(one, other), max(one, other) + 0.005
    clean = (z - math.sqrt(1 - before) * e) / math.sqrt(before)
    if sampler == "ddim":
        moved = e - math.sqrt(1 - before) * pull * (mode - clean)
        expected = math.sqrt(after) * (z - math.sqrt(1 - before) * moved) / math.sqrt(before)
        expected += math.sqrt(1 - after) * moved
    else:  # the mean as DDPM gives it, by the noise and not by the clean latent
        beta = 1 - before / after
        deviation = math.sqrt(beta * (1 - after) / (1 - before))
        expected = (z - beta / math.sqrt(1 - before) * e) / math.sqrt(1 - beta)
        expected += deviation * pull * (mode - clean) + deviation * noise
    # The same noise and clean latent, said in the three ways of denoisers.
    velocity = math.sqrt(before) * e - math.sqrt(1 - before) * clean
    for prediction, said in (("epsilon", e), ("v_prediction", velocity), ("sample", clean)):
        step = Step(before, after, prediction, sampler, pull, True)
        found = step(tensor(z), tensor(said), tensor(mode), tensor(noise) if sampler == "ddpm" else None)
        assert torch.allclose(found, tensor(expected), atol=1e-8, rtol=1e-8)


@given(shares, numbers, numbers, st.sampled_from(["ddpm", "ddim"]))
def test_a_pull_leads_to_the_mode_and_a_free_step_nowhere(before: float, z: float, e: float, sampler: Any) -> None:
    after = before + (1 - before) / 2
    free = Step(before, after, "epsilon", sampler, 0.5, False)(tensor(z), tensor(e), None, None)
    clean = (z - math.sqrt(1 - before) * e) / math.sqrt(before)
    for mode in (clean + 2, clean - 2):
        pulled = Step(before, after, "epsilon", sampler, 0.5, False)(tensor(z), tensor(e), tensor(mode), None)
        assert torch.equal(torch.sign(pulled - free), tensor(math.copysign(1, mode - clean)))
        none = Step(before, after, "epsilon", sampler, 0.0, False)(tensor(z), tensor(e), tensor(mode), None)
        assert torch.equal(none, free)


@pytest.mark.parametrize("spread", [-1.0, 0.0, 1.0])
def test_a_learned_variance_lies_between_the_least_and_the_most(spread: float) -> None:
    before, after = 0.3, 0.5
    most = 1 - before / after
    least = most * (1 - after) / (1 - before)
    expected = math.sqrt(least ** ((1 - spread) / 2) * most ** ((1 + spread) / 2))
    output = torch.cat([tensor(0.1), tensor(spread)], dim=1)
    step = Step(before, after, "epsilon", "ddpm", 0.0, True)
    difference = step(tensor(1), output, None, tensor(1)) - step(tensor(1), output, None, tensor(0))
    assert torch.allclose(difference, tensor(expected))
    assert math.isclose(expected, math.sqrt(most)) == (spread == 1)


@pytest.mark.parametrize(("share", "steps", "pulled"), [(0.5, 50, 25), (0.29, 100, 29), (0.0, 7, 0), (1.0, 7, 7)])
def test_steps_with_a_pull(share: float, steps: int, pulled: int) -> None:
    assert Sampling("ddpm", steps, 1.0, "", 0.1, share).pulled == pulled


@pytest.mark.parametrize("sampler", ["ddpm", "ddim"])
def test_an_image_depends_on_its_mode_text_and_seed_alone(sampler: Any) -> None:
    model: Any = Painter(Folder(Path(), 16, LATENT), None, False)
    own = Sampling(sampler, 6, 3.0, "", 0.4, 0.5)
    modes = torch.from_numpy(np.random.default_rng(0).normal(size=(2, 4, LATENT, LATENT)).astype(np.float32))
    together = sample(model, ["a", "b"], [1, 2], own, modes)
    assert torch.equal(together, sample(model, ["a", "b"], [1, 2], own, modes))
    backwards = sample(model, ["b", "a"], [2, 1], own, modes.flip(0)).flip(0)
    assert torch.allclose(backwards, together, atol=1e-5)
    for change in (
        sample(model, ["b", "b"], [1, 2], own, modes),
        sample(model, ["a", "b"], [3, 2], own, modes),
        sample(model, ["a", "b"], [1, 2], own, modes.flip(0)),
    ):
        assert not torch.allclose(change[0], together[0], atol=1e-3)
    free = sample(model, ["a", "b"], [1, 2], own)
    assert torch.equal(free, sample(model, ["a", "b"], [1, 2], Sampling(sampler, 6, 3.0, "", 0.4, 0.1), modes))
    assert not torch.allclose(free, together, atol=1e-3)
