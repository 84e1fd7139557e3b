"""What gradient matching costs, each thing beside its slow counterpart in the same run.

    python benchmarks/synthesis_gradients.py [--quick] [--device cuda] [--network convnet-d3-w32] [--threads 2]

`step`: one matching step, from decoded and augmented crops to the gradient of the loss at the synthetic ones, for all
classes. Beside it the loop over classes as the papers (IDC, MDC) and their official code have it: gradients of real and
synthetic images w.r.t. every parameter, a second pass over the subset for MDC's term, `backward` through it all, for
one class after another. Both must find the same gradients (1e-4 of the largest). A second loop asks
`backward` for the images' gradient alone, which spares it the network's third-order part that the official loop
computes and drops.
Then what MDC's subset term adds to IDC's step.

`outer`: the same for an outer loop of IDC, whose every inner step is a matching step and 32 SGD steps of the network on
64 real images; those are the same code on both sides, so the ratio of an inner step is that of the loop.

`growth`: time and memory against classes, images a class and factor (an image is decoded to factor^2 crops).
"""

from __future__ import annotations

import argparse
import copy
import platform
import statistics
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
import torch.nn.functional as F
from label_speed import held_mib, interleaved, median_ratio
from torch import nn

from dcpipe import networks
from dcpipe.synthesis.gradients.class_gradients import ON_CPU, ClassGradients
from dcpipe.synthesis.gradients.distances import mse
from dcpipe.synthesis.gradients.teaching import Teaching

LEARNT = 32  # steps of the network after a matching step: IDC's 2000 images in batches of 64


