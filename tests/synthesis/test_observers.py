"""Observers: statistics and gradients are those of a slow loop over images, channels and patches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from slow_observers import Odd, inputs_of, pooled, teacher_of
from torch import nn

from dcpipe import networks, views
from dcpipe.synthesis import observers
from dcpipe.synthesis.observers import Observer, Segment
from dcpipe.types import DataError, FloatArray

CPU = torch.device("cpu")
NETS = [("odd", 11), ("resnet10-w2", 16), ("resnet10-w2", 64), ("convnet-d2-w3", 16)]
Build = Callable[[int], nn.Module]


@pytest.fixture(autouse=True)
def odd(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(networks.BUILDERS, "odd", lambda name, n, size: Odd(n) if name == "odd" else None)


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Build], None]]:
    """Lets a test say what the network `planted` is."""

    def plant(build: Build) -> None:
        monkeypatch.setitem(networks.BUILDERS, "planted", lambda name, n, size: build(n) if name == "planted" else None)

    return plant


def images_of(n: int, size: int, seed: int = 0) -> FloatArray:
    """Each of its own brightness, so that images differ in their means."""
    rng = np.random.default_rng(seed)
    return rng.uniform(size=(n, 3, size, size)) * rng.uniform(0.3, 1.0, size=(n, 1, 1, 1))


def exact(name: str, size: int, layers: str = "bn+conv", patch: int | None = None) -> Observer:
    """In float64."""
    observer = Observer("it", teacher_of(name, size), CPU, layers=layers, patch=patch)
    observer.network.double()
    return observer


@pytest.mark.parametrize(("name", "size"), NETS)
@pytest.mark.parametrize("patch", [3, 4])
def test_every_number_is_that_of_a_loop_over_pixels(name: str, size: int, patch: int) -> None:
    images = images_of(2, size)
    observer = exact(name, size, patch=patch)
    logits, means, variances = observer.measure(torch.from_numpy(images))
    watched = inputs_of(teacher_of(name, size), images, "bn+conv")
    for row in range(2):
        slow = pooled(watched, [row], patch)
        assert slow.shape == (2, observer.entries)
        np.testing.assert_allclose(means[row].numpy(), slow[0], rtol=1e-9, atol=1e-10)
        np.testing.assert_allclose(variances[row].numpy(), slow[1], rtol=1e-9, atol=1e-10)
    assert logits.shape == (2, 3) and np.ptp(slow[1]) > 0.1 and not torch.allclose(means[0], means[1], rtol=0.01)


def test_single_precision_is_near_and_batches_do_not_matter() -> None:
    observer = Observer("it", teacher_of("resnet10-w2", 16), CPU)
    images = torch.from_numpy(images_of(5, 16)).float()
    whole = observer.measure(images)
    assert {part.dtype for part in whole} == {torch.float32}
    for part, alone in zip(whole, observer.measure(images[3:4]), strict=True):
        torch.testing.assert_close(part[3:4], alone, rtol=1e-5, atol=1e-5)
    for part, precise in zip(whole, exact("resnet10-w2", 16).measure(images.double()), strict=True):
        torch.testing.assert_close(part.double(), precise, rtol=1e-4, atol=1e-5)


@pytest.mark.gpu
def test_a_gpu_finds_the_same() -> None:
    """Its kernels are others, and its activations lie channels last."""
    teacher, images = teacher_of("resnet10-w2", 16), torch.from_numpy(images_of(2, 16))
    there = Observer("it", teacher, torch.device("cuda"))
    there.network.double()
    inputs = [images.clone().requires_grad_(), images.cuda().requires_grad_()]
    here, found = exact("resnet10-w2", 16).measure(inputs[0]), there.measure(inputs[1])
    for ours, theirs in zip(found, here, strict=True):
        torch.testing.assert_close(ours.cpu(), theirs)
    gradients = [
        torch.autograd.grad(out[1].sum() + out[2].square().sum(), x)
        for out, x in zip((here, found), inputs, strict=True)
    ]
    torch.testing.assert_close(gradients[1][0].cpu(), gradients[0][0])


def test_variances_survive_a_large_mean() -> None:
    """Differences of mean squares would lose them altogether."""
    observer = Observer("it", teacher_of("convnet-d1-w1", 8), CPU, patch=4)
    images = 1000 + torch.from_numpy(images_of(2, 8)).float()
    _, _, variances = observer.measure(images)
    slow = pooled(inputs_of(teacher_of("convnet-d1-w1", 8), images.double().numpy(), "bn+conv"), [1], 4)
    np.testing.assert_allclose(variances[1], slow[1], rtol=0.01)


def test_segments_follow_the_order_of_the_layers() -> None:
    observer = Observer("it", teacher_of("odd", 11), CPU)
    lengths = [
        ("stem", "conv", 3), ("stem", "patch", 9), ("norm", "bn", 4), ("down", "conv", 4), ("down", "patch", 9),
        ("middle", "bn", 6), ("gate", "conv", 6), ("gate", "patch", 1), ("mix", "conv", 6), ("mix", "patch", 4),
        ("last", "bn", 6),
    ]  # fmt: skip
    assert [(part.layer, part.kind, part.stop - part.start) for part in observer.segments] == lengths
    starts = [0, *np.cumsum([length for _, _, length in lengths]).tolist()]
    assert [part.start for part in observer.segments] == starts[:-1] and observer.entries == starts[-1]
    assert (observer.name, observer.n_classes) == ("it", 3)


def test_batch_norms_alone_are_the_same_numbers() -> None:
    images = torch.from_numpy(images_of(3, 16))
    full, alone = exact("resnet10-w2", 16), exact("resnet10-w2", 16, layers="bn")
    rows = np.concatenate([np.arange(part.start, part.stop) for part in full.segments if part.kind == "bn"])
    assert alone.entries == len(rows) == 2 * (1 + 2 * 15 + 4 + 8 + 2) and len(rows) < full.entries
    assert {part.kind for part in alone.segments} == {"bn"}
    for some, every in zip(alone.measure(images)[1:], full.measure(images)[1:], strict=True):
        torch.testing.assert_close(some, every[:, rows], rtol=0, atol=0)


@pytest.mark.parametrize(("size", "patches"), [(32, 64), (64, 256), (128, 64)])
def test_patches_have_4_pixels_a_side_and_16_on_large_images(size: int, patches: int) -> None:
    observer = Observer("it", teacher_of("convnet-d1-w1", size), CPU)
    assert observer.segments == (Segment("0", "conv", 0, 3), Segment("0", "patch", 3, 3 + patches))


@pytest.mark.parametrize(("name", "size"), [*NETS, ("mobilenet_v2-small", 16)])
def test_gradients_are_those_of_finite_differences(name: str, size: int) -> None:
    observer = exact(name, size)
    inputs = torch.from_numpy(images_of(2, size)).requires_grad_()
    generator = torch.Generator().manual_seed(0)
    weights = [torch.randn(2, n, generator=generator).double() for n in (3, observer.entries, observer.entries)]

    def value(at: torch.Tensor) -> torch.Tensor:
        return sum((part * weight).sum() for part, weight in zip(observer.measure(at), weights, strict=True))

    [gradient] = torch.autograd.grad(value(inputs), inputs)
    for _ in range(3):
        way = torch.randn(inputs.shape, generator=generator).double()
        with torch.no_grad():
            grad = (value(inputs + 1e-6 * way) - value(inputs - 1e-6 * way)) / 2e-6
        torch.testing.assert_close((gradient * way).sum(), grad, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("which", [1, 2])
def test_means_and_variances_have_gradients_of_their_own(which: int) -> None:
    """Of one entry in the raw pixels, where they can be written down: 1 / n, and 2 (x - mean) / n, over the std."""
    observer = exact("odd", 11)
    inputs = torch.from_numpy(images_of(2, 11)).requires_grad_()
    [gradient] = torch.autograd.grad(observer.measure(inputs)[which][0, 1], inputs)
    seen = (inputs.detach()[0, 1] - 0.5) / 0.25
    expected = torch.zeros_like(inputs)
    expected[0, 1] = (1.0 if which == 1 else 2 * (seen - seen.mean())) / 121 / 0.25
    torch.testing.assert_close(gradient, expected)


def test_an_input_is_measured_before_anything_changes_it(planted: Callable[[Build], None]) -> None:
    class Overwriting(nn.Module):
        def __init__(self, n_classes: int) -> None:
            super().__init__()
            self.body, self.head = nn.Conv2d(3, 2, 1), nn.Linear(2, n_classes)

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            out = self.body(inputs)
            inputs.mul_(0)
            return self.head(out.mean((2, 3)))

    planted(Overwriting)
    images = images_of(2, 8)
    with torch.no_grad():
        _, means, variances = exact("planted", 8).measure(torch.from_numpy(images))
    slow = pooled(inputs_of(teacher_of("planted", 8), images, "bn+conv"), [0], 4)
    np.testing.assert_allclose(np.stack([means[0], variances[0]]), slow, rtol=1e-9)


def test_logits_are_the_networks_and_hooks_rest() -> None:
    teacher = teacher_of("resnet10-w2", 16)
    observer = Observer("it", teacher, CPU)
    images = torch.from_numpy(images_of(2, 16)).float()
    direct = networks.from_teacher(teacher, CPU)(views.normalise(images, teacher.mean, teacher.std))
    torch.testing.assert_close(observer.logits(images), direct)
    torch.testing.assert_close(observer.measure(images)[0], direct)
    with pytest.raises(RuntimeError):
        observer.measure(images.to(torch.complex64))
    torch.testing.assert_close(observer.logits(images), direct)  # a failed pass leaves no state


def test_running_statistics_lie_where_batch_norms_are() -> None:
    teacher = teacher_of("odd", 11)
    observer = Observer("it", teacher, CPU)
    for found, name in zip(observer.running(), ("running_mean", "running_var"), strict=True):
        assert found.shape == (observer.entries,) and found.dtype == torch.float32
        for part in observer.segments:
            if part.kind == "bn":
                assert torch.equal(found[part.start : part.stop], teacher.weights[f"{part.layer}.{name}"])
            else:
                assert found[part.start : part.stop].isnan().all()


def test_statistics_are_in_float32_under_autocast() -> None:
    observer = Observer("it", teacher_of("resnet10-w2", 16), CPU)
    images = torch.from_numpy(images_of(2, 16)).float().requires_grad_()
    precise = observer.measure(images)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = observer.measure(images)
    assert {part.dtype for part in rough} == {torch.float32}
    for part, reference in zip(rough, precise, strict=True):
        torch.testing.assert_close(part, reference, rtol=0.1, atol=0.05)
        assert not torch.equal(part, reference)
    [gradient] = torch.autograd.grad(rough[2].sum(), images, retain_graph=True)
    [expected] = torch.autograd.grad(precise[2].sum(), images)
    assert torch.cosine_similarity(gradient.flatten(), expected.flatten(), dim=0) > 0.98


def test_the_sums_of_half_precision_are_not_in_half_precision(planted: Callable[[Build], None]) -> None:
    """bfloat16 has 8 bits: any sum of 1,024 values, rounded to it, would be off by far more."""
    planted(lambda n: nn.Sequential(nn.Identity(), nn.Conv2d(3, n, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()))
    observer = Observer("it", teacher_of("planted", 32), CPU)
    observer.network[0] = Halved()
    images = torch.from_numpy(images_of(1, 32)).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        _, means, variances = observer.measure(images)
    seen = views.normalise(images, (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)).bfloat16().double()
    torch.testing.assert_close(means[0, :3].double(), seen.mean((2, 3))[0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(variances[0, :3].double(), seen.var((2, 3), correction=0)[0], rtol=1e-5, atol=1e-5)


class Halved(nn.Module):
    """bfloat16 from here on."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return inputs.bfloat16()


