"""A package that is not dcpipe, installed in a folder: one thing of each kind, found by entry points."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

CODE = '''
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import nn

from dcpipe.compression import Codec
from dcpipe.compression.base import require_budget
from dcpipe.selection import Picks

if TYPE_CHECKING:
    from nowhere import Nothing


def last(candidates: Nothing, ipc, seed, progress, *, skip: Annotated[int, Field(ge=0)] = 0) -> Picks:
    """The last images of each class."""
    ends = candidates.offsets[1:] - 1 - skip
    rows = (ends[None, :] - np.arange(ipc)[:, None]).reshape(-1)
    return Picks(rows, np.zeros(len(rows)))


@dataclass(frozen=True)
class Mean(Codec):
    """The mean label of each image, for all its views."""

    rounding: str

    @classmethod
    def plan(cls, shape, budget, *, rounding: Literal["float16", "float32"] = "float16"):
        size = shape.images * shape.classes * np.dtype(rounding).itemsize
        require_budget("mean", budget, size, shape, "choose a smaller ratio")
        return cls(rounding)

    def specs(self, shape):
        return {"mean": ((shape.images, shape.classes), self.rounding)}

    def encode(self, logits, rows, shape, views):
        return {"mean": logits.mean(1).cpu().numpy().astype(self.rounding)}

    def decode_located(self, arrays: Mapping[str, Any], located, shape):
        return arrays["mean"][located["rows"]].float()


def mirror(start, context, seed, progress, *, network: str = "", copy: bool = True):
    """The images turned around; an option may have a name that pydantic's models use themselves."""
    from dataclasses import replace

    return replace(start, images=np.ascontiguousarray(start.images[:, :, ::-1])) if copy else start


def squares(*, side: Annotated[int, Field(ge=1)]):
    """No images at all, which only its own stage would notice."""
    return {}


def build(name, n_classes, size):
    """A linear layer, for images of 8 pixels alone."""
    if name != "flat":
        return None
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, n_classes))


def selector_without_a_seed(candidates, ipc):
    """Takes too little."""
'''
ENTRIES = """
[dcpipe.selectors]
last = tiny_plugin_code:last
broken = tiny_plugin_code:absent
narrow = tiny_plugin_code:selector_without_a_seed
random = tiny_plugin_code:last

[dcpipe.codecs]
mean = tiny_plugin_code:Mean

[dcpipe.synthesis]
mirror = tiny_plugin_code:mirror

[dcpipe.sources]
squares = tiny_plugin_code:squares

[dcpipe.networks]
flat = tiny_plugin_code:build
"""
NAME, MODULE = "tiny-plugin", "tiny_plugin_code"


def write(folder: Path, version: str = "1.0", code: str = CODE, name: str = NAME, entries: str = ENTRIES) -> None:
    """The package's files below `folder`, as an installer leaves them."""
    (folder / f"{MODULE}.py").write_text(code, encoding="utf-8")
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n", encoding="utf-8")
    (info / "entry_points.txt").write_text(entries, encoding="utf-8")


def install(folder: Path, monkeypatch: pytest.MonkeyPatch, **changes: str) -> Path:
    """Write the package to `folder`, which is on the search path until the test ends."""
    folder.mkdir(exist_ok=True)
    write(folder, **changes)
    monkeypatch.syspath_prepend(str(folder))
    # What a test imports of it must not be there for the next: restored to absent when the test ends.
    monkeypatch.setitem(sys.modules, MODULE, sys)
    monkeypatch.delitem(sys.modules, MODULE)
    return folder
