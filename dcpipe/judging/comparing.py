"""Several judgements side by side, with a paired test over seeds.

Students of two sets that start from the same seed have the same initial weights and order of images, so their
accuracies are compared in pairs: the mean difference, and the two-sided p-value of Student's t-test on the
differences.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dcpipe.judging.judgement import ENOUGH, Judgement, Row
from dcpipe.reports.columns import human
from dcpipe.types import require

_REMEDY = "judge both with the same --data"
COLUMNS = ("judgement", "set", "accuracy", "to the first", "p", "ipc", "labels", "total", "images seen")


@dataclass(frozen=True)
class Paired:
    """Two rows compared: the mean difference in points of the second to the first over the seeds that both have, and
    the p-value; None for fewer than `ENOUGH` pairs, and for differences that are all equal."""

    difference: float
    p: float | None
    pairs: int


def paired(first: Row, second: Row) -> Paired | None:
    """The comparison of two rows; None if they have no seed in common."""
    of_first, of_second = (dict(zip(row.seeds, row.accuracy, strict=True)) for row in (first, second))
    common = sorted(of_first.keys() & of_second.keys())
    if not common:
        return None
    differences = np.array([of_second[seed] - of_first[seed] for seed in common])
    mean = float(differences.mean())
    return Paired(mean, p_value(differences), len(common))


def p_value(differences: np.ndarray) -> float | None:
    """The two-sided p-value of Student's t-test that the mean of some differences is 0; None for fewer than `ENOUGH`
    differences, and for differences that are all equal."""
    n = len(differences)
    error = float(differences.std(ddof=1)) / math.sqrt(n) if n >= ENOUGH else 0.0
    if error == 0:  # all are equal
        return None
    from scipy.stats import t

    return float(2 * t.sf(abs(float(differences.mean())) / error, n - 1))


def check(judgements: Mapping[str, Judgement]) -> None:
    """Raises `DataError` for judgements that cannot be compared, because students were tested on other images."""
    names, found = list(judgements), list(judgements.values())
    require(len(found) > 1, "compare needs two or more judgements; give their folders")
    first = found[0].data
    for name, other in zip(names[1:], (one.data for one in found[1:]), strict=True):
        require(
            (other.test, other.classes) == (first.test, first.classes),
            f"{name} was tested on {other.test:,} images of {other.classes:,} classes, {names[0]} on {first.test:,} of "
            f"{first.classes:,}; {_REMEDY}",
        )
        require(
            other.size == first.size,
            f"{name} was tested on images of {other.size} x {other.size} pixels, {names[0]} on those of {first.size} x "
            f"{first.size}; {_REMEDY}",
        )
        require(
            other.test_digest == first.test_digest or "" in (other.test_digest, first.test_digest),
            f"{name} was tested on other images than {names[0]}: there are as many, but their pixels or their division "
            f"into classes differ; {_REMEDY}",
        )


def shared_students(judgements: Sequence[Judgement]) -> list[str]:
    """The networks that all judgements have. Raises `DataError` if there is none."""
    shared = [name for name in judgements[0].students() if all(name in one.students() for one in judgements)]
    told = "; ".join(", ".join(one.students()) for one in judgements)
    require(
        bool(shared), f"these judgements have no student in common ({told}); judge one of them again with --students"
    )
    return shared


def lines(judgements: Mapping[str, Judgement], student: str) -> Iterator[tuple[str, ...]]:
    """The lines of the table of one network, in the order of `COLUMNS`: the rows of every judgement, each compared with
    the set of the first one."""
    first = next(iter(judgements.values())).of(student)[0]
    for name, judgement in judgements.items():
        for row in judgement.of(student):
            result = None if row is first else paired(first, row)
            yield (
                name,
                judgement.named(row),
                row.told(),
                "" if result is None else f"{result.difference:+.1f}",
                "" if result is None or result.p is None else f"{result.p:.3f}",
                f"{row.ipc:,}",
                human(row.label_bytes),
                human(row.total_bytes),
                f"{row.images_seen:,}",
            )


def warnings(judgements: Mapping[str, Judgement], student: str) -> Iterator[str]:
    """What makes the rows unequal, in sentences."""
    protocols = {name: one.of(student)[0].protocol for name, one in judgements.items()}
    if len(set(protocols.values())) > 1:
        told = "; ".join(f"{name}: {protocol}" for name, protocol in protocols.items())
        yield f"The protocols differ ({told}), so differences are not of the sets alone."
    epochs = {name: one.of(student)[0].epochs for name, one in judgements.items()}
    if len(set(epochs.values())) > 1:
        yield f"Students were trained for other numbers of epochs: {', '.join(f'{k} {v}' for k, v in epochs.items())}."
    tests = {one.data.test_digest for one in judgements.values()}
    if len(judgements) > 1 and "" in tests:
        yield (
            "Whether students were tested on the same images is not known, because an earlier version of dcpipe made "
            "one of these judgements; judge it again in another folder to find out."
        )
    if len({one.data.digest for one in judgements.values()}) > 1:
        yield (
            "The original images, or how they were read, are not all the same (data/images has other digests), so rows "
            "of random and of all training images are not of the same images."
        )
