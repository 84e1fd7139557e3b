"""What matching of statistics costs, each thing beside its slow counterpart in the same run.

    python benchmarks/synthesis_statistics.py [--quick] [--device cuda] [--only collect] [--network resnet18-w16]

`collect`: class and global statistics of real images at every BatchNorm and convolution input, beside two loops that
go through the samples in every hook and add each one's numbers to its class's, found by `.item()`: one that also
measures them one by one, and one that measures a batch at once, as EDC's official code does. All forward the same
batches, decoded already, and must find the same numbers; what they take beyond that forward pass, timed too, is told
as well. Then the pass alone against the number of classes.
"""

from __future__ import annotations

import argparse
import platform
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from label_speed import interleaved, median_ratio
from torch import nn

from dcpipe import networks, views
from dcpipe.synthesis.observers import Observer
from dcpipe.synthesis.statistics import Statistics, collect
from dcpipe.types import IntArray, Teacher

PART = 512  # images a part of the real set


@dataclass(frozen=True)
class Setting:
    """What the command line chose."""

    device: torch.device
    network: str
    size: int
    images: int
    classes: int
    batch_size: int
    rounds: int


def teacher_of(setting: Setting, classes: int) -> Teacher:
    """Randomly initialised: speed does not depend on the weights."""
    torch.manual_seed(0)
    network = networks.build(setting.network, classes, setting.size)
    names = tuple(map(str, range(classes)))
    return Teacher(setting.network, network.state_dict(), names, (0.5,) * 3, (0.25,) * 3, setting.size, {})


def real_of(setting: Setting, classes: int) -> tuple[npt.NDArray[np.uint8], IntArray]:
    """Images u8 [n, s, s, 3] of noise, each of its own brightness, and their labels."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 128, (setting.images, setting.size, setting.size, 3), dtype=np.uint8)
    images += rng.integers(0, 128, (setting.images, 1, 1, 1), dtype=np.uint8)
    return images, rng.permutation(np.arange(setting.images) % classes)


class SampleLoop:
    """Hooks that go through the samples of a batch, with a dictionary of sums by class in every hook. `at_once`:
    measure the batch at once and only add in the loop."""

    def __init__(self, teacher: Teacher, patch: int, device: torch.device, *, at_once: bool) -> None:
        self.teacher, self.patch, self.device, self.at_once = teacher, patch, device, at_once
        self.network = networks.from_teacher(teacher, device)
        self.sums: dict[str, dict[int, list[torch.Tensor]]] = {}
        self.labels = torch.empty(0, dtype=torch.int64)
        for name, module in self.network.named_modules():
            if isinstance(module, nn.BatchNorm2d | nn.Conv2d):
                self.sums[name] = defaultdict(list)
                module.register_forward_pre_hook(self._hook(name, isinstance(module, nn.Conv2d)))

    def _hook(self, name: str, patches: bool) -> Callable[[nn.Module, tuple[torch.Tensor, ...]], None]:
        def hook(_: nn.Module, arguments: tuple[torch.Tensor, ...]) -> None:
            inputs = arguments[0]
            batch = self._measured(inputs, patches) if self.at_once else []
            for row in range(len(self.labels)):
                alone = [] if self.at_once else self._measured(inputs[row : row + 1], patches)
                found = [part[row] for part in batch] or [part[0] for part in alone]
                held = self.sums[name][int(self.labels[row].item())]
                if not held:
                    held += [part.clone() for part in found]
                else:
                    for total, new in zip(held, found, strict=True):
                        total += new

        return hook

    def _measured(self, inputs: torch.Tensor, patches: bool) -> list[torch.Tensor]:
        """Means and variances [m, channels] of inputs [m, c, h, w], then [m, patches]; resized though they may fit."""
        flat = inputs.reshape(*inputs.shape[:2], -1)
        found = [flat.mean(2), flat.var(2, correction=0)]
        if patches:
            p = self.patch
            high, wide = (-(-side // p) for side in inputs.shape[2:])
            fits = F.interpolate(inputs, (high * p, wide * p), mode="bilinear", align_corners=False)
            split = fits.view(len(inputs), -1, high, p, wide, p).permute(0, 2, 4, 1, 3, 5)
            cut = split.reshape(len(inputs), high * wide, -1).contiguous()
            found += [cut.mean(2), cut.var(2, correction=0)]
        return found

    @torch.no_grad()
    def run(self, images: npt.NDArray[np.uint8], labels: IntArray, batch_size: int) -> None:
        """All images, in batches."""
        for sums in self.sums.values():
            sums.clear()
        for start in range(0, len(images), batch_size):
            self.labels = torch.from_numpy(labels[start : start + batch_size]).to(self.device)
            pixels = torch.from_numpy(images[start : start + batch_size]).to(self.device).permute(0, 3, 1, 2) / 255.0
            self.network(views.normalise(pixels, self.teacher.mean, self.teacher.std))

    def result(self, counts: IntArray) -> tuple[torch.Tensor, torch.Tensor]:
        """Class means and variances [classes, entries], in the observers' order of entries."""
        rows = []
        for label, count in enumerate(counts.tolist()):
            held = [sums[label] for sums in self.sums.values()]
            both = [torch.cat([part for found in held for part in found[first::2]]) / count for first in (0, 1)]
            rows.append(torch.stack(both))
        means, variances = torch.stack(rows, 1).cpu()
        return means, variances


