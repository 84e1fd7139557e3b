"""Soft-label generation beside the bare forward of its teacher, in one run; and its memory against K.

    python benchmarks/softlabels.py [--network resnet18-small] [--images 64] [--views 16]

Generation draws and cuts every view, asks the teacher, rounds to fp16 and writes Zarr shards; the bare forward feeds
the same number of ready, normalised batches to the same network. The share is bare / whole.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from dcpipe import networks, softlabels, store
from dcpipe.types import Teacher, ViewPolicy

SIZE, CLASSES, BATCH = 32, 10, 256


def build(name: str, device: torch.device) -> tuple[torch.nn.Module, Teacher]:
    """A randomly initialised teacher: speed does not depend on its weights."""
    network = networks.build(name, CLASSES, SIZE)
    classes = tuple(str(c) for c in range(CLASSES))
    noun = Teacher(name, network.state_dict(), classes, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25), SIZE, {})
    return networks.from_teacher(noun, device), noun


def generate(network: torch.nn.Module, noun: Teacher, n: int, k: int, device: torch.device) -> float:
    """Seconds to label n images k times, to disk."""
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (n, SIZE, SIZE, 3), dtype=np.uint8)).to(device)
    ids = np.arange(n)
    with tempfile.TemporaryDirectory() as folder:
        blocks = store.create_blocks(Path(folder) / "labels.zarr", (n, k, CLASSES), "float16")
        started = time.perf_counter()
        for shard in blocks.missing():
            span = blocks.span(shard)
            values = softlabels.label_block(
                [network], [noun], images, ids, np.arange(span.start, span.stop),
                policy=ViewPolicy(mix="cutmix_images"), n_views=k, size=SIZE, batch_size=BATCH,
            )  # fmt: skip
            blocks.write(shard, values)
        return time.perf_counter() - started


def bare(network: torch.nn.Module, n: int, k: int, device: torch.device) -> float:
    """Seconds for as many forwards on one ready batch, of the size that generation uses: a shard's views at most."""
    batch = min(BATCH, store.shard_rows((n, k, CLASSES), 2) * k)
    inputs = torch.rand(batch, 3, SIZE, SIZE, device=device)
    if device.type == "cuda":
        inputs = inputs.contiguous(memory_format=torch.channels_last)
    started = time.perf_counter()
    with torch.no_grad(), torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda"):
        for left in range(n * k, 0, -batch):
            out = network(inputs[: min(batch, left)])
    float(out.float().sum())  # waits for the device
    return time.perf_counter() - started


def peak(n: int, k: int) -> float:
    """Peak resident MiB of a process that labels with a small network."""
    code = f"import benchmarks.softlabels as b; b.report_peak({n}, {k})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def report_peak(n: int, k: int) -> None:
    """Called in a fresh process."""
    device = torch.device("cpu")
    generate(*build("convnet-d3-w16", device), n, k, device)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def main() -> None:
    """Print both figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="resnet18-small")
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--views", type=int, default=16)
    parser.add_argument("--memory", action="store_true", help="also measure peak memory at several K")
    arguments = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network, noun = build(arguments.network, device)
    generate(network, noun, 16, 16, device)  # warm up
    shares = []
    for _ in range(3):
        whole = generate(network, noun, arguments.images, arguments.views, device)
        alone = bare(network, arguments.images, arguments.views, device)
        shares.append(alone / whole)
        labels = arguments.images * arguments.views
        print(
            f"{labels} labels of {arguments.network}: {whole:.2f} s; bare forward {alone:.2f} s; "
            f"share {alone / whole:.1%}"
        )
    print(
        f"median share of the bare forward: {sorted(shares)[1]:.1%} on {device.type}, {torch.get_num_threads()} threads"
    )
    if arguments.memory:
        for k in (100, 400, 1600):
            print(f"K = {k}: peak {peak(256, k):.0f} MiB for {256 * k * CLASSES * 2 / 2**20:.1f} MiB of labels")


if __name__ == "__main__":
    main()
