"""Studies: many selectings under one protocol. `studies/params.yaml` to entries, results to summaries.

A study runs entries x ipc x seeds; an entry is a selector with its options. A seed is that of selecting and that of the
student alike, so a standard deviation covers both. `selection` compares selectors (SCORE, Sec. 6.3, Fig. 2),
`coefficients` moves alpha and beta of `score` (Fig. 4). What surrounds them (teachers, labels, budget, students) is
that of params.yaml, so that accuracies compare with each other and with the workspace's own table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Annotated, Any, Literal

from pydantic import Field

from dcpipe.params import Block, Count, checked, read
from dcpipe.types import require

FILE = Path("studies/params.yaml")
EntryName = Annotated[str, Field(pattern=r"^[a-z0-9]+([_.-][a-z0-9]+)*$")]
Weight = Annotated[float, Field(ge=0)]
Seeds = Annotated[list[int], Field(min_length=3)]
Split = Literal["test", "minival"]


class SelectorEntry(Block):
    """A selector and its options, as in params.yaml's block `selection`; `method` is the entry's name by default."""

    method: str | None = None
    options: dict[str, Any] = Field(default_factory=dict)


class SelectionStudy(Block):
    """Selectors by the names that rows and pictures get."""

    selectors: Annotated[dict[EntryName, SelectorEntry], Field(min_length=1)]
    ipc: Annotated[list[Count], Field(min_length=1)]
    seeds: Seeds
    split: Split = "test"


class Coefficients(Block):
    """The point that both sweeps pass through."""

    alpha: Weight
    beta: Weight


class CoefficientsStudy(Block):
    """`score` with alpha moved and beta of `base`, then beta moved and alpha of `base`; `options` are its others."""

    base: Coefficients
    alpha: Annotated[list[Weight], Field(min_length=1)]
    beta: Annotated[list[Weight], Field(min_length=1)]
    options: dict[str, Any] = Field(default_factory=dict)
    ipc: Count
    seeds: Seeds
    split: Split = "minival"


class Studies(Block):
    """The whole of `studies/params.yaml`."""

    selection: SelectionStudy
    coefficients: CoefficientsStudy


STUDIES = tuple(Studies.model_fields)
SWEEP = ("swept", "alpha", "beta")  # columns of a study whose entries are points of sweeps


@dataclass(frozen=True)
class Entry:
    """One selector with its options. `swept` is the coefficient that a sweep moves, "" for none."""

    name: str
    method: str
    options: dict[str, Any]
    swept: str = ""


@dataclass(frozen=True)
class Study:
    """What one study runs: every entry at every ipc with every seed, students tested on `split`."""

    name: str
    entries: tuple[Entry, ...]
    ipc: tuple[int, ...]
    seeds: tuple[int, ...]
    split: Split

    @property
    def sweeps(self) -> bool:
        """Whether entries are points of sweeps rather than selectors of their own."""
        return any(entry.swept for entry in self.entries)

    def place(self, entry: Entry) -> dict[str, Any]:
        """The columns that say which entry a row is of."""
        sweep = dict(zip(SWEEP, (entry.swept, entry.options.get("alpha"), entry.options.get("beta")), strict=True))
        return {"selector": entry.name, **(sweep if self.sweeps else {})}


def load(name: str, path: Path = FILE) -> Study:
    """A study of the file; raises `DataError` with one sentence for the first thing that is wrong."""
    check_name(name)
    require(path.is_file(), f"{path} not found; change to the workspace's folder, or copy studies/ of dcpipe there")
    return parse(name, read(path, f"one block a study: {', '.join(STUDIES)}"), str(path))


def check_name(name: str | None) -> None:
    """Raises `DataError` listing the studies unless `name` is one of them."""
    legal = ", ".join(STUDIES)
    require(name is not None, f"name a study: {legal}")
    require(name in STUDIES, f"unknown study {name!r}; choose one of {legal}")


def parse(name: str, content: Mapping[str, Any], where: str = str(FILE)) -> Study:
    """As `load`, from a mapping."""
    file = checked(Studies, content, where)
    for key, values in (
        ("selection.ipc", file.selection.ipc),
        ("selection.seeds", file.selection.seeds),
        ("coefficients.alpha", file.coefficients.alpha),
        ("coefficients.beta", file.coefficients.beta),
        ("coefficients.seeds", file.coefficients.seeds),
    ):
        again = [value for index, value in enumerate(values) if value in values[:index]]
        require(not again, f"{where}: {key} is {values} and repeats {again[:1]}; say each once")
    if name == "selection":
        selectors = file.selection.selectors
        entries = [Entry(key, entry.method or key, entry.options) for key, entry in selectors.items()]
        return _study(name, entries, file.selection.ipc, file.selection)
    block = file.coefficients
    for key in ("alpha", "beta"):
        require(key not in block.options, f"{where}: coefficients.options has {key!r}; say it in coefficients.base")
    base = {**block.options, **block.base.model_dump()}
    sweeps = [("alpha", block.alpha), ("beta", block.beta)]
    entries = [
        Entry(f"{swept}-{value:.12g}", "score", {**base, swept: value}, swept)
        for swept, values in sweeps
        for value in sorted(values)
    ]
    return _study(name, [Entry("random", "random", {}), *entries], [block.ipc], block)


def _study(name: str, entries: list[Entry], ipc: list[int], block: SelectionStudy | CoefficientsStudy) -> Study:
    return Study(name, tuple(entries), tuple(sorted(ipc)), tuple(block.seeds), block.split)


def summary(results: Sequence[Mapping[str, Any]], fp16_bytes: Mapping[int, int]) -> list[dict[str, Any]]:
    """One row an entry and ipc of `results` (one row a seed, with the seconds its selecting took), in their order.

    Accuracy in percent is the mean over seeds, with the standard deviation over n - 1; bytes and seconds are means too.
    `fp16_bytes`: by ipc, what the soft labels take uncompressed (0 for hard labels).
    """
    groups: dict[tuple[str, int], list[Mapping[str, Any]]] = {}
    for row in results:
        groups.setdefault((row["selector"], row["ipc"]), []).append(row)
    return [
        {
            **{key: rows[0][key] for key in ("selector", *SWEEP, "ipc") if key in rows[0]},
            "accuracy": round(fmean(row["accuracy"] for row in rows), 3),
            "std": round(stdev(row["accuracy"] for row in rows), 3),
            "seeds": len(rows),
            "image_bytes": round(fmean(row["image_bytes"] for row in rows)),
            "label_bytes": round(fmean(row["label_bytes"] for row in rows)),
            "fp16_label_bytes": fp16_bytes[ipc],
            "seconds": round(fmean(row["seconds"] for row in rows), 3),
        }
        for (_, ipc), rows in groups.items()
    ]
