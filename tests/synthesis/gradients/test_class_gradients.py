"""Gradients of all classes at once are those of a loop over classes and groups, to the second derivative."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from dcpipe import networks
from dcpipe.synthesis.gradients import class_gradients
from dcpipe.synthesis.gradients.class_gradients import ClassGradients, Parameters, check
from dcpipe.types import DataError

CLASSES = 3
NETS = [("convnet-d2-w3", 8), ("resnet10-ap-w2", 16)]


def network_of(name: str = "convnet-d2-w3", size: int = 8) -> nn.Module:
    torch.manual_seed(1)
    network = networks.build(name, CLASSES, size).double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))  # norms start from 1 and 0, where mistakes hide
    return network


def batch_of(n: int, size: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(n)
    inputs = torch.randn(CLASSES * n, 3, size, size, generator=generator, dtype=torch.float64)
    return inputs, torch.arange(CLASSES).repeat_interleave(n)


def means(n: int, *sizes: int) -> torch.Tensor:
    """Means of the first m of n samples, a row for each m."""
    return torch.stack([(torch.arange(n) < m).double() / m for m in sizes])


def slow(
    network: nn.Module, inputs: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor, names: tuple[str, ...]
) -> list[torch.Tensor]:
    """One pass per sample, group and class, by definition."""
    n = weights.shape[-1]
    chosen = [network.get_submodule(name).weight for name in names]
    found: list[list[list[torch.Tensor]]] = [[] for _ in chosen]
    for g in range(len(weights)):
        rows: list[list[torch.Tensor]] = [[] for _ in chosen]
        for c in range(CLASSES):
            w = weights[g] if weights.ndim == 2 else weights[g, c]
            losses = [
                w[i] * F.cross_entropy(network(inputs[c * n + i][None]), labels[c * n + i][None]) for i in range(n)
            ]
            each = torch.autograd.grad(torch.stack(losses).sum(), chosen, create_graph=True)
            for row, gradient in zip(rows, each, strict=True):
                row.append(gradient.flatten(1) if gradient.ndim == 2 else gradient.flatten(2).flatten(1))
        for layer, row in zip(found, rows, strict=True):
            layer.append(torch.stack(row))
    shapes = [weight.flatten(1).shape for weight in chosen]
    return [torch.stack([r.view(CLASSES, *shape) for r in layer]) for layer, shape in zip(found, shapes, strict=True)]


def as_slow(found: list[torch.Tensor]) -> list[torch.Tensor]:
    return [gradient.flatten(3) for gradient in found]


def agree(name: str, size: int, n: int, weights: torch.Tensor, parameters: Parameters = "conv") -> None:
    """Values, and the inputs' gradient of a distance that mixes all of them."""
    network, (inputs, labels) = network_of(name, size), batch_of(n, size)
    gradients = ClassGradients(network, parameters=parameters)
    ours, theirs = inputs.clone().requires_grad_(), inputs.clone().requires_grad_()
    found, _ = gradients(ours, labels, weights, create_graph=True)
    expected = slow(network, theirs, labels, weights, gradients.names)
    for a, b in zip(as_slow(found), expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)
    assert all(float(b.detach().abs().max()) > 1e-4 for b in expected)
    goals = [torch.randn(b.shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64) for b in expected]

    def pulled(of: list[torch.Tensor], by: torch.Tensor) -> torch.Tensor:
        apart = [(a - goal).square().sum() for a, goal in zip(of, goals, strict=True)]
        return torch.autograd.grad(torch.stack(apart).sum(), by)[0]

    expected_pull = pulled(expected, theirs)
    assert float(expected_pull.abs().max()) > 1e-4
    torch.testing.assert_close(pulled(as_slow(found), ours), expected_pull, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("parameters", ["conv", "conv+linear"])
@pytest.mark.parametrize(("name", "size"), NETS)
def test_equal_to_the_loop_over_classes_and_groups(name: str, size: int, parameters: Parameters) -> None:
    agree(name, size, 4, torch.rand(2, 4, generator=torch.Generator().manual_seed(0)).double(), parameters)


@pytest.mark.parametrize("sizes", [(4,), (2,), (4, 1), (4, 3), (1, 2, 3, 4)])
def test_means_of_prefixes(sizes: tuple[int, ...]) -> None:
    agree("convnet-d2-w3", 8, 4, means(4, *sizes), "conv+linear")


@pytest.mark.parametrize(("most", "passes"), [(4, 3), (8, 2), (64, 1)])
def test_on_a_cpu_a_pass_is_of_few_classes(most: int, passes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(class_gradients, "ON_CPU", most)
    calls: list[int] = []
    some = ClassGradients._one_pass
    monkeypatch.setattr(ClassGradients, "_one_pass", lambda self, *given: (calls.append(1), some(self, *given))[1])
    agree("convnet-d2-w3", 8, 4, means(4, 4, 2), "conv+linear")
    assert len(calls) == passes


def test_weights_of_each_class(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(class_gradients, "ON_CPU", 8)  # two classes per pass
    weights = torch.stack([means(4, 4).expand(3, 4), means(4, 1, 3, 2)])
    assert weights.shape == (2, CLASSES, 4)
    agree("convnet-d2-w3", 8, 4, weights, "conv+linear")


@pytest.mark.parametrize("runs", [0, 8])
def test_runs_and_scaled_slopes_find_the_same(runs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(class_gradients, "RUNS", runs)
    calls: list[int] = []
    summed = class_gradients._sums
    monkeypatch.setattr(class_gradients, "_sums", lambda *given: (calls.append(len(given[-1])), summed(*given))[1])
    agree("convnet-d2-w3", 8, 4, torch.rand(2, 4, generator=torch.Generator().manual_seed(2)).double(), "conv+linear")
    assert set(calls) == ({4} if runs else {1})


def test_runs_are_cut_where_any_weight_changes() -> None:
    def runs(*rows: list[float]) -> list[tuple[int, int]]:
        return class_gradients._runs(torch.tensor(rows)[:, None])

    assert runs([1, 1, 1, 1]) == [(0, 4)]
    assert runs([1, 1, 1, 1], [2, 2, 0, 0]) == [(0, 2), (2, 4)]
    assert runs([0, 1, 1, 0], [0, 0, 0, 0]) == [(1, 3)]
    assert runs([0, 0]) == [(0, 2)]
    assert class_gradients._runs(torch.tensor([[[1.0, 0, 0], [1.0, 1, 0]]])) == [(0, 1), (1, 2)]


def test_equal_to_vmap_of_grad() -> None:
    network, (inputs, labels) = network_of(), batch_of(4)
    weights = {name: p.detach() for name, p in network.named_parameters()}

    def loss(of: dict[str, torch.Tensor], images: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        # in-place ReLU is not for vmap: the same network with ReLU out of place
        said = torch.func.functional_call(plain, of, (images,))
        return F.cross_entropy(said, label)

    plain = network_of()
    for module in plain.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False
    expected = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, 0))(
        weights, inputs.view(CLASSES, 4, 3, 8, 8), labels.view(CLASSES, 4)
    )
    gradients = ClassGradients(network, parameters="conv+linear")
    found, _ = gradients(inputs, labels, means(4, 4), create_graph=False)
    for name, a in zip(gradients.names, found, strict=True):
        torch.testing.assert_close(a[0].flatten(2), expected[f"{name}.weight"].flatten(2), rtol=1e-9, atol=1e-11)


def test_float32_is_close() -> None:
    network, (inputs, labels) = network_of(), batch_of(5)
    expected = slow(network, inputs, labels, means(5, 5, 2), ("0", "4"))
    found, features = ClassGradients(network.float())(inputs.float(), labels, means(5, 5, 2), create_graph=False)
    assert features.dtype == torch.float32
    for a, b in zip(as_slow(found), expected, strict=True):
        assert a.dtype == torch.float32
        assert float(((a - b).abs().max() / b.abs().max()).detach()) < 1e-4


def test_without_create_graph_there_is_no_graph_and_no_state_is_left() -> None:
    network, (inputs, labels) = network_of(), batch_of(4)
    gradients = ClassGradients(network)
    graph, _ = gradients(inputs.clone().requires_grad_(), labels, means(4, 4, 1), create_graph=True)
    with torch.no_grad():
        bare, features = gradients(inputs.clone().requires_grad_(), labels, means(4, 4, 1), create_graph=False)
    assert all(a.requires_grad for a in graph) and not any(b.requires_grad for b in bare)
    assert not features.requires_grad
    for a, b in zip(graph, bare, strict=True):
        torch.testing.assert_close(a.detach(), b, rtol=1e-12, atol=1e-14)
    assert [tuple(b.shape) for b in bare] == [(2, CLASSES, 3, 27), (2, CLASSES, 3, 27)]
    assert gradients.names == ("0", "4") and gradients._reads == {}
    assert all(p.grad is None and p.requires_grad for p in network.parameters())
    assert not any(module._forward_hooks for module in network.modules()) and network[2].inplace


def test_optimiser_steps_of_the_network_are_seen() -> None:
    network, (inputs, labels) = network_of(), batch_of(2)
    gradients = ClassGradients(network)
    optimiser = torch.optim.SGD(network.parameters(), lr=0.5)
    F.cross_entropy(network(inputs), labels).backward()
    optimiser.step()
    found, _ = gradients(inputs, labels, means(2, 2), create_graph=False)
    for a, b in zip(as_slow(found), slow(network, inputs, labels, means(2, 2), gradients.names), strict=True):
        torch.testing.assert_close(a, b.detach(), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(("name", "size", "until"), [("convnet-d2-w3", 8, "7"), ("resnet10-ap-w2", 16, "layer4")])
@pytest.mark.parametrize("most", [64, 1])
def test_features_are_the_last_map_before_global_pooling(
    name: str, size: int, until: str, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(class_gradients, "ON_CPU", most)  # of 1: one class per pass
    network, (inputs, labels) = network_of(name, size), batch_of(2, size)
    kept: list[torch.Tensor] = []
    network.get_submodule(until).register_forward_hook(lambda _, __, out: kept.append(out.detach()))
    network(inputs)
    _, features = ClassGradients(network_of(name, size))(inputs, labels, means(2, 2), create_graph=False)
    torch.testing.assert_close(features, kept[0], rtol=1e-12, atol=1e-14)
    assert features.shape[2:] == (2, 2)


# --- what is refused ---


class Odd(nn.Module):
    """A network that does one thing wrong."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.first, self.second, self.how = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1), how
        self.fc = nn.Linear(3, CLASSES)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        x = self.second(self.first(inputs))
        if self.how == "twice":
            x = self.first(x)
        if self.how == "overwrites":
            x.relu_()
        return self.fc(x.mean((2, 3)))


class Skips(Odd):
    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.fc(self.first(inputs).mean((2, 3)))


def shared() -> nn.Module:
    network = Odd("shares")
    network.second.weight = network.first.weight
    return network


class Token(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.token = nn.Conv2d(3, 2, 1), nn.Parameter(torch.zeros(1, 1, 4))


BATCH = (
    "layer 'bn1' normalises with batch statistics where per-sample gradients are assumed; "
    "use a network with group norm such as convnet-d3-w128 or resnet10-ap, or set it to evaluation mode"
)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: networks.build("resnet10-w2", 3, 8), BATCH),
        (
            lambda: nn.Sequential(nn.Conv2d(4, 4, 3, groups=2)),
            "convolution '0' has groups=2, padding=(0, 0), padding_mode='zeros'; per-class gradients need 1 group and "
            "zero padding given as a number",
        ),
        (
            lambda: nn.Sequential(nn.Conv2d(4, 4, 3, padding="same")),
            "convolution '0' has groups=1, padding='same', padding_mode='zeros'; per-class gradients need 1 group and "
            "zero padding given as a number",
        ),
        (
            shared,
            "layers 'first' and 'second' share one weight; per-class gradients need a separate weight for each layer",
        ),
        (
            lambda: nn.Sequential(nn.Flatten(), nn.Linear(3, 3)),
            "network has no convolution whose gradients could be matched",
        ),
        (
            Token,
            "parameter 'token' of shape [1, 1, 4] is not a weight of a 2-d convolution or linear layer; per-class "
            "gradients are implemented only for these, so use another network",
        ),
    ],
)
def test_networks_that_cannot_be_done_are_refused(make: Callable[[], nn.Module], sentence: str) -> None:
    with pytest.raises(DataError) as error:
        ClassGradients(make())
    assert str(error.value) == sentence


def test_batch_norm_of_fixed_statistics_is_fine() -> None:
    check(networks.build("resnet10-w2", 3, 8).eval())
    with pytest.raises(DataError):
        check(nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2, track_running_stats=False)).eval())


@pytest.mark.parametrize(
    ("network", "sentence"),
    [
        (
            Odd("twice"),
            "layer 'first' is used more than once per forward pass, so its per-class gradient is not defined; use a "
            "network without shared layers",
        ),
        (
            Odd("overwrites"),
            "the network overwrites the input or output of layer 'second' (an in-place operation); per-class "
            "gradients need both, so use an operation that is not in-place",
        ),
        (Skips("skips"), "layer 'second' is not used in a forward pass; remove it from the network"),
    ],
)
def test_forward_passes_that_cannot_be_done_are_refused(network: nn.Module, sentence: str) -> None:
    gradients, (inputs, labels) = ClassGradients(network.double()), batch_of(2)
    for _ in range(2):  # a refusal leaves nothing behind
        with pytest.raises(DataError) as error:
            gradients(inputs, labels, means(2, 2), create_graph=True)
        assert str(error.value) == sentence


def test_arguments_that_do_not_fit_are_refused() -> None:
    network, (inputs, labels) = network_of(), batch_of(2)
    with pytest.raises(DataError) as error:
        ClassGradients(network)(inputs[:5], labels[:5], means(2, 2), create_graph=False)
    assert str(error.value) == (
        "weights [1, 2] are [groups, n] or [groups, classes, n] and need n inputs and n labels per class; "
        "got 5 inputs, 5 labels"
    )
    with pytest.raises(DataError) as error:
        ClassGradients(network, parameters="all")
    assert str(error.value) == "parameters must be conv or conv+linear, got 'all'"
