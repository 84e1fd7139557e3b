"""DC: dataset condensation with gradient matching (Zhao, Mopuri & Bilen, ICLR 2021).

For each class, the weight gradients on condensed images are matched to those on real images (convolutions and linear
layers, 1 - cosine per output row), along the training trajectory of a network that learns from the condensed images
themselves. Images start as noise and are optimised in normalised space. After each step the network is trained for
`learn_epochs` epochs on the condensed set.

The images are stored as u8, which clips values outside [0, 1]; during matching they are not clipped. The official code
saves floats and trains students on them. In a small run, 5 % of the values of DC (which starts from noise) and 2 % of
those of DSA were outside after 60 steps, so students see other images than those that were matched. `clip: step` clips
after every step, so that they see the same, up to rounding; neither the paper nor the code does so.

If `inner` and `learn_epochs` are not given, they follow the official table by ipc: 1: (1, 1), 10: (10, 50), 20: (20,
25), 30: (30, 20), 40: (40, 15), 50: (50, 10); another ipc uses the nearest entry. Students are trained with hard labels
under protocol `dcbench/...`. `subsets`: options of MDC, see `mdc`.
"""

from __future__ import annotations

from typing import Literal

from dcpipe.config.options import validated
from dcpipe.config.values import BelowOne, Count, Network, Positive, Strategy
from dcpipe.synthesis.base import Progress, SynthesisContext
from dcpipe.synthesis.gradients.choices import Choices, Clip, Nested, SubsetOptions
from dcpipe.synthesis.gradients.engine import match
from dcpipe.synthesis.gradients.teaching import Teaching
from dcpipe.types import ImageSet

# By images per class: inner steps, and epochs of network training after each of them.
LOOPS = {1: (1, 1), 10: (10, 50), 20: (20, 25), 30: (30, 20), 40: (40, 15), 50: (50, 10)}


@validated("synthesis method 'dc'")
def dc(
    start: ImageSet,
    context: SynthesisContext,
    seed: int,
    progress: Progress,
    *,
    network: Network = "convnet-d3-w128",
    outer: Count = 1000,
    inner: Count | None = None,
    learn_epochs: Count | None = None,
    lr: Positive = 0.1,
    momentum: BelowOne = 0.5,
    real_batch: Count = 256,
    strategy: Strategy = "",
    initial: Literal["noise", "start"] = "noise",
    clip: Clip = "end",
    most: Count = 256,
    at_once: Count | None = None,
    subsets: SubsetOptions = None,
) -> ImageSet:
    """The optimised images. `gradients.choices` describes the options. Raises `DataError` for options out of range."""
    ipc = len(start) // len(start.classes)
    loops = LOOPS[min(LOOPS, key=lambda known: abs(known - ipc))]
    choices = Choices(
        network=network,
        outer=outer,
        inner=loops[0] if inner is None else inner,
        lr=lr,
        momentum=momentum,
        distance="cosine",
        parameters="conv+linear",
        space="normalised",
        strategy=strategy,
        real_batch=real_batch,
        learn="condensed",
        learn_epochs=loops[1] if learn_epochs is None else learn_epochs,
        teaching=Teaching(momentum=0.0, decay=0.0, batch=256, strategy=strategy),
        initial=initial,
        clip=clip,
        most=most,
        at_once=at_once,
        subsets=Nested.of(subsets),
    )
    return match(start, context, seed, progress, choices)
