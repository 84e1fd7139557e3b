"""What a step of recovery costs, beside a plain reference written from the papers' definitions, in one run.

    python benchmarks/synthesis_recovery.py [--quick] [--device cuda] [--only step] [--batch 100] [--rounds 5]

`step`: EDC's step (soft category-aware matching, running average of statistics, flatness) with five observers in turn.
The reference does the same sums the plain way: a hook at every BatchNorm and convolution copies its input with the
channels in front; mean and variance are taken separately; convolutions resize their input bilinearly to whole patches
even where they fit and rearrange it into a copy; every hook gathers the targets of the batch's labels anew in every
step; the loss is read by `.item()` and the images are cloned each step. All float32 on a CPU; on a GPU ours runs the
networks in bfloat16, as it always does. Both take the same looks of the images, and their losses must agree to 1e-4
(in float32). `bare` is that step without any matching: step minus bare is what matching costs.

`memory`: peak of a step against the batch's size and the number of observers. `classes`: a step against the number of
classes in the batch. Times are of the process on a CPU, of the clock on a GPU; medians over interleaved rounds.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from label_speed import held_mib
from torch import nn

from dcpipe import networks, views
from dcpipe.synthesis.base import Progress, SynthesisContext
from dcpipe.synthesis.matching import Matching
from dcpipe.synthesis.recovery import Engine, Recovery, batches_of
from dcpipe.synthesis.statistics import Statistics
from dcpipe.synthesis.weak_augmentation import WeakAugmentation
from dcpipe.types import ImageSet, IntArray, Teacher

NARROW = ("resnet18-w16", "convnet-d3-w32", "wrn-16-1", "mobilenet_v2_x0_5-small", "shufflenet_v2_x0_5-small")
FULL = ("resnet18-small", "convnet-d3-w128", "wrn-16-2", "mobilenet_v2_x0_5-small", "shufflenet_v2_x0_5-small")
SIZE, PATCH, ALPHA, MOMENTUM = 32, 4, 0.5, 0.8
CHOICES = Recovery(
    iterations=10**6,
    lr=0.05,
    flat=0.25,
    matching=Matching(alpha=ALPHA, classes="mixture", momentum=MOMENTUM),
    augmentation=WeakAugmentation(crop_min=0.5),
)


@dataclass(frozen=True)
class Setting:
    """What the command line chose."""

    device: torch.device
    networks: tuple[str, ...]
    batch: int
    classes: int
    rounds: int


def engine_of(setting: Setting, choices: Recovery = CHOICES) -> Engine:
    """On networks of random weights and images of noise: speed does not depend on them. One batch."""
    rng = np.random.default_rng(0)
    names = tuple(map(str, range(setting.classes)))
    teachers = {}
    for name in setting.networks:
        torch.manual_seed(0)
        weights = networks.build(name, setting.classes, SIZE).state_dict()
        teachers[name] = Teacher(name, weights, names, (0.5,) * 3, (0.25,) * 3, SIZE, {})
    real = np.arange(max(2 * setting.classes, 100)) % setting.classes
    pixels = rng.integers(0, 256, (len(real), SIZE, SIZE, 3), dtype=np.uint8)

    def parts() -> Iterator[tuple[npt.NDArray[np.uint8], IntArray]]:
        yield pixels, real

    labels = np.arange(setting.batch) * setting.classes // setting.batch
    start = ImageSet(
        rng.integers(0, 256, (setting.batch, SIZE, SIZE, 3), dtype=np.uint8), labels, np.arange(setting.batch), names
    )
    with tempfile.TemporaryDirectory() as folder:
        progress = Progress(Path(folder), Path(folder), lambda *_: None)
        context = SynthesisContext(teachers, parts, real, setting.device)
        return Engine(start, context, 0, progress, replace(choices, batch_size=setting.batch))


def steps_of(engine: Engine) -> Iterator[object]:
    """Our steps on the engine's first batch, for ever."""
    [rows] = batches_of(engine.start, engine.choices)
    return engine._steps(engine._open(rows, None), 0, rows)


