"""Selection from arrays: `dcpipe.select` needs no workspace, table or file.

>>> import numpy as np
>>> draw = np.random.default_rng(0)
>>> vectors, labels = draw.normal(size=(60, 8)), np.repeat(["ant", "bee", "cat"], 20)
>>> rows = select(vectors, labels, method="herding", ipc=2)
>>> labels[rows].tolist()
['ant', 'bee', 'cat', 'ant', 'bee', 'cat']
>>> select(vectors, labels, method="herding", ipc=1).tolist() == rows[:3].tolist()
True
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from dcpipe.config.options import check_options
from dcpipe.selection import SELECTORS, Candidates, Progress
from dcpipe.types import DataError, IntArray, require
from dcpipe.types.arguments import as_array, as_numbers, as_whole


def select(
    vectors: npt.ArrayLike,
    labels: npt.ArrayLike,
    method: str = "score",
    ipc: int = 10,
    seed: int = 0,
    *,
    logits: npt.ArrayLike | None = None,
    label_rate: npt.ArrayLike | None = None,
    classes: Sequence[Any] | None = None,
    progress: Callable[[int, int], None] = lambda made, total: None,
    **options: Any,
) -> IntArray:
    """Rows of the images that a selector picks, i64 [ipc * c], in pick order: one image of each class, then another of
    each, so that the first `k * c` rows are the set of `k` images per class.

    Args:
        vectors: the feature vector of each image, float [n, d], computed by any network.
        labels: the class of each image, [n]: numbers or text, in any order.
        method: a name in `SELECTORS`, with its `options`: see `dcpipe.selection`.
        ipc: images per class.
        seed: of selectors that use random numbers.
        logits: the logits of a network for each image, float [n, c], for the selectors that use them (`craig`,
            `gradmatch`, `glister`, `badge`, `bait`, `contextual_diversity`, `cal`, `least_confidence`, `margin`,
            `entropy`, `el2n`, `grand`).
        label_rate: R_C of each image's soft labels, float [n], for `score`, which omits its third term without it: see
            `dcpipe.coding_rate.label_rate`.
        classes: all labels in the order of the columns of `logits`; by default they are sorted.
        progress: called with (picks made, total number of picks).

    Raises `DataError` for arrays that do not fit together or are not finite, for an unknown method or option, for a
    method that needs an array that is not given, and for a class with fewer than `ipc` images.
    """
    check_options(SELECTORS, method, options)
    ipc, seed = as_whole(ipc, "ipc", 1), as_whole(seed, "seed", -sys.maxsize - 1)
    x, y = as_numbers(vectors, "vectors", np.float32), as_array(labels, "labels")
    require(y.ndim == 1, f"labels must be [n], one for each image, but are {list(y.shape)}")
    require(
        x.ndim == 2 and len(x) == len(y),
        f"vectors must be [n, d] for the n = {len(y)} labels, but are {list(x.shape)}; give a row for each label",
    )
    names, numbers = _numbered(y, classes)
    order = np.argsort(numbers, kind="stable")
    offsets = np.concatenate([[0], np.cumsum(np.bincount(numbers, minlength=len(names)))]).astype(np.int64)
    if method == "score" and label_rate is None:
        require(
            "beta" not in options, "selector 'score' weights label_rate by beta; give label_rate, or leave beta out"
        )
        label_rate, options = np.zeros(len(y)), {**options, "beta": 0.0}
    n, c = len(y), len(names)
    given = {
        "logits": None if logits is None else _fitting("logits", logits, (n, c))[order],
        "label_rate": None if label_rate is None else _fitting("label_rate", label_rate, (n,))[order],
    }
    whole = Candidates(x[order], np.zeros((n, 1)), np.zeros(n), offsets, tuple(str(name) for name in names))
    there: dict[str, Any] = {name: array for name, array in given.items() if array is not None}
    replace(whole, **there).check(ipc)
    arrays: dict[str, Any] = {key: _Missing(method, key) if array is None else array for key, array in given.items()}
    picks = SELECTORS[method](replace(whole, **arrays), ipc, seed, Progress(progress=progress), **options)
    chosen: IntArray = order[picks.rows]
    return chosen


class _Missing:
    """Stands for an array that was not given; any use of it raises `DataError`."""

    def __init__(self, method: str, name: str) -> None:
        self.sentence = f"selector {method!r} needs {name}; give {name}= to select"

    def __getattr__(self, attribute: str) -> NoReturn:
        raise DataError(self.sentence)

    def __getitem__(self, index: Any) -> NoReturn:
        raise DataError(self.sentence)


def _numbered(labels: npt.NDArray[Any], classes: Sequence[Any] | None) -> tuple[Sequence[Any], IntArray]:
    """The classes in order, and the class number of each label."""
    missing = [row for row, label in enumerate(labels.tolist()) if label is None or label != label]
    require(not missing, f"labels have no value at {(missing or [0])[0]}; give each image a class")
    try:
        names, numbers = np.unique(labels, return_inverse=True)
        if classes is None:
            return names.tolist(), numbers.astype(np.int64)
        places = {name: place for place, name in enumerate(classes)}
    except TypeError as error:
        raise DataError(f"labels and classes must be numbers or texts, all of one kind ({error})") from error
    require(len(places) == len(classes), "classes repeat a name; list each once")
    strange = [label for label in np.unique(labels).tolist() if label not in places]
    require(not strange, f"labels contain {strange[0] if strange else ''!r}, which is not in classes; add it")
    return list(classes), np.array([places[label] for label in labels.tolist()], dtype=np.int64)


def _fitting(name: str, values: npt.ArrayLike, shape: tuple[int, ...]) -> npt.NDArray[Any]:
    array = as_numbers(values, name, np.float64 if len(shape) == 1 else np.float32)
    letters = "[n, c]" if len(shape) == 2 else "[n]"
    require(
        array.shape == shape,
        f"{name} must be {letters} = {list(shape)}, but are {list(array.shape)}; "
        + ("give classes= in the order of the columns" if len(shape) == 2 else "give one for each label"),
    )
    require(not np.isnan(array).any(), f"{name} must not contain NaN; check the network that computed them")
    return array
