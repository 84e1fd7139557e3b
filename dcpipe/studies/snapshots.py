"""Snapshots: the images of gradient matching after some of its outer loops, for the study `sizes`."""

from __future__ import annotations

from collections.abc import Sequence

from dcpipe import synthesis
from dcpipe.config.options import Options
from dcpipe.config.params import SynthesisBlock
from dcpipe.types import require

METHODS = ("dc", "dsa", "dm", "idc", "dream", "mdc")


def outer_loops(block: SynthesisBlock) -> int | None:
    """The number of outer loops that a block of params.yaml asks for; None for a method that has none."""
    method, options = block.method, block.options
    if method not in METHODS:
        return None
    if method == "mdc":
        chosen = Options.of(synthesis.METHODS[method]).resolve(options, method)
        method, options = chosen["base"], chosen["options"]
    loops: int = Options.of(synthesis.METHODS[method]).resolve(options, method)["outer"]
    return loops


def check(loops: Sequence[int], block: SynthesisBlock) -> None:
    """Raises `DataError` for loops after which a run of the block has no images but the last ones."""
    if not loops:
        return
    outer = outer_loops(block)
    require(
        outer is not None,
        f"snapshots are of outer loops, which synthesis.method {block.method!r} has not; remove snapshots, or choose "
        f"one of {', '.join(METHODS)}",
    )
    assert outer is not None
    require(
        max(loops) < outer,
        f"snapshots has {max(loops)}, but the run has {outer} outer loops, whose end is scored anyway; give numbers "
        f"from 0 to {outer - 1}",
    )
