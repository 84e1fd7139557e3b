"""Accuracies of subsets against plain loops, for planted subsets, and the choices that follow in a run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matching_scenes import CPU, NETWORK, SIZE, KilledError, World, pixels_of, start_of

from dcpipe import networks
from dcpipe.random import permutation, philox, uniform
from dcpipe.synthesis import METHODS, Progress
from dcpipe.synthesis.gradients import engine as engines
from dcpipe.synthesis.gradients.accuracies import SubsetEvaluation, accuracies, evaluation_rows, seed_of
from dcpipe.synthesis.gradients.choices import Choices, Nested
from dcpipe.synthesis.gradients.engine import CHECKPOINT, Engine
from dcpipe.synthesis.gradients.real import RealImages
from dcpipe.synthesis.gradients.teaching import Teaching
from dcpipe.types import FloatArray, IntArray
from dcpipe.views import siamese

C = 3
PLAIN = SubsetEvaluation(NETWORK, Teaching(lr=0.05, batch=4), epochs=4, judged=7)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def real_of(world: World) -> RealImages:
    return RealImages(world.context, C, 0, 4)


def condensed_of(real: RealImages, d: int, seed: int = 2) -> torch.Tensor:
    """Normalised training images f32 [c, d, 3, s, s]."""
    pixels = pixels_of(np.repeat(np.arange(C), d), seed)
    plain = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
    return ((plain - real.mean) / real.std).unflatten(0, (C, d))


# ---------------------------------------------------------------------------------------------------------------------
# The accuracies


def word(seed: int, loop: int, n: int) -> int:
    """NumPy's generator, which counts on before it draws."""
    key, counter = np.array([seed, loop], dtype=np.uint64), np.array([999, 0, n, 0], dtype=np.uint64)
    return int(np.random.Philox(key=key, counter=counter).random_raw())


def slow(
    condensed: torch.Tensor, owners: IntArray, world: World, evaluation: SubsetEvaluation, seed: int, loop: int
) -> FloatArray:
    """One subset, image and weight after another, in float64."""
    pixels = world.images.astype(np.float64) / 255
    flat = pixels.reshape(-1, 3)
    mean, std = flat.mean(0), flat.std(0)
    out = np.zeros((C, max(owners) + 1))
    for n in range(1, max(owners) + 1):
        own = word(seed, loop, n)
        images, labels = [], []
        for label in range(C):
            for place, owner in enumerate(owners):
                if owner < n:
                    images.append(condensed[label, place].double())
                    labels.append(label)
        torch.manual_seed(own)
        network = networks.build(evaluation.network, C, SIZE).double()
        weights = list(network.parameters())
        speeds = [torch.zeros_like(weight) for weight in weights]
        teaching, step = evaluation.teaching, 0
        for epoch in range(evaluation.epochs):
            order = permutation(own ^ 1, epoch, len(images)).tolist()
            parts = -(-len(images) // teaching.batch)
            for some in np.array_split(order, parts):
                loss = torch.zeros((), dtype=torch.float64)
                for place, row in enumerate(some):
                    image = images[row][None]
                    if teaching.strategy:

                        def drawn(d: int, own: int = own, step: int = step, place: int = place) -> FloatArray:
                            return uniform(philox(own, step, d, np.array([place])))

                        image = siamese.apply(image, siamese.draw(teaching.strategy, drawn))
                    said = network(image)[0]
                    loss = loss + (said.exp().sum().log() - said[labels[row]]) / len(some)
                grads = torch.autograd.grad(loss, weights)
                with torch.no_grad():
                    for weight, speed, grad in zip(weights, speeds, grads, strict=True):
                        speed.mul_(teaching.momentum).add_(grad + teaching.decay * weight)
                        weight.sub_(teaching.lr * speed)
                step += 1
        for label in range(C):
            rows = np.flatnonzero(world.labels == label)
            chosen = rows[permutation(word(seed, loop, 0), label, len(rows))][: evaluation.judged]
            right = 0
            for row in chosen:
                image = torch.from_numpy((pixels[row] - mean) / std).permute(2, 0, 1)
                right += int(network(image[None])[0].argmax()) == label
            out[label, n - 1] = right / len(chosen)
    return out


@pytest.mark.parametrize("strategy", ["", "flip"])
@pytest.mark.parametrize("owners", [[0, 1, 2, 3], [0, 1, 0, 1, 0, 1, 0, 1], [0, 0, 0, 0, 1, 1, 1, 1]])
def test_accuracies_are_those_of_plain_loops(world: World, owners: list[int], strategy: str) -> None:
    real = real_of(world)
    evaluation = SubsetEvaluation(NETWORK, Teaching(lr=0.05, batch=4, strategy=strategy), 4, 7)
    condensed = condensed_of(real, len(owners))
    seen = []
    for seed, loop in ((0, 9), (5, 0)):
        found = accuracies(condensed, np.array(owners), real, evaluation, seed, loop)
        assert found.dtype == torch.float64
        expected = slow(condensed, np.array(owners), world, evaluation, seed, loop)
        np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12)
        seen.append(expected)
    assert not np.array_equal(*seen) and len(np.unique(np.stack(seen)[..., :-1])) >= 3, "not all right and all wrong"


