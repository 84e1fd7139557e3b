"""What soft labels cost in time: making them, packing them, replaying them. Ratios are within one run, interleaved.

    python benchmarks/labels.py [--only rpca|generation|loader|codecs|imagenet] [--quick] [--device cpu|cuda]

* `rpca`        pursuit against full-SVD inexact ALM, and beside `pyrpca`
* `generation`  labels into Zarr against the bare forward of the teacher; peak memory
* `loader`      a student's epoch from a 30x pack against random tensors, and against `batch_*.tar` files
* `codecs`      decoding and encoding of every codec at 30x
* `imagenet`    bytes and seconds of a 1,000-class slice, extrapolated to ImageNet-1K

Each takes a few minutes on two idle cores; `--quick` shows in seconds that the lines print, and measures nothing.
`label_speed/` has a file for each.
"""

from __future__ import annotations

import argparse
import platform
import time

import numpy as np
import torch
from label_speed import RATIO, Setting, codecs, generation, imagenet, loader, rpca

SECTIONS = {
    "rpca": rpca.section,
    "generation": generation.section,
    "loader": loader.section,
    "codecs": codecs.section,
    "imagenet": imagenet.section,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=SECTIONS, help="one section instead of all")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: shows that the lines print")
    parser.add_argument("--device", default="cpu", type=torch.device)
    arguments = parser.parse_args()
    setting = Setting(arguments.device, arguments.quick)
    device = torch.cuda.get_device_name(setting.device) if setting.device.type == "cuda" else platform.machine()
    threads = torch.get_num_threads()
    print(f"{device}, {threads} threads, torch {torch.__version__}, numpy {np.__version__}; packs at {RATIO}x of fp16")
    for name in [arguments.only] if arguments.only else SECTIONS:
        started = time.perf_counter()
        SECTIONS[name](setting)
        print(f"  ({name} took {time.perf_counter() - started:.0f} s)", flush=True)


if __name__ == "__main__":
    main()