@dataclass(frozen=True)
class Setting:
    """What the command line chose: CIFAR-10's shapes but for the network's width."""

    device: torch.device
    network: str
    rounds: int
    at_once: int | None  # classes in one pass, 0 for all, None as the engine does
    classes: int = 10
    ipc: int = 10
    factor: int = 2
    real: int = 64  # images a class
    size: int = 32
    subset: int = 5  # images of MDC's S[m]; 0: IDC

    @property
    def together(self) -> int:
        """Classes in one pass."""
        few = max(1, ON_CPU // self.crops) if self.device.type == "cpu" else 0
        return (few if self.at_once is None else self.at_once) or self.classes

    @property
    def crops(self) -> int:
        """A class."""
        return self.ipc * self.factor**2

    def __str__(self) -> str:
        kind = f"subset of {self.subset}" if self.subset else "no subset"
        return f"{self.classes:>3} classes, ipc {self.ipc:>2}, factor {self.factor}, {kind}"


@dataclass(frozen=True, eq=False)
class Batch:
    """Normalised images f32 [classes, n, 3, s, s] of noise, and labels i64 [classes]."""

    real: torch.Tensor
    crops: torch.Tensor
    labels: torch.Tensor


def made(setting: Setting) -> tuple[nn.Module, Batch]:
    """A network and a step's images; speed does not depend on the values."""
    torch.manual_seed(0)
    network = networks.build(setting.network, setting.classes, setting.size).to(setting.device)
    sides = (3, setting.size, setting.size)
    real = torch.randn(setting.classes, setting.real, *sides)
    crops = torch.randn(setting.classes, setting.crops, *sides)
    labels = torch.arange(setting.classes)
    return network, Batch(*(part.to(setting.device) for part in (real, crops, labels)))


def loop(setting: Setting, network: nn.Module, batch: Batch, *, images_alone: bool) -> torch.Tensor:
    """The papers' step, class by class: dL/dcrops [classes, n, 3, s, s]."""
    weights = list(network.parameters())
    kept = [row for row, weight in enumerate(weights) if weight.ndim > 2]
    found: list[torch.Tensor] = []
    for of_class in range(setting.classes):
        crops = batch.crops[of_class].detach().requires_grad_()
        label = batch.labels[of_class]

        def gradients(images: torch.Tensor, graph: bool, label: torch.Tensor = label) -> tuple[torch.Tensor, ...]:
            loss = F.cross_entropy(network(images), label.expand(len(images)))
            return torch.autograd.grad(loss, weights, create_graph=graph)

        real = gradients(batch.real[of_class], False)
        ours = [gradients(crops, True)]
        if setting.subset:
            ours.append(gradients(crops[: setting.subset * setting.factor**2], True))
        loss = torch.stack([(each[row] - real[row]).square().sum() for each in ours for row in kept]).sum()
        if images_alone:
            found += torch.autograd.grad(loss, crops)
        else:
            for weight in weights:
                weight.grad = None
            loss.backward()  # type: ignore[no-untyped-call]
            assert crops.grad is not None
            found.append(crops.grad)
    return torch.stack(found)


def at_once(setting: Setting, network: nn.Module, batch: Batch) -> torch.Tensor:
    """Ours: the same."""
    gradients = ClassGradients(network)
    crops, n = setting.crops, setting.subset * setting.factor**2
    means = torch.full((1, setting.real), 1 / setting.real)
    rows = [torch.full((crops,), 1 / crops)]
    if n:
        rows.append((torch.arange(crops) < n) / n)
    groups = torch.stack(rows)
    found: list[torch.Tensor] = []
    for a in range(0, setting.classes, setting.together):
        chunk = slice(a, a + setting.together)
        labels = batch.labels[chunk]
        real, _ = gradients(
            batch.real[chunk].flatten(0, 1), labels.repeat_interleave(setting.real), means, create_graph=False
        )
        images = batch.crops[chunk].flatten(0, 1).requires_grad_()
        ours, _ = gradients(images, labels.repeat_interleave(crops), groups, create_graph=True)
        found += torch.autograd.grad(mse(ours, real).sum(), images)
    return torch.cat(found).view_as(batch.crops)


def peak(work: Callable[[], object], device: torch.device) -> float:
    """MiB that one call needs at its highest, beyond what was there before it."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        allocated = torch.cuda.memory_allocated(device)
        work()
        return (torch.cuda.max_memory_allocated(device) - allocated) / 2**20
    before = held_mib()
    work()
    return held_mib(peak=True) - before


def compared(setting: Setting) -> None:
    """Ours beside both loops: seconds, ratios, memory, and how far the gradients are apart."""
    network, batch = made(setting)
    works: dict[str, Callable[[], torch.Tensor]] = {
        "loop over classes": partial(loop, setting, network, batch, images_alone=False),
        "loop, images alone": partial(loop, setting, network, batch, images_alone=True),
        "at once": partial(at_once, setting, network, batch),
    }
    exact, found = works["loop over classes"](), works["at once"]()
    apart = float((found - exact).abs().max() / exact.abs().max())
    times = interleaved(works, setting.rounds, setting.device, warm=True)
    print(f"{setting}: gradients within {apart:.0e} of the largest")
    for name, work in works.items():
        ratio = median_ratio(times[name], times["at once"])
        print(
            f"  {name:<20} {statistics.median(times[name]):8.3f} s, {ratio:5.2f} x ours (target 4), "
            f"{peak(work, setting.device):7.0f} MiB",
            flush=True,
        )
    assert apart < 1e-4, "the two do not find the same gradients"


def subset_term(setting: Setting) -> None:
    """MDC's step beside IDC's, both ours and both as loops."""
    network, batch = made(setting)
    works: dict[str, Callable[[], torch.Tensor]] = {}
    for name, subset in (("MDC", setting.subset), ("IDC", 0)):
        chosen = replace(setting, subset=subset)
        works[f"{name} at once"] = partial(at_once, chosen, network, batch)
        works[f"{name} loop"] = partial(loop, chosen, network, batch, images_alone=False)
    times = interleaved(works, setting.rounds, setting.device)
    for kind, goal in (("at once", " (target 1.1)"), ("loop", "")):
        ratio = median_ratio(times[f"MDC {kind}"], times[f"IDC {kind}"])
        print(f"  a subset of {setting.subset} images, {kind}: MDC takes {ratio:.2f} x IDC's time{goal}", flush=True)


def growth(setting: Setting) -> None:
    """Ours beside the official loop, one thing varied at a time."""
    print("time and memory (ours; loop over classes)")
    varied = [replace(setting, classes=classes) for classes in (2, 5, 20)]
    varied += [replace(setting, ipc=ipc, subset=max(1, ipc // 2)) for ipc in (2, 20)]
    varied += [replace(setting, factor=factor) for factor in (1, 3)]
    for chosen in varied:
        network, batch = made(chosen)
        works = {
            "ours": partial(at_once, chosen, network, batch),
            "loop": partial(loop, chosen, network, batch, images_alone=False),
        }
        times = interleaved(works, setting.rounds, setting.device)
        told = [f"{statistics.median(times[name]):.3f} s {peak(works[name], setting.device):.0f} MiB" for name in works]
        print(f"  {chosen}: {told[0]}; {told[1]}; {median_ratio(times['loop'], times['ours']):.2f} x", flush=True)


def step(setting: Setting) -> None:
    """A matching step."""
    compared(setting)
    subset_term(setting)


def outer(setting: Setting) -> None:
    """An inner step with the network's learning, of whose steps a quarter is timed."""
    network, batch = made(setting)
    pupil = copy.deepcopy(network)
    teaching = Teaching(strategy="color_crop", cutmix=0.5)
    optimizer = teaching.optimizer(pupil)
    images = batch.real.flatten(0, 1)[:: max(1, setting.classes * setting.real // teaching.batch)][: teaching.batch]
    labels = torch.arange(len(images), device=setting.device) % setting.classes

    def learn() -> None:
        for number in range(LEARNT // 4):
            teaching.step(pupil, optimizer, images, labels, 0, number)

    works: dict[str, Callable[[], object]] = {
        "loop": partial(loop, setting, network, batch, images_alone=False),
        "ours": partial(at_once, setting, network, batch),
        "learn": learn,
    }
    times = interleaved(works, setting.rounds, setting.device)
    whole = {name: [a + 4 * b for a, b in zip(times[name], times["learn"], strict=True)] for name in ("loop", "ours")}
    print(f"an inner step with {LEARNT} learning steps of {len(images)} images, {setting}")
    for name, its in whole.items():
        share = statistics.median(4 * b / a for a, b in zip(its, times["learn"], strict=True))
        ratio = median_ratio(its, whole["ours"])
        told = f"{statistics.median(its):8.3f} s, {ratio:5.2f} x ours (target 4)"
        print(f"  {name:<5} {told}; learning is {100 * share:.0f} %")
    most = median_ratio(whole["loop"], [4 * each for each in times["learn"]])
    print(f"  matching that took no time would give {most:.2f} x", flush=True)


SECTIONS: dict[str, Callable[[Setting], None]] = {"step": step, "outer": outer, "growth": growth}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="tiny sizes: shows that the lines print")
    parser.add_argument("--device", default="cpu", help="cuda: the papers' width")
    parser.add_argument("--only", choices=list(SECTIONS), help="one section")
    parser.add_argument("--network", help="default: convnet-d3-w32, w4 (quick), on a GPU w128")
    parser.add_argument("--threads", type=int, help="of torch on a CPU")
    parser.add_argument("--at-once", type=int, help="classes in one pass, 0 for all; default: as the engine does")
    given = parser.parse_args()
    if given.threads:
        torch.set_num_threads(given.threads)
    on_gpu = given.device == "cuda"
    network = given.network or f"convnet-d3-w{128 if on_gpu else 4 if given.quick else 32}"
    setting = Setting(torch.device(given.device), network, 1 if given.quick else 3, given.at_once)
    if given.quick:
        setting = replace(setting, classes=3, ipc=2, real=8, subset=1)
    name = torch.cuda.get_device_name() if on_gpu else platform.machine()
    print(f"{name}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    print(
        f"{setting.network} at {setting.size} px, {setting.real} real images a class, {setting.together} classes a pass"
    )
    for section in [given.only] if given.only else SECTIONS:
        SECTIONS[section](setting)


if __name__ == "__main__":
    main()