def test_evaluation_images_are_drawn_anew_in_each_loop(world: World) -> None:
    classes = real_of(world).classes
    assert [len(rows) for rows in classes] == [12, 11, 10]
    rows = evaluation_rows(classes, 5, 0, 3)
    assert (world.labels[rows] == np.repeat(np.arange(C), 5)).all() and len(set(rows.tolist())) == 15
    assert np.array_equal(rows, evaluation_rows(classes, 5, 0, 3))
    for seed, loop in ((0, 4), (1, 3)):
        assert not np.array_equal(rows, evaluation_rows(classes, 5, seed, loop))
    assert sorted(evaluation_rows(classes, 100, 0, 3).tolist()) == list(range(33))
    assert len({seed_of(seed, loop, n) for seed in range(3) for loop in range(5) for n in range(4)}) == 60


def stripes(labels: IntArray, seed: int) -> np.ndarray:
    """u8 [n, s, s, 3]: noise with rows, columns or squares of a class that are easy to tell apart."""
    rows, columns = np.indices((SIZE, SIZE)) // 2 % 2
    shapes = np.stack([rows, columns, rows ^ columns])
    noise = np.random.default_rng(seed).integers(0, 100, (len(labels), SIZE, SIZE, 3))
    return (150 * shapes[labels][..., None] + noise).astype(np.uint8)


def test_subsets_of_noise_or_wrong_labels_are_worse_than_real_images(world: World) -> None:
    """S[1] shows another class, or nothing; every further image is a real one."""
    world.images = stripes(world.labels, 0)
    real = real_of(world)
    good = real.take(np.concatenate([rows[:5] for rows in real.classes])).unflatten(0, (C, 5))
    evaluation = SubsetEvaluation(NETWORK, Teaching(lr=0.05, batch=8), epochs=20, judged=10)
    wrong, noise = good.clone(), good.clone()
    wrong[:, 0] = good[:, 0].roll(1, 0)
    noise[:, 0] = torch.randn(good[:, 0].shape, generator=torch.Generator().manual_seed(0))
    told: list[int] = []
    means = [accuracies(x, np.arange(5), real, evaluation, 0, 0, told.append).mean(0) for x in (good, wrong, noise)]
    assert told == [1, 2, 3, 4] * 3
    assert float(means[0][0]) > 0.8 and float(means[1][0]) < 0.3 and float(means[2][0]) < 0.7
    assert all(float(mean[3]) > 0.7 for mean in means)
    assert all(float(mean[4]) == 0 for mean in means), "nothing is trained on the whole set"


def test_nothing_is_drawn_from_the_global_generator(world: World) -> None:
    real = real_of(world)
    torch.manual_seed(4)
    expected = torch.rand(3)
    torch.manual_seed(4)
    accuracies(condensed_of(real, 2), np.arange(2), real, PLAIN, 0, 0)
    assert torch.equal(torch.rand(3), expected)


def test_networks_learn_by_the_recipe_of_idc_whatever_the_base() -> None:
    own = Teaching(lr=1.0, momentum=0.0, decay=0.0, batch=256, strategy="flip", cutmix=0.25)
    choices = Choices(network="some", outer=1, inner=1, lr=0.1, teaching=own, subsets=Nested(epochs=7, judged=3))
    recipe = Teaching(lr=0.01, momentum=0.9, decay=5e-4, batch=256, strategy="flip", cutmix=0.25)
    assert SubsetEvaluation.of(choices) == SubsetEvaluation("some", recipe, 7, 3)


# ---------------------------------------------------------------------------------------------------------------------
# In a run


def engine_of(world: World, ipc: int = 3, **changed: Any) -> Engine:
    nested = Nested(period=2, metric="accuracy", epochs=2, judged=4)
    return world.engine(ipc=ipc, **{"outer": 5, "inner": 2, "lr": 5.0, "subsets": nested} | changed)