def refused(name: str, size: int = 16, **options: object) -> str:
    with pytest.raises(DataError) as caught:
        Observer("it", teacher_of(name, size), CPU, **options)
    return str(caught.value)


def test_what_cannot_be_watched_is_refused(planted: Callable[[Build], None]) -> None:
    lacking = "observer 'it': network 'convnet-d2-w3' has no BatchNorm2d layer to observe; "
    assert refused("convnet-d2-w3", layers="bn") == lacking + (
        "leave it out, or choose a method that observes convolutions too (gvbsm, edc)"
    )
    planted(lambda n: nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, n)))
    lacking = "observer 'it': network 'planted' has no BatchNorm2d or Conv2d layer to observe; leave it out"
    assert refused("planted") == lacking
    assert refused("odd", 11, layers="conv") == "observer 'it': layers must be bn or bn+conv, got 'conv'"
    assert refused("odd", 11, patch=0) == "observer 'it': patch must be at least 1 pixel, got 0"


def test_a_layer_used_twice_is_refused(planted: Callable[[Build], None]) -> None:
    class Twice(nn.Module):
        def __init__(self, n_classes: int) -> None:
            super().__init__()
            self.body, self.head = nn.Conv2d(3, 3, 1), nn.Linear(3, n_classes)

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return self.head(self.body(self.body(inputs)).mean((2, 3)))

    planted(Twice)
    assert refused("planted") == (
        "observer 'it': network 'planted' uses layer 'body' more than once per forward pass, so the statistics of its "
        "input are not defined; leave this observer out"
    )


