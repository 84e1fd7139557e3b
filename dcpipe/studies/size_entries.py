"""The entries of the study `sizes`: methods of studies/params.yaml with their baselines, runs and snapshots."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, get_args

from pydantic import Field

from dcpipe.config.values import Count, Distinct, Natural
from dcpipe.studies.base import EntryName, Sizes, StudyBlock
from dcpipe.studies.variants import Variant
from dcpipe.types import require

Baseline = Literal["A", "B", "C", "lfs", "lbs"]


class Method(Variant):
    """A variant of params.yaml whose run is scored at every size or, with `baselines`, which is run as these. `runs`:
    how many times it is condensed, each time with another seed, but from the same images with `same_start`.
    `snapshots`: outer loops (iterations of `mtt`) after which the run at the whole size is scored too."""

    baselines: Annotated[list[Baseline], Distinct] = Field(default=[])
    runs: Count = 1
    same_start: bool = False
    snapshots: Annotated[list[Natural], Distinct] = Field(default=[])


class SizesBlock(StudyBlock):
    """Methods by the names that their rows get, run at `ipc` images per class. `sizes` defaults to 1 to `ipc`."""

    methods: Annotated[dict[EntryName, Method], Field(min_length=1)]
    ipc: Count
    sizes: Sizes | None = None

    @property
    def scored(self) -> tuple[int, ...]:
        """The sizes that are scored, ascending."""
        return tuple(sorted(self.sizes or range(1, self.ipc + 1)))

    def check(self, name: str) -> None:
        above = [size for size in self.scored if size > self.ipc]
        require(
            not above, f"{name}.sizes has {above[:1]}, but {name}.ipc is {self.ipc}; raise ipc or remove larger sizes"
        )
        methods: dict[str, str] = {}
        for entry in entries(self):
            for own in (str(entry), entry.of_all_runs):
                other = methods.setdefault(own, entry.method)
                require(
                    other == entry.method,
                    f"{name}.methods: {other!r} and {entry.method!r} both have an entry {own!r}; rename one of them",
                )


@dataclass(frozen=True)
class Entry:
    """A line of the figure: a method with its run at N (which is also baseline C), or with baseline A or B. `run`, from
    1, is the number of the condensation if there are several, else None. `loop` is that of a snapshot."""

    method: str
    baseline: Baseline | None
    run: int | None = None
    loop: int | None = None

    @property
    def of_all_runs(self) -> str:
        """The name that the entries of all runs share."""
        name = f"{self.method}-{self.baseline}" if self.baseline else self.method
        return name if self.loop is None else f"{name}-loop{self.loop}"

    def __str__(self) -> str:
        return self.of_all_runs if self.run is None else f"{self.of_all_runs}-run{self.run}"


@dataclass(frozen=True)
class Part:
    """One run that starts from rounds `start` .. `stop` - 1 of the picks at N, with `step` added to its seed."""

    start: int
    stop: int
    step: int = 0


def entries(block: SizesBlock) -> Iterator[Entry]:
    """The entries in the order of the file, the baselines of a method in the order A, B, C, lfs, lbs, and then
    their runs."""
    for name, method in block.methods.items():
        for baseline in (*sorted(method.baselines, key=get_args(Baseline).index),) or (None,):
            loops = [*sorted(method.snapshots), None] if baseline in (None, "C") else [None]
            yield from (Entry(name, baseline, run, loop) for run in runs_of(method) for loop in loops)


def runs_of(method: Method) -> Sequence[int | None]:
    """The numbers of a method's runs, from 1; None for the only one."""
    return range(1, method.runs + 1) if method.runs > 1 else (None,)


def made_for_size(block: SizesBlock) -> dict[str, str]:
    """By entry, the baseline A that its degradation is counted from: that of the same method, or else the only one in
    the study. With several runs, it is that of the same run, or else of the first. Entries without such a baseline are
    left out."""
    with_a = [name for name, method in block.methods.items() if "A" in method.baselines]
    references = {}
    for entry in entries(block):
        method = entry.method if entry.method in with_a else with_a[0] if len(with_a) == 1 else None
        if method is not None and entry.baseline != "A":
            run = entry.run if entry.method == method else runs_of(block.methods[method])[0]
            references[str(entry)] = str(Entry(method, "A", run))
    return references


def parts(entry: Entry, size: int, ipc: int) -> tuple[Part, ...]:
    """The runs that the `size` images per class of an entry come from; equal parts of one method are one run.

    For A, the run from the first `size` rounds of the picks. For B, the runs k from round k with seed + k. Otherwise
    the run from all `ipc` rounds, of which the first `size` images of each class are used. Later runs of a method have
    seeds that none of the earlier ones has, those of B included.
    """
    step = 0 if entry.run is None else (entry.run - 1) * ipc
    if entry.baseline == "A":
        return (Part(0, size, step),)
    if entry.baseline == "B":
        return tuple(Part(k, k + 1, step + k) for k in range(size))
    return (Part(0, ipc, step),)
