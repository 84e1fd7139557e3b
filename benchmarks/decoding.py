"""Which decoder keeps up with a GPU: images per second of the ways to turn a JPEG into pixels of a fixed size.

Run `python benchmarks/decoding.py [--images N] [--size 224]`. All see the same synthetic JPEGs of 500 x 375 pixels in
one process, one after another in rounds; the best of three rounds counts. `exact`, `draft` and `fast` are dcpipe's
(`images.decoder`). `ms` is the processor time of an image on one thread, `ratio` that of `exact` against it, and PSNR
is that of the pixels against `exact`, on the two photographs of scikit-learn. The others decode with TorchVision or
simplejpeg, and resize the central square with Pillow or PyTorch. simplejpeg and PyTurboJPEG are not dependencies of
dcpipe, and are left out where they are not installed.
"""

from __future__ import annotations

import argparse
import io
import os
import platform
import time
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from PIL import Image

from dcpipe.images import decode
from dcpipe.images.decoding import fit
from dcpipe.types import Decoding

Pixels = npt.NDArray[np.uint8]
Decoder = Callable[[bytes, int], Pixels]
WIDTH, HEIGHT, QUALITY = 500, 375, 90


def make(n: int) -> list[bytes]:
    """n JPEGs of smooth noise with some grain, about as large as those of photographs of this size."""
    generator = np.random.default_rng(0)
    encoded = []
    for _ in range(n):
        coarse = Image.fromarray(generator.integers(0, 256, (HEIGHT // 8, WIDTH // 8, 3), dtype=np.uint8))
        whole = np.asarray(coarse.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC), dtype=np.int16)
        grain = generator.normal(0, 6, whole.shape).astype(np.int16)
        buffer = io.BytesIO()
        Image.fromarray((whole + grain).clip(0, 255).astype(np.uint8)).save(buffer, format="JPEG", quality=QUALITY)
        encoded.append(buffer.getvalue())
    return encoded


def exact(data: bytes, size: int) -> Pixels:
    return decode(data, size, "x")


def draft(data: bytes, size: int) -> Pixels:
    return decode(data, size, "x", Decoding("draft"))


def fast(data: bytes, size: int) -> Pixels:
    return decode(data, size, "x", Decoding("fast"))


def pillow_decode_only(data: bytes, size: int) -> Pixels:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def torchvision_and_pillow(data: bytes, size: int) -> Pixels:
    return fit(Image.fromarray(_torchvision(data).permute(1, 2, 0).numpy()), size)


def torchvision_and_torch(data: bytes, size: int) -> Pixels:
    return _resized(_torchvision(data), size)


def simplejpeg_and_pillow(data: bytes, size: int) -> Pixels:
    return fit(Image.fromarray(_simplejpeg(data)), size)


def simplejpeg_and_torch(data: bytes, size: int) -> Pixels:
    return _resized(torch.from_numpy(_simplejpeg(data)).permute(2, 0, 1), size)


def turbojpeg_and_pillow(data: bytes, size: int) -> Pixels:
    from turbojpeg import TJPF_RGB, TurboJPEG

    return fit(Image.fromarray(TurboJPEG().decode(data, pixel_format=TJPF_RGB)), size)


def _torchvision(data: bytes) -> torch.Tensor:
    from torchvision.io import ImageReadMode, decode_jpeg

    warnings.simplefilter("ignore", DeprecationWarning)  # that function will be removed
    return decode_jpeg(torch.frombuffer(bytearray(data), dtype=torch.uint8), mode=ImageReadMode.RGB)


def _simplejpeg(data: bytes) -> Pixels:
    from simplejpeg import decode_jpeg

    pixels: Pixels = decode_jpeg(data, colorspace="RGB")
    return pixels


def _resized(image: torch.Tensor, size: int) -> Pixels:
    """The central square of u8 [3, h, w], resized by PyTorch."""
    short = min(image.shape[1:])
    top, left = (image.shape[1] - short) // 2, (image.shape[2] - short) // 2
    square = image[None, :, top : top + short, left : left + short].contiguous(memory_format=torch.channels_last)
    small = F.interpolate(square, (size, size), mode="bicubic", antialias=True)
    return small[0].permute(1, 2, 0).contiguous().numpy()


DECODERS: dict[str, Decoder] = {
    "exact (Pillow)": exact,
    "draft (Pillow)": draft,
    "fast (Pillow, PyTorch)": fast,
    "Pillow, decode only": pillow_decode_only,
    "TorchVision, Pillow": torchvision_and_pillow,
    "TorchVision, PyTorch": torchvision_and_torch,
    "simplejpeg, Pillow": simplejpeg_and_pillow,
    "simplejpeg, PyTorch": simplejpeg_and_torch,
    "PyTurboJPEG, Pillow": turbojpeg_and_pillow,
}


def usable(name: str, data: bytes) -> bool:
    """Whether a decoder works here; prints why if it does not."""
    try:
        DECODERS[name](data, 64)
    except (ImportError, RuntimeError, OSError) as error:
        print(f"{name} is left out: {error}")
        return False
    return True


def work(decoder: Decoder, size: int, encoded: Sequence[bytes]) -> int:
    """Decode some images and return their number, so that processes send back no pixels."""
    torch.set_num_threads(1)
    return sum(len(decoder(data, size)) > 0 for data in encoded)


def rate(decoder: Decoder, encoded: list[bytes], size: int, pool: Executor | None, workers: int) -> float:
    """Images per second, dealt to the workers of a pool."""
    shares = [encoded[first::workers] for first in range(workers)]
    start = time.perf_counter()
    done = sum((pool.map if pool else map)(partial(work, decoder, size), shares))
    assert done == len(encoded)
    return done / (time.perf_counter() - start)


def milliseconds(decoder: Decoder, encoded: list[bytes], size: int) -> float:
    """Processor time per image on one thread, which other programs disturb less than the time that passes."""
    start = time.thread_time()
    work(decoder, size, encoded)
    return 1000 * (time.thread_time() - start) / len(encoded)


def psnr(found: Pixels, wanted: Pixels) -> float:
    """Peak signal to noise ratio in dB, infinite for equal pixels."""
    error = float(np.square(found.astype(np.float64) - wanted).mean())
    return float("inf") if error == 0 else 10 * np.log10(255.0**2 / error)


def photographs() -> list[bytes]:
    """The photographs that come with scikit-learn, 640 x 427."""
    from sklearn import datasets

    folder = Path(datasets.__file__).parent / "images"
    return [path.read_bytes() for path in sorted(folder.glob("*.jpg"))]


def main() -> None:
    """Print images per second for each decoder: on one thread, two threads and two processes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--size", type=int, action="append", help="side in pixels (default: 224, 112 and 64)")
    options = parser.parse_args()
    encoded, photos = make(options.images), photographs()
    mean = sum(map(len, encoded)) / len(encoded) / 1000
    print(f"{platform.machine()}, {os.cpu_count()} cores, Pillow {Image.__version__}, {mean:.0f} kB per JPEG")
    chosen = {name: decoder for name, decoder in DECODERS.items() if usable(name, encoded[0])}
    with ThreadPoolExecutor(2) as threads, ProcessPoolExecutor(2, mp_context=get_context("spawn")) as processes:
        pools: dict[str, tuple[Executor | None, int]] = {
            "1 thread": (None, 1),
            "2 threads": (threads, 2),
            "2 processes": (processes, 2),
        }
        rate(exact, encoded[:2], 64, *pools["2 processes"])  # they import PyTorch now
        for size in options.size or [224, 112, 64]:
            print(
                f"\n{f'to {size}':>23} {'ms':>6} {'ratio':>6} {'PSNR':>6} " + " ".join(f"{name:>12}" for name in pools)
            )
            found: dict[str, list[float]] = {}
            busy: dict[str, float] = {}
            for _ in range(3):
                for name, decoder in chosen.items():
                    busy[name] = min(milliseconds(decoder, encoded, size), busy.get(name, float("inf")))
                    rates = [rate(decoder, encoded, size, *pool) for pool in pools.values()]
                    found[name] = [max(pair) for pair in zip(rates, found.get(name, rates), strict=True)]
            for name, rates in found.items():
                pixels = [chosen[name](data, size) for data in photos]
                same = pixels[0].shape == (size, size, 3)
                each = [psnr(p, exact(d, size)) for p, d in zip(pixels, photos, strict=True)] if same else []
                shown = f"{np.mean(each):>6.1f}" if each else f"{'':>6}"
                ratio = busy[next(iter(busy))] / busy[name]
                print(
                    f"{name:>23} {busy[name]:>6.2f} {ratio:>6.2f} {shown} "
                    + " ".join(f"{value:>10,.0f}/s" for value in rates)
                )


if __name__ == "__main__":
    main()
