"""RDED: mosaics of the real crops that an observer classifies most easily. No optimisation, no gradients.

Idea (Sun, Shi, Yu and Lin, "On the Diversity and Realism of Distilled Dataset: An Efficient Dataset Distillation
Paradigm", CVPR 2024, arXiv 2312.03526). An optimised image is seldom realistic, and one real image contains little
information for its bytes. So RDED keeps the crops that a trained network recognises best, and puts several of them into
each image. For every class:

1. draw `candidates` training images, and `crops` square random crops of each, of `scale_min` to all of its area, shrunk
   to 1/`factor` of the side;
2. score a crop x of class y by -log softmax(f(x))_y, where f is the mean of the observers' logits; keep the best crop
   of each image;
3. take the ipc factor^2 crops of lowest score, and tile factor x factor of them in each image. Cell k of image i shows
   rank k ipc + i, so that every image gets strong and weak crops.

Cost: decoding the table once, and candidates * crops * classes forward passes of each observer.

The paper uses one observer, with factor 2 for images of at least 128 pixels and 1 for smaller ones.
`ranks="consecutive"` with several observers is the layout of EDC's variant (Shao et al., NeurIPS 2024), which tiles
ranks i factor^2 + k.

Where we differ from the official code: crops are cut from the image at the table's size, not from the original file;
their edges are not rounded to whole pixels, and shrinking averages factor x factor samples of a bilinear crop instead
of using torchvision's antialiasing filter (the paper says neither; `edges: pixels` does as the code); pixels are
rounded, not truncated, and stored losslessly, not as JPEG; the frame around a crop has the mean colour of the
observer, not always that of ImageNet. Training on mosaics shuffles their cells: `softlabels.augmentation`.
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
from dcpipe.synthesis.mosaics import BestCrops, CropScorer, Edges, Ranks, Search, draw_candidates
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
    edges: Edges = "continuous",
) -> ImageSet:
    """Mosaics in place of the images of `start`, whose pixels are ignored. Labels, ids, classes and order remain, and
    the i-th row of a class gets the i-th mosaic of this class.

    `observers`: names of teachers, None for all; `pad`: a crop is scored in a frame of the mean colour (True) or
    enlarged to the whole image; `batch_size`: crops per batch, which changes scores only by rounding; `edges`: of
    crops, anywhere (`continuous`) or on whole pixels, with antialiasing (`pixels`, as in the code).

    Raises `DataError` for an option outside its range, a factor that does not divide the size, a class with too few
    images or candidates, an observer that is unknown or has other classes or another size, and scores that are not
    finite.
    """
    search = Search(seed, factor, candidates, crops, scale_min, pad, batch_size, edges)
    size, n_classes = start.images.shape[1], len(start.classes)
    valid = ", ".join(str(f) for f in range(1, size + 1) if size % f == 0)
    require(
        size % factor == 0, f"rded: factor {factor} does not divide the images' {size} pixels; choose one of {valid}"
    )
    chosen = context.choose(observers)
    networks.check_teachers(chosen, start.classes, size)
    places = np.bincount(start.labels, minlength=n_classes) * factor**2
    _check_supply(places, np.bincount(context.labels, minlength=n_classes), start, search)
    best = BestCrops(places, size // factor)
    scorer = CropScorer(chosen, size, search, context.device)
    wanted = draw_candidates(context.labels, places > 0, search)
    total = int(wanted.sum())

    def mosaics_so_far() -> ImageSet:
        return replace(start, images=best.mosaics(start.labels, factor, ranks))

    for done in _fill(best, context, scorer, wanted):
        progress.report(done, total, "crops of candidates", mosaics_so_far)
    require(
        bool(np.isfinite(best.scores).all()),
        f"rded: the logits of {', '.join(chosen)} for real crops are NaN or infinite; train the teacher again",
    )
    return mosaics_so_far()


def _fill(
    best: BestCrops, context: SynthesisContext, scorer: CropScorer, wanted: npt.NDArray[np.bool_]
) -> Iterator[int]:
    """Stream the table once and keep the best crops of the wanted rows, bool [n]. Yields the number of candidates so
    far."""
    first = done = 0
    for images, labels in context.real():
        picked = np.flatnonzero(wanted[first : first + len(images)])
        rows = first + picked
        best.add(labels[picked], rows, *scorer.best(images[picked], labels[picked], rows))
        first, done = first + len(images), done + len(picked)
        yield done


def _check_supply(places: IntArray, supply: IntArray, start: ImageSet, search: Search) -> None:
    """Raises `DataError` for a class that has, or draws, fewer images than its mosaics need."""
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
