"""Snapshots: the images of matching after some of its outer loops, for the study `sizes`. An iteration of `mtt` is an
outer loop."""

from __future__ import annotations

from collections.abc import Sequence

from dcpipe.config.bases import base_of
from dcpipe.config.options import Options
from dcpipe.config.params import SynthesisBlock
from dcpipe.synthesis.mdc import BASES
from dcpipe.types import require


def outer_loops(block: SynthesisBlock) -> int | None:
    """The number of outer loops that a block of params.yaml asks for; None for a method that has none."""
    method, options = base_of(block.method, block.options)
    if method not in BASES:
        return None
    loops: int = Options.of(BASES[method]).resolve(options, method)["iterations" if method == "mtt" else "outer"]
    return loops


def check(loops: Sequence[int], block: SynthesisBlock) -> None:
    """Raises `DataError` for loops after which a run of the block has no images but the last ones."""
    if not loops:
        return
    outer = outer_loops(block)
    require(
        outer is not None,
        f"snapshots are of outer loops, which synthesis method {base_of(block.method, block.options)[0]!r} has not; "
        f"remove snapshots, or choose one of mdc, {', '.join(BASES)}",
    )
    assert outer is not None
    require(
        max(loops) < outer,
        f"snapshots has {max(loops)}, but the run has {outer} outer loops, whose end is scored anyway; give numbers "
        f"from 0 to {outer - 1}",
    )
