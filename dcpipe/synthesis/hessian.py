"""The Hessian of the synthesis loss with respect to the images (EDC, Fig. 2c).

EDC bounds the loss near a minimum by |H|_F E|theta - theta*|^2 and shows that its flatness term makes the Hessian of
synthesis smaller in the course of a recovery. Its code does not measure it. Here, H is that of the loss which the
gradient of a step is taken of, matching and cross-entropy, without the flatness term itself, so that runs with and
without it are compared by one loss. (Densification, which is almost zero, is left out too: the second derivative of
eigenvalues does not exist where two are equal.) It is taken with respect to the normalised pixels of one batch, in
which steps are made. The view is always that of step 0, no layer is dropped, and the statistics are those of the images
as they are, not their running average, so that only the images change from one measurement to the next.
"""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F

from dcpipe.synthesis.matching import Matcher
from dcpipe.synthesis.observers import Observer
from dcpipe.synthesis.recovery import Batch, Engine
from dcpipe.training.curvature import Surface, frobenius_norm


def norms(engine: Engine, batch: Batch, number: int, probes: int, seed: int) -> dict[str, float]:
    """The Frobenius norm of the Hessian of a batch by observer, estimated from `probes` random vectors, which are the
    same for all steps of a seed. About four passes for each of them."""
    found = {}
    for name, observer in engine.observers.items():
        surface = surface_of(engine, batch, number, observer)
        found[name] = frobenius_norm(surface, probes, torch.Generator().manual_seed(seed))
    return found


def surface_of(engine: Engine, batch: Batch, number: int, observer: Observer) -> Surface:
    """The loss of one observer as a function of the pixels of a batch, which are copied."""
    choices = engine.choices
    pixels = batch.pixels.detach().clone().requires_grad_(True)
    labels = engine.labels[torch.from_numpy(engine.rows[number]).to(pixels.device)]
    matching = replace(choices.matching, momentum=0.0)
    matcher = Matcher(observer, engine.statistics[observer.name], labels, matching)

    def parts() -> list[torch.Tensor]:
        view = choices.augmentation.apply(pixels, engine.seed, number, 0, choices.iterations)
        logits, means, variances = observer.measure(view * engine.std + engine.mean)
        terms = [choices.weight * matcher.loss(means, variances)]
        if choices.cross_entropy:
            terms.append(choices.cross_entropy * F.cross_entropy(logits, labels))
        return [torch.stack(terms).sum()]

    return Surface([pixels], parts)
