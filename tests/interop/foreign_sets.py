"""Condensed sets as other projects' scripts write them, made plainly: for the tests of `import-images`.

All files show the same images: those of `pixels`, u8, class by class, so that what is imported can be compared with
them exactly.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from dcpipe.interop.pixels import CONSTANTS

CLASSES = tuple(f"class {letter}" for letter in "abcdefghijkl")  # twelve: as text, 10 and 11 come before 2
PER_CLASS, SIDE = 3, 8
N = PER_CLASS * len(CLASSES)


def pixels() -> np.ndarray:
    """u8 [n, s, s, 3]."""
    return np.random.default_rng(4).integers(0, 256, (N, SIDE, SIDE, 3), dtype=np.uint8)


def labels() -> torch.Tensor:
    return torch.arange(len(CLASSES)).repeat_interleave(PER_CLASS)


def raw() -> torch.Tensor:
    """f32 [n, 3, s, s] in [0, 1]."""
    return torch.from_numpy(pixels()).permute(0, 3, 1, 2).float() / 255


def normalised(name: str = "cifar10") -> torch.Tensor:
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in CONSTANTS[name])
    return (raw() - mean) / std


def soft(temper: float = 3.0) -> torch.Tensor:
    """Logits f32 [n, c], of which most are largest at the class of the image."""
    noise = torch.randn(N, len(CLASSES), generator=torch.Generator().manual_seed(1))
    return noise + temper * torch.eye(len(CLASSES))[labels()]


def class_list(folder: Path) -> Path:
    path = folder / "classes.json"
    path.write_text(json.dumps(CLASSES))
    return path


def write_mtt(folder: Path, step: str = "best", soft_labels: torch.Tensor | None = None) -> Path:
    folder.mkdir(exist_ok=True)
    torch.save(normalised(), folder / f"images_{step}.pt")
    torch.save(labels() if soft_labels is None else soft_labels, folder / f"labels_{step}.pt")
    return folder / f"images_{step}.pt"


def write_dc(folder: Path, experiments: int = 2) -> Path:
    """The results of several experiments, of which number k has images that are turned k times."""
    sets = [[torch.rot90(normalised(), k, (2, 3)).contiguous(), labels()] for k in range(experiments)]
    accuracies = {"ConvNet": [np.float64(0.5), np.mean([0.25, 0.75])]}
    path = folder / "res_DM_CIFAR10_ConvNet_3ipc.pt"
    torch.save({"data": sets, "accs_all_exps": accuracies}, path)
    return path


def write_idc(folder: Path, name: str = "data.pt") -> Path:
    path = folder / name
    torch.save([raw(), labels()], path)
    return path


def name_of(kind: str, c: int, i: int) -> str:
    """The path of image i of class c."""
    return {
        "sre2l": f"new{c:03d}/class{c:03d}_id{i:03d}.png",
        "edc": f"new{c:03d}/class{c:03d}_id{i:03d}_iter1000.png",
        "rded": f"{c:05d}/class{c:05d}_id{i:05d}.png",
        "d4m": f"{c}/{c}-image{i}{0}.png",
        "names": f"{CLASSES[c]}/{i}.png",
    }[kind]


def write_folders(folder: Path, kind: str) -> Path:
    for row, image in enumerate(pixels()):
        path = folder / name_of(kind, row // PER_CLASS, row % PER_CLASS)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    return folder
