"""How low the rank of soft labels is: spectra by image and by class."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import numpy as np

from dcpipe.reports.figures.base import (
    BLUE,
    GREY,
    VERMILION,
    Figure,
    add_title,
    canvas,
)
from dcpipe.types import FloatArray, IntArray


def _short(name: str) -> str:
    """The first name of a class, because the names of ImageNet are lists of synonyms."""
    return textwrap.shorten(name.split(",")[0], 24, placeholder="…")


def spectra(values: FloatArray, labels: IntArray, classes: Sequence[str], conditions: str) -> Figure:
    """Two panels of the singular values f64 [n, r] of the labels of images, relative to the largest one of each image.

    The left panel shows the median over images and a band from the 10th to the 90th percentile; the right panel shows
    the median of every class, with the names of the classes whose labels have the lowest and the highest rank.
    """
    figure, panels = canvas(1, 2, 9.4, 4.2)
    components = np.arange(1, values.shape[1] + 1)
    low, middle, high = np.quantile(values, [0.1, 0.5, 0.9], axis=0)
    panels[0].fill_between(components, low, high, color=BLUE, alpha=0.2, linewidth=0, label="10th to 90th percentile")
    panels[0].plot(components, middle, color=BLUE, label="median over images")
    present = np.unique(labels)
    medians = np.stack([np.median(values[labels == label], axis=0) for label in present])
    order = np.argsort((medians**2).sum(axis=1))
    panels[1].plot(components, medians.T, color=GREY, alpha=0.4, linewidth=0.7)
    for place, colour, word in ((order[0], BLUE, "lowest"), (order[-1], VERMILION, "highest")):
        panels[1].plot(components, medians[place], color=colour, label=f"{word}: {_short(classes[present[place]])}")
    for panel, title in zip(panels, ("images", "classes"), strict=True):
        panel.set_yscale("log")
        panel.set_ylim(bottom=max(1e-4, 0.5 * float(middle.min())))
        panel.set_xlabel("component")
        panel.set_title(title, fontsize=10)
        panel.grid(color=GREY, alpha=0.3, linewidth=0.5)
        panel.legend(fontsize=8, frameon=False)
    panels[0].set_ylabel("singular value against the largest")
    add_title(figure, "Spectra of soft labels, views by classes", conditions)
    return figure
