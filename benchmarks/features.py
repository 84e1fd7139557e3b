"""The label rates R_C of candidates beside the bare forward of their teacher, in one run.

    python benchmarks/features.py [--network resnet18-small] [--images 256] [--views 16] [--classes 10]

Measuring R_C draws and cuts every view, asks the teacher and factorises one matrix an image; the bare forward feeds as
many ready, normalised views to the same network. Decoding is left out: an image is decoded once for all its views.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch
from label_speed.generation import BATCH, SIZE, build

from dcpipe import features
from dcpipe.types import Teacher, ViewPolicy


def measure(network: torch.nn.Module, noun: Teacher, n: int, k: int, device: torch.device) -> float:
    """Seconds for the rates of n images over k views."""
    images = np.random.default_rng(0).integers(0, 256, (n, SIZE, SIZE, 3), dtype=np.uint8)
    started = time.perf_counter()
    features.label_rates(
        network,
        noun,
        images,
        np.arange(n),
        policy=ViewPolicy(scale_min=0.4),
        n_views=k,
        rate_options={"stored_views": 300},
        batch_size=BATCH,
        device=device,
    )
    return time.perf_counter() - started


def bare(network: torch.nn.Module, count: int, device: torch.device) -> float:
    """Seconds for as many forwards on one ready batch of the same size."""
    inputs = torch.rand(BATCH, 3, SIZE, SIZE, device=device)
    started = time.perf_counter()
    with torch.no_grad(), torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda"):
        for left in range(count, 0, -len(inputs)):
            out = network(inputs[:left])
    float(out.float().sum())  # waits for the device
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="resnet18-small")
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--views", type=int, default=16)
    parser.add_argument("--classes", type=int, default=10)
    arguments = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network, noun = build(arguments.network, arguments.classes, device)
    n, k = arguments.images, arguments.views
    measure(network, noun, 16, k, device)  # warm up
    shares = []
    for _ in range(3):
        whole, alone = measure(network, noun, n, k, device), bare(network, n * k, device)
        shares.append(alone / whole)
        print(
            f"R_C of {n} images x {k} views, {arguments.classes} classes, {arguments.network}: "
            f"{n * k / whole:.0f} views per second; bare forward {n * k / alone:.0f}; share {alone / whole:.1%}"
        )
    print(f"median share {sorted(shares)[1]:.1%} on {device.type}, {torch.get_num_threads()} threads")


if __name__ == "__main__":
    main()