class PlainHook:
    """Mean and variance of one layer's input and their distance from the targets, the plain way."""

    def __init__(self, module: nn.Module, spans: list[slice], found: Statistics, labels: torch.Tensor) -> None:
        self.spans, self.labels = spans, labels
        self.mean, self.variance = found.mean, found.variance
        self.class_mean, self.class_variance = found.class_mean, found.class_variance
        self.module, self.weight, self.muted = module, 1.0, False
        self.average: list[torch.Tensor | None] = [None] * (2 * len(spans))
        self.loss = torch.zeros(())
        module.register_forward_pre_hook(self.hook)

    def hook(self, _: nn.Module, arguments: tuple[torch.Tensor, ...]) -> None:
        if self.muted:
            return
        inputs = arguments[0]
        m, c = inputs.shape[:2]
        rows = [inputs.permute(1, 0, 2, 3).contiguous().view(c, -1)]
        if len(self.spans) == 2:
            p, (h, w) = PATCH, inputs.shape[2:]
            high, wide = -(-h // p), -(-w // p)
            large = F.interpolate(inputs, (high * p, wide * p), mode="bilinear", align_corners=False)
            cut = large.view(m, c, high, p, wide, p).permute(2, 4, 0, 1, 3, 5).contiguous()
            patches = cut.view(high * wide, -1)
            rows.append(patches if (h, w) != (1, 1) else inputs.reshape(1, -1))
        self.loss = torch.zeros((), device=inputs.device)
        for place, (values, span) in enumerate(zip(rows, self.spans, strict=True)):
            pair = (values.mean(1), values.var(1, correction=0))
            for which, batch in enumerate(pair):
                self.loss = self.loss + self.distance(2 * place + which, which, batch, span)

    def distance(self, place: int, which: int, batch: torch.Tensor, span: slice) -> torch.Tensor:
        kept, now = self.average[place], batch.detach()
        average = now if kept is None else MOMENTUM * kept + (1 - MOMENTUM) * now
        self.average[place] = average
        value = average + batch - now
        whole = (self.mean, self.variance)[which][span]
        if isinstance(self.module, nn.BatchNorm2d):
            whole = (self.module.running_mean, self.module.running_var)[which]
        own = (self.class_mean, self.class_variance)[which][:, span][self.labels].mean(0)
        return ALPHA * (value - whole).norm() + (1 - ALPHA) * (value - own).norm()


class Plain:
    """The reference's observers, images and optimiser."""

    def __init__(self, engine: Engine) -> None:
        [rows] = batches_of(engine.start, engine.choices)
        self.engine, self.labels = engine, engine.labels[torch.from_numpy(rows).to(engine.labels.device)]
        self.pixels = engine.pixels(rows).requires_grad_(True)
        self.average = self.pixels.detach().clone()
        self.optimizer = torch.optim.Adam([self.pixels], lr=engine.choices.lr, betas=(0.5, 0.9), eps=1e-8)
        self.step, self.kept = 0, self.pixels.detach().clone()
        self.networks: list[tuple[nn.Module, Teacher, list[PlainHook]]] = []
        for name, observer in engine.observers.items():
            teacher = engine.context.observers[name]
            network = networks.from_teacher(teacher, engine.context.device)
            found = engine.statistics[name]
            assert found is not None
            hooks = []
            for layer in dict.fromkeys(segment.layer for segment in observer.segments):
                spans = [slice(part.start, part.stop) for part in observer.segments if part.layer == layer]
                hooks.append(PlainHook(network.get_submodule(layer), spans, found, self.labels))
            hooks[0].weight = engine.choices.matching.first
            self.networks.append((network, teacher, hooks))

    def augmented(self, images: torch.Tensor, step: int, teacher: Teacher) -> torch.Tensor:
        engine = self.engine
        seen = engine.choices.augmentation.apply(images, engine.seed, 0, step, engine.choices.iterations)
        return views.normalise(seen * engine.std + engine.mean, teacher.mean, teacher.std)

    def loss(self, turn: int, *, matched: bool) -> torch.Tensor:
        network, teacher, hooks = self.networks[turn]
        choices = self.engine.choices
        for hook in hooks:
            hook.muted = not matched
        logits = network(self.augmented(self.pixels, self.step, teacher))
        loss = F.cross_entropy(logits, self.labels)
        if matched:
            loss = loss + choices.weight * torch.stack([hook.weight * hook.loss for hook in hooks]).sum()
        for hook in hooks:
            hook.muted = True
        with torch.no_grad():
            then = network(self.augmented(self.average, self.step, teacher))
        p, q = (F.log_softmax(its / choices.temperature, 1) for its in (logits, then))
        return loss + choices.flat * F.kl_div(q, p, reduction="batchmean", log_target=True)

    def take_step(self, turn: int, *, matched: bool) -> None:
        loss = self.loss(turn, matched=matched)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        with torch.no_grad():
            for channel in range(3):
                low, high = (float(edge.flatten()[channel]) for edge in (self.engine.low, self.engine.high))
                self.pixels[:, channel].clamp_(low, high)
            self.average = 0.99 * self.average + 0.01 * self.pixels
        if matched:
            self.last = loss.item()
            self.kept = self.pixels.detach().clone()
        self.step += 1


def seconds(work: Callable[[], object], device: torch.device) -> float:
    """Of the process on a CPU, whose cores others may use; of the clock on a GPU, to the end of what it was given."""
    if device.type != "cuda":
        started = time.process_time()
        work()
        return time.process_time() - started
    torch.cuda.synchronize()
    started = time.perf_counter()
    work()
    torch.cuda.synchronize()
    return time.perf_counter() - started


def check(setting: Setting) -> None:
    """Three losses of each observer, of images that move, in float32 on either device."""
    engine = engine_of(setting)
    plain = Plain(engine)
    [rows] = batches_of(engine.start, engine.choices)
    batch = engine._open(rows, None)
    rng = torch.Generator().manual_seed(0)
    furthest = 0.0
    for _ in range(3):
        for turn, observer in enumerate(engine.observers.values()):
            with torch.autocast(setting.device.type, enabled=False):
                seen = engine.choices.augmentation.apply(
                    batch.pixels, engine.seed, 0, plain.step, engine.choices.iterations
                )
                logits, means, variances = observer.measure(seen * engine.std + engine.mean)
                ours = engine.choices.weight * batch.matchers[turn].loss(means, variances)
                ours = ours + F.cross_entropy(logits, plain.labels)
            theirs = plain.loss(turn, matched=True)
            bare = float(F.cross_entropy(logits, plain.labels).detach())
            moved = (float(ours.detach()), float(theirs.detach()))
            furthest = max(furthest, abs(moved[0] - moved[1]) / abs(moved[1] - bare))
        with torch.no_grad():  # both see the same new images; their average stays, so flatness is left out: see below
            batch.pixels += 0.1 * torch.randn(batch.pixels.shape, generator=rng).to(setting.device)
            plain.pixels.copy_(batch.pixels)
            plain.average.copy_(batch.pixels)  # of equal images flatness is zero
    print(f"  losses within {furthest:.1e} of each other, of the matching term (target 1e-4)")
    assert furthest < 1e-4, "the two do not compute the same loss"


def step(setting: Setting) -> None:
    """Each observer's step, ours and the reference's and the bare one, interleaved; and the mean of them in turn."""
    check(setting)
    engine = engine_of(setting)
    plain, bare, ours = Plain(engine), Plain(engine), steps_of(engine)
    times: dict[str, dict[str, list[float]]] = {}
    for turn in range(setting.rounds + 1):
        for place, name in enumerate(engine.observers):
            works: dict[str, Callable[[], object]] = {
                "bare": lambda place=place: bare.take_step(place, matched=False),
                "ours": lambda: next(ours),
                "reference": lambda place=place: plain.take_step(place, matched=True),
            }
            for work, do in works.items():
                spent = seconds(do, setting.device)
                if turn:  # the first round warms up
                    times.setdefault(name, {}).setdefault(work, []).append(spent)
    rows = {name: {work: statistics.median(its) for work, its in each.items()} for name, each in times.items()}
    rows["in turn, mean"] = {
        work: statistics.mean(row[work] for row in rows.values()) for work in ("bare", "ours", "reference")
    }
    print(f"  {'ms a step':<26} {'bare':>8} {'ours':>8} {'reference':>10} {'ratio':>6} {'of what is beyond bare':>23}")
    for name, row in rows.items():
        beyond = (row["reference"] - row["bare"]) / max(row["ours"] - row["bare"], 1e-9)
        numbers = [1000 * row[work] for work in ("bare", "ours", "reference")]
        print(
            f"  {name:<26} {numbers[0]:8.1f} {numbers[1]:8.1f} {numbers[2]:10.1f} "
            f"{row['reference'] / row['ours']:6.2f} {beyond:23.2f}"
        )
    print("  target: ratio 3")


def peak_mib(setting: Setting) -> float:
    """Two rounds of steps: most memory beyond what the process held before."""
    engine = engine_of(setting)
    ours = steps_of(engine)
    if setting.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    before = held_mib()
    for _ in range(2 * len(setting.networks)):
        next(ours)
    if setting.device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    return held_mib(peak=True) - before


def memory(setting: Setting) -> None:
    """Every case in a process of its own, so that none finds memory that another left."""
    for batch, count in ((setting.batch // 2, 1), (setting.batch, 1), (2 * setting.batch, 1), (setting.batch, 5)):
        command = [sys.executable, __file__, "--device", setting.device.type, "--peak", str(batch), str(count)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        print(f"  batch {batch:4d}, {count} observers: {float(done.stdout.split()[-1]):8.1f} MiB")


def classes(setting: Setting) -> None:
    """The first observer's step, and its loss alone with its gradient, for more and more classes in the batch."""
    for n in (1, 10, 100):
        some = replace(setting, networks=setting.networks[:1], classes=min(n, setting.batch))
        spent: dict[str, list[float]] = {"step": [], "loss": []}
        engine = engine_of(some, replace(CHOICES, matching=Matching(alpha=ALPHA, momentum=MOMENTUM)))
        ours = steps_of(engine)
        [rows] = batches_of(engine.start, engine.choices)
        [matcher] = engine._open(rows, None).matchers
        [observer] = engine.observers.values()
        given = [torch.rand(setting.batch, observer.entries, device=setting.device).requires_grad_() for _ in "mv"]
        for turn in range(setting.rounds + 1):
            works = {"step": lambda ours=ours: next(ours), "loss": lambda m=matcher, g=given: m.loss(*g).backward()}
            for name, work in works.items():
                taken = seconds(work, setting.device)
                spent[name] += [taken] if turn else []
        told = ", ".join(f"{name} {1000 * statistics.median(its):.1f} ms" for name, its in spent.items())
        print(f"  {some.classes:4d} classes: {told}")


SECTIONS: dict[str, Callable[[Setting], None]] = {"step": step, "memory": memory, "classes": classes}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="sizes for a look, under a minute on a CPU")
    parser.add_argument("--device", default="cpu", help="cuda: the full networks")
    parser.add_argument("--only", choices=list(SECTIONS), help="one section")
    parser.add_argument("--batch", type=int)
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--peak", type=int, nargs=2, metavar=("BATCH", "OBSERVERS"), help="tell one peak of memory")
    given = parser.parse_args()
    cuda = given.device == "cuda"
    setting = Setting(
        torch.device(given.device),
        FULL if cuda else NARROW,
        given.batch or (20 if given.quick else 100),
        10,
        given.rounds or (1 if given.quick else 20 if cuda else 3),
    )
    if given.peak:
        batch, count = given.peak
        print(peak_mib(replace(setting, batch=batch, networks=setting.networks[:count])))
        return
    name = torch.cuda.get_device_name() if cuda else platform.machine()
    print(f"{name}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    print(f"batches of {setting.batch} at {SIZE} px, {setting.classes} classes, {setting.rounds} rounds")
    for section in [given.only] if given.only else SECTIONS:
        print(section)
        SECTIONS[section](setting)


if __name__ == "__main__":
    main()
