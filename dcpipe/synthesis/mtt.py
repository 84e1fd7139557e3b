"""MTT: dataset distillation by matching training trajectories (Cazenavette et al., CVPR 2022).

Students that learn from the condensed images for a few steps should reach the weights that experts, networks trained on
the real images, have after `span` epochs. Images and the step size of students are learned together
(`trajectories/engine.py`); students of the evaluation use the step size of its recipe, or the learned one with
`evaluation.lr: learned`. `through`: `exact` is MTT's gradient in memory for one step, `unrolled` is the same by keeping
all steps, and `tesla` is TESLA's, which leaves terms out (`trajectories/unrolling.py`).

Defaults are those for CIFAR-10 at 10 images per class, but without ZCA whitening, which `whitening: 0.1` adds
(`trajectories/whitened.py`). Images are stored as u8, which clips values outside [0, 1]; during matching they are not
clipped. `grow_from`, `grow_for` and `start_from` give DATM's ranges (Guo et al., ICLR 2024), `skip_above` its rule to
skip an iteration, `lr_labels` its learned soft labels, `initial: predicted` its first images, and `expert_rho` with
`expert_alpha` its experts, which look for flat minima by GSAM; its own can be read from buffers (`trajectories`). The
official code takes each expert once before any comes again; here they are drawn with replacement, as with its option
`load_all`. It also reports the best of many evaluations on test images; here the last iteration counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from dcpipe.config.options import validated
from dcpipe.config.values import BelowOne, Count, LocalPath, Natural, Network, NotNegative, Positive, Strategy
from dcpipe.synthesis.base import Progress, SynthesisContext
from dcpipe.synthesis.gradients.choices import Nested, SubsetOptions
from dcpipe.synthesis.trajectories.engine import Choices, Engine
from dcpipe.synthesis.trajectories.gsam import Gsam
from dcpipe.synthesis.trajectories.unrolling import Through
from dcpipe.types import ImageSet, require


def _together(
    *,
    start_from: int,
    start_below: int,
    grow_from: int | None,
    span: int,
    expert_epochs: int,
    expert_rho: float | None,
    expert_alpha: float,
    subsets: Mapping[str, Any] | None,
    **others: Any,
) -> None:
    metric = (subsets or {}).get("metric", "feature")
    require(metric == "feature", f"metric {metric!r} for subsets is not possible here; set metric: feature")
    require(
        expert_alpha == 0 or expert_rho is not None,
        f"expert_alpha is {expert_alpha}, but without expert_rho experts are trained by plain SGD; set expert_rho: "
        "0.01, or leave expert_alpha out",
    )
    first = start_below if grow_from is None else grow_from
    require(
        start_from < first <= start_below,
        f"start epochs: start_from is {start_from}, the first bound {first} and start_below {start_below}; set "
        "start_from < grow_from <= start_below",
    )
    last = start_below - 1 + span
    require(
        last <= expert_epochs,
        f"a student may have to match epoch {last} (start_below - 1 + span), but experts have {expert_epochs}; set "
        f"expert_epochs: {last}",
    )


@validated("synthesis method 'mtt'", _together)
def mtt(
    start: ImageSet,
    context: SynthesisContext,
    seed: int,
    progress: Progress,
    *,
    network: Network = "convnet-d3-w128",
    iterations: Count = 5000,
    steps: Count = 30,
    span: Count = 2,
    start_from: Natural = 0,
    start_below: Count = 20,
    grow_from: Count | None = None,
    grow_for: Count = 1000,
    lr: Positive = 100.0,
    momentum: BelowOne = 0.5,
    rate: Positive = 0.001,
    lr_rate: NotNegative = 1e-5,
    batch: Count | None = None,
    strategy: Strategy = "dsa:color_crop_cutout_flip_scale_rotate",
    initial: Literal["noise", "start", "predicted"] = "start",
    through: Through = "exact",
    skip_above: Positive | None = None,
    experts: Count = 100,
    expert_epochs: Count = 50,
    expert_lr: Positive = 0.01,
    expert_batch: Count = 256,
    expert_rho: Positive | None = None,
    expert_alpha: NotNegative = 0.0,
    trajectories: LocalPath | None = None,
    lr_labels: Positive | None = None,
    subsets: SubsetOptions = None,
    whitening: NotNegative | None = None,
) -> ImageSet:
    """The optimised images. Raises `DataError` for options out of range, and if images or step size diverge.

    `steps` of a student, `span` epochs of an expert; start epochs in [`start_from`, `start_below`), below `grow_from`
    at first if that is given. `lr`, `momentum`: of the images, in units of their standard deviation. `rate`: the first
    step size, `lr_rate`: its own rate. `batch`: condensed images of a step, None for all. `expert_rho`, `expert_alpha`:
    experts look for flat minima, by GSAM (`trajectories/gsam.py`); None is plain SGD, as in MTT. `trajectories`: a
    folder for experts, which others may use too, or with buffers of MTT's own code; None for the scratch space.
    `lr_labels`: of soft labels that are learned with the images (`softlabels.method: learned`); None for the classes.
    `subsets`: MDC's, see `trajectories/nested.py`. `whitening`: the eps of ZCA whitening, None for none; then experts,
    matching and students see whitened images instead of normalised ones, `lr` and `strategy` act on those.
    """
    choices = Choices(
        network=network,
        iterations=iterations,
        steps=steps,
        span=span,
        start_from=start_from,
        start_below=start_below,
        grow_from=grow_from,
        grow_for=grow_for,
        lr=lr,
        momentum=momentum,
        rate=rate,
        lr_rate=lr_rate,
        batch=batch,
        strategy=strategy,
        initial=initial,
        through=through,
        skip_above=skip_above,
        experts=experts,
        expert_epochs=expert_epochs,
        expert_lr=expert_lr,
        expert_batch=expert_batch,
        gsam=None if expert_rho is None else Gsam(expert_rho, expert_alpha),
        trajectories=trajectories,
        lr_labels=lr_labels,
        subsets=Nested.of(subsets),
        whitening=whitening,
    )
    return Engine(start, context, seed, progress, choices).run()
