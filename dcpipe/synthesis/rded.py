"""RDED: mosaics of the real crops that an observer finds easiest. No optimisation, no gradients.

Idea (Sun, Shi, Yu and Lin, "On the Diversity and Realism of Distilled Dataset: An Efficient Dataset Distillation
Paradigm", CVPR 2024, arXiv 2312.03526). An optimised image is seldom realistic, and one real image says little for its
bytes. So keep what a trained network recognises and put several of it into each image. For every class:

1. draw `candidates` training images, and `crops` square random crops of each, of `scale_min` to all of its area, shrunk
   to 1/`factor` of the side;
2. score a crop x of class y by -log softmax(f(x))_y, f the mean logits of the observers; keep the best of each image;
3. take the ipc factor^2 crops of lowest score, and lay factor x factor of them side by side in each image. Cell k of
   image i shows rank k ipc + i, so that every image gets strong and weak crops.

Cost: one decode of the table and candidates * crops * classes forward passes of each observer.

The paper uses one observer, factor 2 from 128 px images on and 1 below. `ranks="consecutive"` with several observers
is the layout of EDC's own variant (Shao et al., NeurIPS 2024), which put ranks i factor^2 + k side by side.

Where we differ from the official code: crops are cut from the image at the table's size, not from the original file;
shrinking averages factor x factor samples of a bilinear cut where torchvision's filter does it; pixels are rounded, not
truncated, and kept losslessly, not as JPEG; the frame around a crop has the observer's own mean colour, not always
ImageNet's. Training on mosaics shuffles their cells: `softlabels.augmentation`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from dcpipe import networks
from dcpipe.config.options import validated
from dcpipe.config.values import Count, PositiveShare, TeacherNames
from dcpipe.synthesis.base import Progress, SynthesisContext
from dcpipe.synthesis.mosaics import BestCrops, CropScorer, Ranks, Search, draw_candidates
from dcpipe.types import ImageSet, IntArray, require


@validated("synthesis method 'rded'")
def rded(
    start: ImageSet,
    context: SynthesisContext,
    seed: int,
    progress: Progress,
    *,
    observers: TeacherNames | None = None,
    factor: Count = 1,
    candidates: Count = 300,
    crops: Count = 5,
    scale_min: PositiveShare = 0.08,
    pad: bool = True,
    ranks: Ranks = "stratified",
    batch_size: Count = 256,
) -> ImageSet:
    """Mosaics in the place of `start`'s images, whose pixels are ignored: labels, ids, classes and order stay, and the
    i-th row of a class gets the i-th mosaic of it.

    `observers`: names of teachers, None for all; `pad`: a crop is scored in a frame of the mean colour (True) or
    enlarged to the whole image; `batch_size`: crops in a batch, which moves a score by rounding and no more.

    Raises `DataError` for an option outside its range, a factor that does not divide the size, a class with too few
    images or candidates, an unknown observer, one of other classes or another size, and scores that are not finite.
    """
    search = Search(seed, factor, candidates, crops, scale_min, pad, batch_size)
    size, n_classes = start.images.shape[1], len(start.classes)
    legal = ", ".join(str(f) for f in range(1, size + 1) if size % f == 0)
    require(size % factor == 0, f"rded: factor {factor} does not divide the images' {size} pixels; choose of {legal}")
    chosen = context.choose(observers)
    networks.check_teachers(chosen, start.classes, size)
    places = np.bincount(start.labels, minlength=n_classes) * factor**2
    _check_supply(places, np.bincount(context.labels, minlength=n_classes), start, search)
    shelf = BestCrops(places, size // factor)
    judges = CropScorer(chosen, size, search, context.device)
    wanted = draw_candidates(context.labels, places > 0, search)
    total = int(wanted.sum())

    def made() -> ImageSet:
        return replace(start, images=shelf.mosaics(start.labels, factor, ranks))

    for done in _fill(shelf, context, judges, wanted):
        progress.report(done, total, "crops of candidates", made)
    require(
        bool(np.isfinite(shelf.scores).all()),
        f"rded: the logits of {', '.join(chosen)} for real crops are NaN or infinite; train the teacher again",
    )
    return made()


def _fill(
    shelf: BestCrops, context: SynthesisContext, judges: CropScorer, wanted: npt.NDArray[np.bool_]
) -> Iterator[int]:
    """Stream the table once and keep the best crops of the wanted rows, bool [n]; gives the candidates seen so far."""
    first = done = 0
    for images, labels in context.real():
        picked = np.flatnonzero(wanted[first : first + len(images)])
        rows = first + picked
        shelf.add(labels[picked], rows, *judges.best(images[picked], labels[picked], rows))
        first, done = first + len(images), done + len(picked)
        yield done


def _check_supply(places: IntArray, supply: IntArray, start: ImageSet, search: Search) -> None:
    """Every class must have the images that its mosaics need, and so many must be drawn."""
    for label in np.flatnonzero(places > np.minimum(supply, search.candidates))[:1]:
        name, need = start.classes[label], places[label]
        cells = f"{need // search.factor**2} mosaics of {search.factor}x{search.factor} crops"
        require(
            need <= supply[label],
            f"rded: class {name!r} has {supply[label]} training images, but its {cells} need {need}; "
            "lower selection.ipc or factor",
        )
        require(
            need <= search.candidates,
            f"rded: candidates is {search.candidates}, but the {cells} of class {name!r} need {need}; "
            f"raise candidates to {need} or more",
        )