@pytest.mark.parametrize("match", ["gradients", "features"])
def test_the_choice_follows_what_accuracies_change_most(
    world: World, monkeypatch: pytest.MonkeyPatch, match: str
) -> None:
    measured = {0: [0.2, 0.4, 0.9], 1: [0.2, 0.6, 0.1], 3: [0.5, 0.5, 0.5]}
    asked: list[tuple[int, torch.Tensor]] = []

    def pretend(
        condensed: torch.Tensor, owners: IntArray, real: Any, evaluation: SubsetEvaluation, seed: int, loop: int, _: Any
    ) -> Any:
        asked.append((loop, condensed.clone()))
        assert owners.tolist() == [0, 1, 2] and (evaluation.epochs, evaluation.judged, seed) == (2, 4, 0)
        return torch.tensor([measured[loop]] * C)

    monkeypatch.setattr(engines, "accuracies", pretend)
    engine = engine_of(world, match=match)
    ends: list[tuple[int, torch.Tensor]] = []
    end, find = engine._end_loop, engine.losses.compute
    sizes: list[int] = []

    def ending() -> None:
        ends.append((engine.loop, (engine.pixels - engine.real.mean) / engine.real.std))
        end()

    def finding(*given: Any) -> Any:
        sizes.append(int(given[-3][0]))
        assert given[-1] is False, "no distance is measured in inner steps"
        return find(*given)

    engine._end_loop = ending  # type: ignore[method-assign]
    engine.losses.compute = finding  # type: ignore[method-assign]
    engine.run()
    assert [loop for loop, _ in asked] == [0, 1, 3]
    for loop, images in asked:
        assert torch.equal(images, dict(ends)[loop]), "images as they are at the end of the loop"
    assert sizes == [1, 1, 1, 1, 2, 2, 2, 2, 1, 1]
    assert engine.subsets is not None
    np.testing.assert_allclose(engine.subsets.measured[-1], [[0.5, 0.5]])


@pytest.mark.parametrize("base", ["idc", "dm"])
def test_measuring_moves_no_image_where_the_choice_is_the_same(world: World, base: str) -> None:
    """With two images there is only one smaller set, so measuring could change only random numbers."""
    options: dict[str, Any] = {"network": NETWORK, "outer": 3, "inner": 2, "real_batch": 4, "lr": 0.3}
    if base == "idc":
        options |= {"learn_images": 8, "lr": 60.0}
    made = []
    for changed in ({"metric": "feature"}, {"metric": "accuracy", "epochs": 1}):
        (world.folder / CHECKPOINT).unlink(missing_ok=True)
        arguments = start_of(2), world.context, 0, world.progress
        made.append(METHODS["mdc"](*arguments, base=base, options=options, period=1, **changed).images)
    assert np.array_equal(*made) and not np.array_equal(made[0], start_of(2).images)


def killing(world: World, dies: Callable[[str], bool], told: list[str], folder: Path) -> Progress:
    def report(done: int, total: int, note: str, images: Any) -> None:
        told.append(f"{done}: {note}")
        if dies(note):
            raise KilledError(note)

    return Progress(folder, folder, report)


def test_a_kill_while_measuring_repeats_the_measurement_alone(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "REPORT_SECONDS", -1.0)
    whole = engine_of(World(world.folder / "whole")).run()
    monkeypatch.setenv("DCPIPE_CHECKPOINT_SECONDS", "3600")  # what is kept is kept for the measurement
    told: list[str] = []
    deaths = ["loop 1 of 5: accuracy of subset 2 of 2", "loop 4 of 5: accuracy of subset 1 of 2", ""]
    for death in deaths:
        engine = engine_of(world)
        engine.progress = killing(world, lambda note, death=death: note == death, told, world.folder)
        if death:
            with pytest.raises(KilledError):
                engine.run()
        else:
            assert np.array_equal(engine.run().images, whole.images)
    first = [f"2: loop 1 of 5: accuracy of subset {n} of 2" for n in (1, 2)]
    assert [note for note in told if "loop 1 of" in note and "loss" not in note] == first * 2
    assert sum("loss" in note for note in told) == 10, "no inner step is made twice"
    fourth = [note for note in told if note.startswith("8: loop 4 of 5: acc")]
    assert [note[-6] for note in fourth] == ["1", "1", "2"]


@pytest.mark.gpu
def test_the_gpu_gives_the_accuracies_of_the_cpu(world: World) -> None:
    real = real_of(world)
    good, evaluation = condensed_of(real, 6), SubsetEvaluation(NETWORK, Teaching(batch=8), epochs=15, judged=10)
    here = accuracies(good, np.arange(6), real, evaluation, 0, 0)
    for name in ("pixels", "labels", "mean", "std"):
        setattr(real, name, getattr(real, name).cuda())
    there = accuracies(good.cuda(), np.arange(6), real, evaluation, 0, 0)
    assert there.is_cuda and here.device == CPU
    torch.testing.assert_close(there.cpu(), here, rtol=0, atol=0.11)  # one image of ten
