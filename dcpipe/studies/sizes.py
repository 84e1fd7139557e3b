"""Accuracy at every size of one condensed set, beside the baselines of MDC (He et al., ICLR 2024, Table 1, Fig. 2).

A set of N images a class is also one of n < N: its first n of every class. A method is judged at every such size, and
by the average over them. A base method can stand for three baselines:

* A: a run of its own for every size; the best that a size can have, at N times the cost and N sets to store
* B: N runs of one image a class, each from other real images and with the next seed, joined
* C: the beginnings of its one run at N; the cheapest, and what a method for every size has to beat

What a beginning lacks of a set made for its size (A) is its degradation.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from dcpipe.config.blocks import Block, Count
from dcpipe.studies.variants import EntryName, Variant, VariantsStudy
from dcpipe.types import ImageSet, require

Baseline = Literal["A", "B", "C"]
AVERAGE = "average"


class Method(Variant):
    """A variant of params.yaml whose one run is judged at every size or, with `baselines`, stands for these."""

    baselines: list[Baseline] = Field(default=[])


class SizesStudy(Block):
    """Methods by the names that rows get, run at `ipc` images a class. `sizes`: 1 to `ipc` unless said."""

    methods: Annotated[dict[EntryName, Method], Field(min_length=1)]
    ipc: Count
    sizes: Annotated[list[Count], Field(min_length=1)] | None = None
    seeds: Annotated[list[int], Field(min_length=3)]
    split: Literal["test", "minival"] = "test"

    @property
    def judged(self) -> tuple[int, ...]:
        """The sizes, ascending."""
        return tuple(sorted(self.sizes or range(1, self.ipc + 1)))

    @property
    def variants(self) -> VariantsStudy:
        """The methods as variants of params.yaml at `ipc`."""
        return VariantsStudy(variants=dict(self.methods), ipc=[self.ipc], seeds=self.seeds, split=self.split)

    def check(self, where: str) -> None:
        """Raises `DataError` for sizes above `ipc`, and for a baseline that a method names twice."""
        above = [size for size in self.judged if size > self.ipc]
        require(not above, f"{where}: sizes.sizes has {above[:1]}, but sizes.ipc is {self.ipc}; raise it, or drop them")
        for name, method in self.methods.items():
            place, once = f"{where}: sizes.methods.{name}.baselines", set(method.baselines)
            require(len(once) == len(method.baselines), f"{place} is {method.baselines}; say each once")


@dataclass(frozen=True)
class Entry:
    """A line of the figure: a method by its own run at N, which is baseline C too, or by baseline A or B."""

    method: str
    baseline: Baseline | None

    def __str__(self) -> str:
        return f"{self.method}-{self.baseline}" if self.baseline else self.method


@dataclass(frozen=True)
class Part:
    """One run: it starts from rounds `start` .. `stop` - 1 of the picks at N, with `step` added to its seed."""

    start: int
    stop: int
    step: int = 0


def entries(study: SizesStudy) -> Iterator[Entry]:
    """In the order of the file, then of A, B, C."""
    for name, method in study.methods.items():
        yield from (Entry(name, baseline) for baseline in (*sorted(method.baselines),) or (None,))


def made_for_size(study: SizesStudy) -> dict[str, str]:
    """The baseline A that an entry's degradation is counted from, by entry: its own method's, else the only one there
    is; none is left out."""
    with_a = [name for name, method in study.methods.items() if "A" in method.baselines]
    found = {}
    for entry in entries(study):
        own = entry.method if entry.method in with_a else with_a[0] if len(with_a) == 1 else None
        if own is not None and entry.baseline != "A":
            found[str(entry)] = str(Entry(own, "A"))
    return found


def parts(entry: Entry, size: int, ipc: int) -> tuple[Part, ...]:
    """The runs that an entry's `size` images a class come from; equal parts of one method are one run.

    A: from the first `size` rounds of the picks. B: run k from round k, seed + k. Else the run of all `ipc` rounds, of
    which the first `size` images of each class are taken.
    """
    if entry.baseline == "A":
        return (Part(0, size),)
    if entry.baseline == "B":
        return tuple(Part(k, k + 1, k) for k in range(size))
    return (Part(0, ipc),)


def joined(sets: Sequence[ImageSet]) -> ImageSet:
    """The rows of one set after those of another, which have the same classes and grid; ids stay distinct."""
    first = sets[0]
    for other in sets[1:]:
        same = (other.classes, other.grid) == (first.classes, first.grid)
        require(same, "sets to join differ in classes or grid; make them by one method from one source")
    images, labels, ids = (np.concatenate([getattr(s, key) for s in sets]) for key in ("images", "labels", "ids"))
    return ImageSet(images, labels, ids, first.classes, first.grid)


def summary(
    results: Sequence[Mapping[str, Any]], seconds: Mapping[str, float], against: Mapping[str, str]
) -> list[dict[str, Any]]:
    """One row an entry and size of `results` (one row a seed), in their order, and after an entry's last size its
    average.

    Accuracy in percent: mean over seeds and standard deviation (n - 1); of the average, of what each seed has on
    average over the sizes. `seconds`: by entry, those of all its runs, which the row of the average gets. `against`:
    by entry, the one whose accuracy at the same size, less its own, is its `degradation`.
    """
    groups: dict[str, dict[int, list[Mapping[str, Any]]]] = {}
    for row in results:
        groups.setdefault(row["entry"], {}).setdefault(row["size"], []).append(row)
    rows = []
    for entry, sizes in groups.items():
        for size, members in sizes.items():
            told = {key: members[0][key] for key in ("image_bytes", "label_bytes", "protocol", "seconds")}
            rows.append({"entry": entry, "size": size, **_accuracy([row["accuracy"] for row in members]), **told})
        by_seed: dict[int, list[float]] = {}
        for row in (row for members in sizes.values() for row in members):
            by_seed.setdefault(row["seed"], []).append(row["accuracy"])
        told = {"image_bytes": "", "label_bytes": "", "protocol": rows[-1]["protocol"], "seconds": seconds[entry]}
        rows.append({"entry": entry, "size": AVERAGE, **_accuracy([fmean(its) for its in by_seed.values()]), **told})
    reached = {(row["entry"], row["size"]): row["accuracy"] for row in rows}
    for row in rows:
        goal = reached.get((against.get(row["entry"], ""), row["size"]))
        row["degradation"] = "" if goal is None else round(goal - row["accuracy"], 3)
    return rows


def _accuracy(values: Sequence[float]) -> dict[str, Any]:
    return {"accuracy": round(fmean(values), 3), "std": round(stdev(values), 3), "seeds": len(values)}
