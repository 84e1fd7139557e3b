"""Soft-label generation beside the bare forward of its teacher; and its memory against K and n.

Generation draws and cuts every view, asks the teacher, rounds to fp16 and writes Zarr shards; the bare forward feeds
the same number of ready, normalised batches to the same network, in the same dtype on the same device. The share is
bare / whole, views per second of one over those of the other. Nothing runs beside the forward here; the stage writes
one shard while it computes the next.

Memory: the peak of a fresh process beyond what it held after a small run, with a network that is nearly nothing.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

from dcpipe import networks, softlabels, store
from dcpipe.types import Teacher, ViewPolicy
from label_speed import Setting, interleaved, median_ratio

SIZE, BATCH = 32, 256


def build(name: str, classes: int, device: torch.device) -> tuple[torch.nn.Module, Teacher]:
    """A randomly initialised teacher: speed does not depend on its weights."""
    network = networks.build(name, classes, SIZE)
    names = tuple(str(c) for c in range(classes))
    noun = Teacher(name, network.state_dict(), names, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25), SIZE, {})
    return networks.from_teacher(noun, device), noun


def generate(network: torch.nn.Module, noun: Teacher, n: int, k: int, device: torch.device) -> None:
    """Label n images k times, to disk."""
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (n, SIZE, SIZE, 3), dtype=np.uint8)).to(device)
    with tempfile.TemporaryDirectory() as folder:
        blocks = store.create_blocks(Path(folder) / "labels.zarr", (n, k, len(noun.classes)), "float16")
        for shard in blocks.missing():
            span = blocks.span(shard)
            values = softlabels.label_block(
                [network], [noun], images, np.arange(n), np.arange(span.start, span.stop),
                policy=ViewPolicy(mix="cutmix_images"), n_views=k, size=SIZE, batch_size=BATCH,
            )  # fmt: skip
            blocks.write(shard, values)


def bare(network: torch.nn.Module, count: int, batch: int, device: torch.device) -> None:
    """As many forwards on one ready batch."""
    inputs = torch.rand(batch, 3, SIZE, SIZE, device=device)
    if device.type == "cuda":
        inputs = inputs.contiguous(memory_format=torch.channels_last)
    with torch.no_grad(), torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda"):
        for left in range(count, 0, -batch):
            out = network(inputs[: min(batch, left)])
    float(out.float().sum())  # waits for the device


def compare(setting: Setting, name: str, classes: int, n: int, k: int, rounds: int) -> str:
    """One line: the share."""
    network, noun = build(name, classes, setting.device)
    batch = min(BATCH, store.shard_rows((n, k, classes), 2) * k)  # of the size that generation uses
    times = interleaved(
        {
            "whole": lambda: generate(network, noun, n, k, setting.device),
            "bare": lambda: bare(network, n * k, batch, setting.device),
        },
        rounds,
        setting.device,
    )
    whole, alone = (sorted(times[key])[rounds // 2] for key in ("whole", "bare"))
    shares = [b / w for w, b in zip(times["whole"], times["bare"], strict=True)]
    return (
        f"  {name}, {classes:4d} classes, {n} images x {k} views: {n * k / whole:.0f} labels a second, bare forward "
        f"{n * k / alone:.0f}; share {median_ratio(times['bare'], times['whole']):.1%} "
        f"({min(shares):.1%} to {max(shares):.1%} of {rounds} rounds)"
    )


def peak(setting: Setting, n: int, k: int, classes: int) -> str:
    """One line: memory that labelling n images k times takes."""
    code = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parents[1])!r}); "
        f"from label_speed import generation; generation.report_peak({n}, {k}, {classes}, {str(setting.device)!r})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return (
        f"  n = {n:4d}, K = {k:3d}: {float(done.stdout.split()[-1]):4.0f} MiB more at the peak, "
        f"for {2 * n * k * classes / 2**20:4.0f} MiB of labels"
    )


def report_peak(n: int, k: int, classes: int, device: str) -> None:
    """Called in a fresh process."""
    network, noun = build("convnet-d3-w8", classes, torch.device(device))
    generate(network, noun, 16, 16, torch.device(device))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    generate(network, noun, n, k, torch.device(device))
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)


def section(setting: Setting) -> None:
    """Print all lines."""
    print("label generation into Zarr against the bare forward of the teacher")
    name = "convnet-d2-w8" if setting.quick else "resnet18-small"
    for classes, n, k in ((10, 4, 8), (100, 4, 8)) if setting.quick else ((10, 32, 32), (1000, 32, 32)):
        print(compare(setting, name, classes, n, k, rounds=3), flush=True)
    sizes = ((16, 8), (16, 16), (32, 8)) if setting.quick else ((256, 200), (256, 400), (512, 200))
    for n, k in sizes:
        print(peak(setting, n, k, classes=1000), flush=True)