def test_images_of_another_size_are_refused() -> None:
    with pytest.raises(DataError) as caught:
        Observer("it", teacher_of("odd", 11), CPU).measure(torch.zeros(1, 3, 12, 12))
    assert str(caught.value) == "observer 'it' was trained at 11 pixels, images are 3 x 12 x 12; train it again"


@pytest.mark.parametrize("layers", ["bn", "bn+conv"])
def test_an_observer_that_resizes_measures_what_its_network_sees(layers: str) -> None:
    small = teacher_of("resnet10-w2", 8)
    images = torch.from_numpy(images_of(2, 8)).float()
    larger = nn.functional.interpolate(images, (16, 16), mode="bilinear", align_corners=False)
    resizing = Observer("it", replace(small, input_size=16), CPU, layers=layers)
    direct = Observer("it", replace(small, size=16), CPU, layers=layers)
    assert resizing.segments == direct.segments
    for found, expected in zip(resizing.measure(images), direct.measure(larger), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_moments_have_second_derivatives() -> None:
    """Which the Hessian of the synthesis loss needs, and which the hand-written backward pass must not cut off."""
    images = torch.randn(2, 3, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    assert torch.autograd.gradgradcheck(observers._channels, (images,))
    assert torch.autograd.gradgradcheck(lambda seen: observers._patches(seen, 2), (images,))
