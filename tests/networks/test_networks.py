"""Networks by name, and their features, logits and weights, against what is computed by hand."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from dcpipe import networks, views
from dcpipe.types import DataError, Teacher

CLASSES = ("a", "b", "c")
NAME = "convnet-d1-w2"
MEAN, STD = (0.1, 0.2, 0.3), (0.5, 0.6, 0.7)


def teacher_of(network: nn.Module, **change: object) -> Teacher:
    given = {"network": NAME, "weights": network.state_dict(), "classes": CLASSES, "mean": MEAN, "std": STD}
    return Teacher(**{**given, "size": 4, "accuracy": {}, **change})


def inputs_of(n: int = 5, seed: int = 0) -> torch.Tensor:
    return torch.rand(n, 3, 4, 4, generator=torch.Generator().manual_seed(seed))


def test_vectors_are_what_enters_the_head() -> None:
    network = networks.build(NAME, 3, 4).eval()
    inputs = inputs_of()
    vectors, logits = networks.forward(network, inputs)
    with torch.no_grad():
        expected = network[:-1](inputs)  # all but the linear layer
        torch.testing.assert_close(logits, network(inputs))
    torch.testing.assert_close(vectors, expected)
    weight, bias = network[-1].weight, network[-1].bias
    by_hand = torch.stack(
        [torch.stack([(w * v).sum() + b for w, b in zip(weight, bias, strict=True)]) for v in vectors]
    )
    torch.testing.assert_close(logits, by_hand.detach(), rtol=1e-4, atol=1e-5)
    assert not vectors.requires_grad and not logits.requires_grad


def test_reading_features_leaves_no_hook() -> None:
    network = networks.build(NAME, 3, 4)
    networks.forward(network, inputs_of())
    with pytest.raises(RuntimeError):
        networks.forward(network, torch.zeros(1, 3, 9, 9))
    assert len(networks.head(network)._forward_pre_hooks) == 0


def test_the_head_is_the_last_linear_layer() -> None:
    network = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    assert networks.head(network) is network[2]
    with pytest.raises(DataError) as error:
        networks.head(nn.Sequential(nn.Conv2d(3, 3, 1)))
    assert str(error.value) == (
        "network Sequential has no linear layer to read features from; choose one that ends in one"
    )


def test_teachers_are_asked_with_their_own_normalisation_and_averaged() -> None:
    torch.manual_seed(0)
    first, second = networks.build(NAME, 3, 4).eval(), networks.build(NAME, 3, 4).eval()
    nouns = [teacher_of(first), teacher_of(second, mean=(0.5, 0.5, 0.5), std=(1.0, 2.0, 3.0))]
    inputs = inputs_of()
    with torch.no_grad():
        each = [
            net(views.normalise(inputs, noun.mean, noun.std)) for net, noun in zip([first, second], nouns, strict=True)
        ]
    assert not torch.allclose(each[0], each[1])
    torch.testing.assert_close(networks.mean_logits([first, second], nouns, inputs), (each[0] + each[1]) / 2)
    torch.testing.assert_close(networks.mean_logits([first], nouns[:1], inputs), each[0])


def test_labels_are_float32_whatever_the_caller_s_autocast() -> None:
    torch.manual_seed(0)
    network, inputs = networks.build(NAME, 3, 4).eval(), inputs_of()
    expected = networks.mean_logits([network], [teacher_of(network)], inputs)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert networks.forward(network, inputs)[1].dtype == torch.bfloat16
        found = networks.mean_logits([network], [teacher_of(network)], inputs)
    assert found.dtype == torch.float32 and torch.equal(found, expected)


@pytest.mark.gpu
def test_labels_of_a_gpu_are_as_precise_as_they_are_stored() -> None:
    torch.manual_seed(0)
    network, inputs = networks.build("resnet10-w16", 10, 32).eval(), torch.rand(16, 3, 32, 32)
    noun = teacher_of(network)
    exact = networks.mean_logits([network], [noun], inputs)
    found = networks.mean_logits([network.cuda()], [noun], inputs.cuda()).cpu()
    assert float((found - exact).abs().max()) < 2.0**-10 * float(exact.abs().max()), "within a step of fp16"


def test_a_teacher_becomes_its_network_again() -> None:
    network = networks.build(NAME, 3, 4).eval()
    again = networks.from_teacher(teacher_of(network), torch.device("cpu"))
    assert torch.equal(again(inputs_of()), network(inputs_of()).detach())
    assert not again.training and not any(p.requires_grad for p in again.parameters())


def test_teachers_must_fit_the_images() -> None:
    noun = teacher_of(networks.build(NAME, 3, 4))
    networks.check_teachers({"x": noun}, CLASSES, 4)
    with pytest.raises(DataError) as error:
        networks.check_teachers({"x": noun}, CLASSES, 8)
    assert str(error.value) == "teacher 'x' was trained at 4 pixels, but images have 8; train it again"
    with pytest.raises(DataError) as error:
        networks.check_teachers({"x": noun}, ("a", "c", "b"), 4)
    assert str(error.value) == (
        "teacher 'x' and images: class 1 is 'b' on one side and 'c' on the other; use one class order"
    )


def bilinear(side: int, goal: int) -> torch.Tensor:
    """The weights f64 [goal, side] of bilinear resizing at pixel centres; shrinking widens the triangle (antialias)."""
    weights, scale = torch.zeros(goal, side, dtype=torch.float64), max(1.0, side / goal)
    for row in range(goal):
        centre = (row + 0.5) * side / goal - 0.5
        for column in range(side):
            weights[row, column] = max(0.0, 1 - abs(column - centre) / scale)
    return weights / weights.sum(1, keepdim=True)


@pytest.mark.parametrize(("side", "goal"), [(4, 8), (4, 6), (4, 4), (7, 3)])
def test_images_are_resized_just_before_the_network(side: int, goal: int) -> None:
    torch.manual_seed(0)
    network = networks.build(NAME, 3, goal).double().eval()
    names = list(network.state_dict())
    inputs = torch.rand(2, 3, side, side, dtype=torch.float64, requires_grad=True)
    weights = bilinear(side, goal)
    expected = network(torch.einsum("ij,mcjk,lk->mcil", weights, inputs, weights))
    networks.resize_inputs(network, goal)
    torch.testing.assert_close(network(inputs), expected)
    (gradient,) = torch.autograd.grad(network(inputs).sum(), inputs)
    torch.testing.assert_close(gradient, torch.autograd.grad(expected.sum(), inputs)[0])
    assert list(network.state_dict()) == names and networks.head(network) is network[-1]
    torch.testing.assert_close(networks.forward(network, inputs)[1], expected)


def test_a_teacher_that_resizes_takes_images_of_their_own_size_everywhere() -> None:
    network = networks.build(NAME, 3, 8).eval()
    noun = teacher_of(network, input_size=8)
    again, inputs = networks.from_teacher(noun, torch.device("cpu")), inputs_of()
    larger = torch.nn.functional.interpolate(inputs, (8, 8), mode="bilinear", align_corners=False)
    networks.check_teachers({"x": noun}, CLASSES, 4)
    torch.testing.assert_close(again(inputs), network(larger).detach())
    expected = network(views.normalise(larger, MEAN, STD)).detach()
    torch.testing.assert_close(networks.mean_logits([again], [noun], inputs), expected)
    copied = copy.deepcopy(again)
    assert torch.equal(copied(inputs), again(inputs)), "a copy resizes too"