def beside_loops(setting: Setting) -> None:
    """One observer, the same images: seconds of all, and the largest difference of what they find."""
    teacher = teacher_of(setting, setting.classes)
    images, labels = real_of(setting, setting.classes)
    observer = Observer("it", teacher, setting.device)
    patch = 16 if setting.size >= 128 else 4
    loops = {
        name: SampleLoop(teacher, patch, setting.device, at_once=at_once)
        for name, at_once in (("loop that measures and adds", False), ("loop that adds", True))
    }
    found: dict[str, Statistics] = {}
    works: dict[str, Callable[[], object]] = {
        "forward alone": lambda: forward_all(setting, observer, images),
        "one pass": lambda: found.update(one_pass(setting, observer, images, labels, "within")),
    }
    works |= {name: partial(loop.run, images, labels, setting.batch_size) for name, loop in loops.items()}
    times = interleaved(works, setting.rounds, setting.device)
    bare, ours = times["forward alone"], times["one pass"]
    for name, each in times.items():
        print(
            f"  {name:<28} {statistics.median(each):8.2f} s, {setting.images / statistics.median(each):7.0f} images/s"
        )
    for name, loop in loops.items():
        beyond = statistics.median(
            (its - alone) / max(own - alone, 1e-9) for its, own, alone in zip(times[name], ours, bare, strict=True)
        )
        apart = furthest(found["it"], loop.result(np.bincount(labels, minlength=setting.classes)))
        print(
            f"  {name}: ratio {median_ratio(times[name], ours):.1f} (target 10), {beyond:.1f} beyond the forward pass; "
            f"numbers within {apart:.0e}"
        )
        assert apart < 1e-3, "the two do not find the same numbers"


def furthest(found: Statistics, slow: tuple[torch.Tensor, torch.Tensor]) -> float:
    """The largest relative difference of class means and variances; of numbers below 0.01 that of hundredths."""
    pairs = zip((found.class_mean, found.class_variance), slow, strict=True)
    return max(float(((ours.cpu() - theirs).abs() / theirs.abs().clamp(min=0.01)).max()) for ours, theirs in pairs)


@torch.no_grad()
def forward_all(setting: Setting, observer: Observer, images: npt.NDArray[np.uint8]) -> None:
    """What every way has to do."""
    for start in range(0, len(images), setting.batch_size):
        pixels = torch.from_numpy(images[start : start + setting.batch_size]).to(setting.device)
        observer.logits(pixels.permute(0, 3, 1, 2) / 255.0)


def one_pass(
    setting: Setting, observer: Observer, images: npt.NDArray[np.uint8], labels: IntArray, variance: str = "total"
) -> dict[str, Statistics]:
    """`collect`, of parts held in memory."""

    def real() -> Iterator[tuple[npt.NDArray[np.uint8], IntArray]]:
        for start in range(0, len(images), PART):
            yield images[start : start + PART], labels[start : start + PART]

    classes = observer.n_classes
    return collect({"it": observer}, real, classes, batch_size=setting.batch_size, variance=variance)


def against_classes(setting: Setting) -> None:
    """The same images dealt to more and more classes."""
    print("one pass, by classes")
    works, sizes = {}, {}
    for classes in sorted({10, 100, min(1000, setting.images)}):
        observer = Observer("it", teacher_of(setting, classes), setting.device)
        images, labels = real_of(setting, classes)
        works[str(classes)] = partial(one_pass, setting, observer, images, labels)
        sizes[str(classes)] = 16 * classes * observer.entries / 2**20
    times = interleaved(works, setting.rounds, setting.device)
    for name, each in times.items():
        middle = statistics.median(each)
        print(
            f"  {name:>4} classes {middle:8.2f} s, {setting.images / middle:7.0f} images/s; sums {sizes[name]:.1f} MiB"
        )


def statistics_pass(setting: Setting) -> None:
    """Statistics of the real images."""
    beside_loops(setting)
    against_classes(setting)


SECTIONS: dict[str, Callable[[Setting], None]] = {"collect": statistics_pass}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="sizes for a look, under a minute on a CPU")
    parser.add_argument("--device", default="cpu", help="cuda: sizes of ImageNet")
    parser.add_argument("--only", choices=list(SECTIONS), help="one section")
    parser.add_argument("--network", help="default: resnet18-w8 (quick), resnet18-w16, on a GPU resnet18")
    parser.add_argument("--size", type=int, help="pixels a side")
    parser.add_argument("--images", type=int)
    parser.add_argument("--classes", type=int)
    given = parser.parse_args()
    if given.device == "cuda":
        network, size, images, classes, batch, rounds = "resnet18", 224, 2000, 1000, 256, 3
    elif given.quick:
        network, size, images, classes, batch, rounds = "resnet18-w8", 32, 256, 100, 128, 1
    else:
        network, size, images, classes, batch, rounds = "resnet18-w16", 32, 1000, 100, 256, 3
    setting = Setting(
        torch.device(given.device),
        given.network or network,
        given.size or size,
        given.images or images,
        given.classes or classes,
        batch,
        rounds,
    )
    name = torch.cuda.get_device_name() if given.device == "cuda" else platform.machine()
    print(f"{name}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    print(f"{setting.network} at {setting.size} px, {setting.images} images, batches of {batch}, {rounds} rounds")
    for section in [given.only] if given.only else SECTIONS:
        SECTIONS[section](setting)


if __name__ == "__main__":
    main()
